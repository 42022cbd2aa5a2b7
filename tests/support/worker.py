"""A worker of pytest-xdist, begun from a process that has loaded what test modules import."""

import sys

# What execnet starts a worker with: Python, unbuffered, that runs what it is sent.
BOOTSTRAP = "import sys;exec(eval(sys.stdin.readline()))"


def main() -> int:
    """Run what is sent, as the command itself does."""
    exec(eval(sys.stdin.readline()), {"__name__": "__main__"})
    return 0
