"""The journal: every verdict and event on disk before anybody is told."""
