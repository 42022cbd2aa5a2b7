"""Commands that are started warm have what they were given."""

import os
import sys
from pathlib import Path

from tests.support.warm_start import Preparing, Request


def main() -> None:
    """What the started process runs: writes to the stream that it was given."""
    os.write(int(sys.argv[1]), b"open")


def test_a_stream_stays_open_whatever_number_it_has() -> None:
    preparing = Preparing.begin([])
    assert preparing.process is not None
    words = Path(f"/proc/{preparing.process.pid}/cmdline").read_bytes().split(b"\0")
    own = int(words[3])  # the number at which that process itself is asked
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
            limit=None,
        ),
        [0, 1, 2, writing],
    )
    os.close(writing)

    with os.fdopen(reading, "rb") as stream:
        assert stream.read() == b"open"
    assert os.waitpid(pid, 0)[1] == 0
    preparing.end()
