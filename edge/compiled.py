"""Compilation of the per-pixel loops: ahead of the first part, kept on disk where that is allowed.

A kernel is compiled for its stated types when its module is imported, which happens before READY,
and is read back from the cache at every later start. A service with a read-only file system gets
its cache in systemd's ``CacheDirectory=``; without any writable folder the kernels are compiled at
each start.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

log = logging.getLogger(__name__)

# What kernels read: takes arrays that may not be written, as cameras hand them out, and others.
READ_BYTES_2D = numba.types.Array(numba.uint8, 2, "C", readonly=True)

_SYSTEMD_CACHE = "CACHE_DIRECTORY"

if _SYSTEMD_CACHE in os.environ and not numba.config.CACHE_DIR:
    # systemd separates several folders with a colon; the first is ours.
    numba.config.CACHE_DIR = str(Path(os.environ[_SYSTEMD_CACHE].split(":")[0]) / "kernels")


def kernel(*signatures: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function for these argument types; it runs without the GIL."""

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        options = {"nogil": True, "boundscheck": False}
        try:
            return numba.njit(list(signatures), cache=True, **options)(function)
        except RuntimeError as error:
            if "locator" not in str(error):
                raise
            log.warning(
                "no folder to keep compiled kernels in; starting takes some seconds longer. "
                "Set NUMBA_CACHE_DIR to a folder this user may write."
            )
            return numba.njit(list(signatures), **options)(function)

    return compiled


def part_of_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function that kernels call; it is compiled into each of them."""
    return numba.njit(nogil=True, boundscheck=False, inline="always")(function)
