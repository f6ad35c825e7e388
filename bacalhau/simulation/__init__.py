"""Markets and faults in simulated time: the machines of live nodes, thousands of them, under a virtual clock."""
