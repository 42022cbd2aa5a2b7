"""Commands that are started warm have what they were given."""

import os
import sys
import time
from pathlib import Path

from tests.support.warm_start import Preparing, Request


def main() -> None:
    """What the started process runs: writes to the stream that it was given."""
    os.write(int(sys.argv[1]), b"open")


def command_line(pid: int) -> list[bytes]:
    """Return the command line of a process, which is empty until the kernel has written it."""
    while not (content := Path(f"/proc/{pid}/cmdline").read_bytes()):
        time.sleep(0.01)
    return content.split(b"\0")


def test_a_stream_stays_open_whatever_number_it_has() -> None:
    preparing = Preparing.begin([])
    assert preparing.process is not None
    own = int(command_line(preparing.process.pid)[3])  # where that process itself is asked
    reading, writing = os.pipe()
    pid = preparing.start(
        Request(
            module=__name__,
            arguments=["main", str(own)],
            numbers=[own],
            folder=os.fspath(Path.cwd()),
            environment=dict(os.environ),
            umask=-1,
            new_session=False,
            change=None,
        ),
        [0, 1, 2, writing],
    )
    os.close(writing)

    with os.fdopen(reading, "rb") as stream:
        assert stream.read() == b"open"
    assert os.waitpid(pid, 0)[1] == 0
    preparing.end()
