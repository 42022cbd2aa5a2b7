"""What a program did to its files, recorded call by call while it really did it.

Recorded rather than simulated by a VFS: SQLite's own VFS, its settings as the product makes them,
and what the product writes beside SQLite (lock, witness, folders, renames) are all in the trace.
"""

import os
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_SOURCE = Path(__file__).with_name("disk_trace.c")
_HEAD = struct.Struct("<ciQII")
# Ahead of every file into which a trace is played back.
_AHEAD_S = 10 * 365 * 86_400
MARKS = "marks"


@dataclass(frozen=True, slots=True)
class Call:
    """A call that succeeded.

    Attributes:
        what: ``S`` a process starts; ``O`` a file is made and opened, ``o`` one that was there is;
            ``c`` close; ``w`` write; ``t`` truncate; ``s`` sync; ``r`` rename; ``l`` link;
            ``u`` unlink.
        descriptor: of the process.
        offset: of a write; the length of a truncation; 1 of an opening that empties the file.
        content: what was written; of names, the path.
        second: the new path.
    """

    what: str
    descriptor: int
    offset: int
    content: bytes
    second: bytes


def build_tracer(folder: Path) -> Path:
    """Compile what is preloaded; return the library."""
    library = folder / "disk_trace.so"
    if not library.exists():
        partial = folder / f"disk_trace.{os.getpid()}"
        compiler = ["gcc", "-O1", "-shared", "-fPIC", "-o", str(partial), str(_SOURCE)]
        subprocess.run(compiler, check=True)
        partial.rename(library)
    return library


def traced(library: Path, root: Path, trace: Path) -> dict[str, str]:
    """Return the environment of a program whose files below a folder are traced."""
    return {
        **os.environ,
        "LD_PRELOAD": str(library),
        "DISK_TRACE_ROOT": str(root),
        "DISK_TRACE_FILE": str(trace),
        "DISK_TRACE_AHEAD_S": str(_AHEAD_S),
    }


def run_traced(library: Path, root: Path, trace: Path, arguments: Sequence[str]) -> int:
    """Run Python whose files below a folder are traced; return its exit status."""
    environment = traced(library, root, trace)
    return subprocess.run([sys.executable, *arguments], env=environment, check=False).returncode


def calls(trace: Path) -> Iterator[Call]:
    """Read a trace."""
    with trace.open("rb") as file:
        while head := file.read(_HEAD.size):
            what, descriptor, offset, first, second = _HEAD.unpack(head)
            yield Call(what.decode(), descriptor, offset, file.read(first), file.read(second))
