"""Tests of the two machines, alone and against each other in a small world."""
