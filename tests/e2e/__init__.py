"""Whole nodes as processes, used as their users do: by the command line, grpcurl and stubs."""
