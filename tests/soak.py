"""How long tests that find rare faults run: a little always, long in ``make soak``."""

import os


def times(quick: int, long: int) -> int:
    """Return how often something is repeated: ``long`` in ``make soak``, else ``quick``."""
    return long if os.environ.get("EDGE_SOAK") else quick


def seeds(quick: int, long: int) -> range:
    """Return the seeds of a randomized test."""
    return range(times(quick, long))
