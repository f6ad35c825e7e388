"""What the documents say, held against the code and against real nodes."""
