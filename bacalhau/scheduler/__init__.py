"""The two machines of a node, pure: RequesterMachine holds auctions and jobs, ComputeMachine bids and runs
work.

Contract, the same for both (see ARCHITECTURE.md):

    handle(event, now=us) -> Effects      facts in, instructions out
    deadline() -> int | None              when the machine wants to be woken
    expire(now=us) -> Effects             time has passed
    check()                               every invariant, asserted
"""
