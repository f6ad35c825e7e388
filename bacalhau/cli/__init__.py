"""The command line: parsing, calling the node by gRPC, printing. No decision of the market is made here."""
