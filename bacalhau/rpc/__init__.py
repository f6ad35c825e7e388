"""gRPC: the services on both listeners, the calls to other nodes, and refusals as status.

It translates between messages and the model and calls what it is given through ports that it defines itself; it
knows nothing of machines, disks or engines.
"""
