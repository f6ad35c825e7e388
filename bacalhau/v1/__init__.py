"""Generated from proto/ by scripts/protos; never edited."""
