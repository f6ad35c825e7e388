"""Bitswap: blocks by CID to and from any IPFS node, Kubo and Helia among them.

messages    a message of 1.2.0, 1.1.0 or 1.0.0, to bytes and back
wantlist    what one peer wants of this node
answers     what the store says to it
peer        one connected peer: what it is told, and when
spread      which peer is asked for which block
session     the blocks of one fetch, from all who have them
exchange    the service of the host: streams, peers, sessions
source      all of it for asyncio: what fetch_dag asks
counters    what was exchanged, and what was refused
"""
