"""The report of a model: one HTML file that a quality engineer signs."""
