"""What somebody hostile would send: bounded here, longer with ``make soak``."""
