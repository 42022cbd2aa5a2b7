"""Ways to a PLC: what its registers mean, and who serves them."""
