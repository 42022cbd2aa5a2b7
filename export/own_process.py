"""A command in a process of its own, because what it reads may crash the process that reads it."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

_THREADS = Path("/proc/self/task")
_SET_PARENT_DEATH_SIGNAL = 1  # of prctl(2)


def in_own_process(command: Callable[[], int], crashed: Callable[[str], int]) -> int:
    """Run a command and return its exit code.

    Args:
        command: what may crash. In a process that has threads already it runs right there.
        crashed: is given the name of the signal that ended it, and returns the exit code.
    """
    if len(list(_THREADS.iterdir())) > 1:  # in somebody's program: a fork would lose them
        return command()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
            code = command()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)
    while True:
        try:
            _, status = os.waitpid(child, 0)
            break
        except KeyboardInterrupt:  # the other process gets it as well, and says so
            continue
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else crashed(signal.Signals(-code).name)
