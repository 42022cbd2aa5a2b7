"""Verdicts on standard output: one JSON object per line."""

import atexit
import sys
from collections.abc import Callable
from typing import TextIO

from edge.errors import OutputNotWritable
from edge.system.process_start import discard_output


class StandardOutput:
    """Writes records line by line, flushed, so that a pipe sees each verdict at once."""

    def __init__(self, on_reader_gone: Callable[[], None], stream: TextIO | None = None) -> None:
        """Take a stream that can be written to.

        Args:
            on_reader_gone: called once when the reader of the pipe has ended (``| head``).
            stream: None for the process's standard output.

        Raises:
            OutputNotWritable: standard output is closed.
        """
        chosen = stream or sys.stdout
        if chosen is None:
            raise OutputNotWritable(
                "standard output is closed, so verdicts cannot be written. Open it, or "
                "publish them with --mqtt."
            )
        self._stream = chosen
        self._on_reader_gone = on_reader_gone
        self._gone = False
        self._failed = False

    def publish_text(self, line: bytes) -> None:
        """Write one record that is JSON already.

        Raises:
            OutputNotWritable: the file behind the output cannot take it.
        """
        if self._gone:
            return
        try:
            # Bytes: JSON is UTF-8 whatever the encoding of the output.
            self._stream.buffer.write(line + b"\n")
            self._stream.buffer.flush()
        except BrokenPipeError:
            self._gone = True
            # Python flushes once more at its end, and would complain about the pipe again.
            discard_output(self._stream)
            self._on_reader_gone()
        except OSError as error:
            if not self._failed:
                # What waits may be written with the next record; at its end Python would put its
                # own exit code in the place of ours over it.
                self._failed = True
                atexit.register(discard_output, self._stream)
            raise OutputNotWritable(
                f"standard output: cannot be written ({error.strerror}). Check space."
            ) from error
