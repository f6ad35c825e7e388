"""A peer node for a compute marketplace: priced bids, Docker and WASM work, results on IPFS."""

__version__ = "0.1.0"
