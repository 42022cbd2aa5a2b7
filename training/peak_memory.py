"""The most memory that this process has held."""

from pathlib import Path


def peak_bytes() -> int:
    """Return the most memory this process has held at once.

    Of its own address space: ``ru_maxrss`` would begin with that of the parent before the exec.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM")
