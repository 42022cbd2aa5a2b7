"""OpenVINO's one Core of this process."""

import threading
from functools import cache

import openvino as ov

_making = threading.Lock()


def openvino_core() -> ov.Core:
    """Return the Core that every model of this process is read and compiled with.

    The CPU plugin lays a signal stack of its own under the thread that loads it. When a Core is
    destroyed by another thread that stack is gone and still in use: the next signal would end the
    process. So there is one Core, and it lives as long as the process.
    """
    with _making:  # a second one, made in a race, would be destroyed
        return _core()


@cache
def _core() -> ov.Core:
    return ov.Core()
