"""How our processes end: with the exit code they chose, whatever their threads are doing."""

import logging
import os
import sys
import threading
from contextlib import suppress
from typing import NoReturn


def exit_process(code: int) -> NoReturn:
    """End the process with an exit code.

    A daemon thread that returns from C++ (OpenCV, a camera driver, OpenVINO) while Python shuts
    down is unwound through it, and C++ aborts the process for that (SIGABRT). So the interpreter is
    not shut down as long as one is left: output is flushed, and the kernel ends the rest.
    """
    if not any(thread.daemon and thread.is_alive() for thread in threading.enumerate()):
        sys.exit(code)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(code)
