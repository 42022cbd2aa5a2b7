"""How our processes end: with the exit code they chose, whatever their threads are doing."""

import logging
import os
import sys
import threading
from contextlib import suppress
from typing import NoReturn

FLUSH_LIMIT_S = 2.0


def exit_process(code: int) -> NoReturn:
    """End the process with an exit code.

    A daemon thread that returns from C++ (OpenCV, a camera driver, OpenVINO) while Python shuts
    down is unwound through it, and C++ aborts the process for that (SIGABRT). So the interpreter is
    not shut down as long as one is left: output is flushed, and the kernel ends the rest. A stream
    that nobody reads, or that such a thread is stuck in, is not waited for.
    """
    if not any(thread.daemon and thread.is_alive() for thread in threading.enumerate()):
        sys.exit(code)
    flushing = threading.Thread(target=_flush, name="last words", daemon=True)
    flushing.start()
    flushing.join(FLUSH_LIMIT_S)
    os._exit(code)


def _flush() -> None:
    logging.shutdown()
    for stream in (sys.stderr, sys.stdout):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
