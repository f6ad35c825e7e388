"""The network of strangers, by libp2p: who is there, what is broadcast, and streams to whoever cannot be dialled.

The only package that knows libp2p and trio; it needs the extra `bacalhau[p2p]`. Nothing here is imported before a node
starts, for `import libp2p` takes a second.
"""
