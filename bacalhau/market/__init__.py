"""The market as pure code: the bidding engine, pricing strategies and clearing rules.

Nothing here awaits, reads a clock, draws randomness or does I/O; the live node and the simulator run it
unchanged.
"""
