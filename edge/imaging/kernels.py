"""Compilation of the per-pixel loops: ahead of the first part, kept on disk where that is allowed.

A kernel is compiled for its stated types when its module is imported, which happens before READY,
and is read back from the cache at every later start. A service with a read-only file system gets
its cache in systemd's ``CacheDirectory=``. Where nothing can be kept, or what was kept is damaged,
the kernels are compiled at each start: a cache is never a reason not to inspect.
"""

import logging
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba

log = logging.getLogger(__name__)

# What kernels read: takes arrays that may not be written, as cameras hand them out, and others.
READ_BYTES_2D = numba.types.Array(numba.uint8, 2, "C", readonly=True)

_SYSTEMD_CACHE = "CACHE_DIRECTORY"

# systemd separates several folders with a colon; the first is ours.
_folder = os.environ.get(_SYSTEMD_CACHE, "").split(":")[0]
if _folder and not numba.config.CACHE_DIR:
    numba.config.CACHE_DIR = str(Path(_folder) / "kernels")


# Partial sums that the processor adds at once; NaN and infinity stay what they are.
_REORDERED = {"reassoc", "contract", "nsz"}


def kernel(
    *signatures: Any, reorder_sums: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function for these argument types; it runs without the GIL.

    Args:
        reorder_sums: floating-point sums may be taken in any order, some at once; their last digits
            then are those of the processor.
    """

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        options: dict[str, Any] = {"nogil": True, "boundscheck": False}
        if reorder_sums:
            options["fastmath"] = _REORDERED
        try:
            return numba.njit(list(signatures), cache=True, **options)(function)
        except Exception as error:
            # No folder, a full disk, or a file that a power failure cut short. A kernel that does
            # not compile at all raises again below.
            log.debug("%s", error)
            _warn_once(type(error).__name__)
            return numba.njit(list(signatures), **options)(function)

    return compiled


@cache
def _warn_once(cause: str) -> None:
    log.warning(
        "compiled kernels cannot be kept (%s); every start takes some seconds longer. "
        "Set NUMBA_CACHE_DIR to an empty folder this user may write.",
        cause,
    )


def part_of_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function that kernels call; it is compiled into each of them."""
    return numba.njit(nogil=True, boundscheck=False, inline="always")(function)
