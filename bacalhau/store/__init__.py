"""The node's journal in SQLite: what the machines write, and every reading of what has happened."""
