"""What runs beside a line gives way to it: the priority of a process with all of its threads."""

import os
from contextlib import suppress

# Of what people and programs read at a station: the line goes first, whoever reads.
READ_BESIDE = 10
# Of what computes for minutes: it gets what the line and its readers leave.
COMPUTES_BESIDE = 19


def lower_priority(niceness: int) -> None:
    """Lower this process to a niceness; a process that is lower already stays where it is.

    Linux keeps a niceness for each thread. ``os.nice`` changes that of the calling one, and leaves
    the threads that libraries started as they were loaded, as OpenBLAS does, beside the line.
    """
    for thread in map(int, os.listdir("/proc/self/task")):  # noqa: PTH208
        with suppress(ProcessLookupError):  # it has ended meanwhile
            lowered = max(niceness, os.getpriority(os.PRIO_PROCESS, thread))
            os.setpriority(os.PRIO_PROCESS, thread, lowered)
