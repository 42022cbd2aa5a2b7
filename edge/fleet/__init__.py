"""``edge-fleet``: releases for many stations, and one overview of them, over their broker."""
