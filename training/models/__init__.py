"""The algorithms, one module each; ``registry`` has their names."""
