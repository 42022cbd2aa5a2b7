"""Which processor this PC has, and how many of its cores this process may use."""

import logging
import os
import platform
from pathlib import Path

log = logging.getLogger(__name__)


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def processor_features() -> frozenset[str]:
    """Return what the kernel says that the processor can do; nothing where it does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return frozenset()
    found = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(found.partition(":")[2].split())


def pc_identity() -> str:
    """Return processor and number of usable cores: what a tuning depends on."""
    name = platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        log.debug("no /proc/cpuinfo; the PC is known by its architecture only")
    return f"{name}, {usable_cores()} cores"
