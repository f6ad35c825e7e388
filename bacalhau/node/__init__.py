"""The live node: the driver of the two machines, and the only place where the parts are put together."""
