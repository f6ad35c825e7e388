"""Bitswap: blocks by CID to and from any IPFS node, Kubo and Helia among them.

messages    a message of 1.2.0, 1.1.0 or 1.0.0, to bytes and back
"""
