"""The protocol's messages as the model's data, node keys and signed envelopes."""
