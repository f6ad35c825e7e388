"""The words of the marketplace as frozen data: no I/O, no clock, no generated code."""
