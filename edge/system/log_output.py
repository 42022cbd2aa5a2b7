"""Log lines on standard error: with a time for people, with a priority for systemd's journal.

Whatever a line quotes, from names of files to messages of the network, cannot steer the terminal or
begin a line of its own: see ``one_line``. Every line of every program of ours passes here.
"""

import copy
import logging
import os
import sys
import textwrap
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TextIO

from edge.errors import OutputNotWritable, StationError
from edge.redaction import one_line
from edge.system.process_start import discard_output

# sd-daemon(3): a line that begins with <N> has that priority of syslog(3).
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG_PRIORITY = 7


_WITH_TIME = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def log_to_stderr(level: str = "INFO", form: str = _WITH_TIME) -> None:
    """Send every log record of this process to standard error.

    Args:
        level: name of the least level that is shown, in any case.
        form: of a line that does not go to the journal.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JournalFormatter() if _is_journal(sys.stderr) else _LineFormatter(form))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def write_line(text: str, level: int = logging.ERROR) -> None:
    """Write what a command says to its user on standard error, with a priority for the journal.

    Line breaks stay: whoever quotes a foreign name outside of a StationError uses ``one_line``.
    A closed terminal or a full disk loses the line and changes nothing else.
    """
    if sys.stderr is None:  # ``print`` would take standard output, where verdicts are
        return
    text = one_line(text, keep="\n")
    shown = _with_priority(text, level) if _is_journal(sys.stderr) else text
    with suppress(OSError, ValueError):
        print(shown, file=sys.stderr, flush=True)


def print_line(text: str) -> None:
    """Write a line of what a command was asked for on standard output; a pipe may end before.

    Line breaks stay, as in ``write_line``, and tabs.

    Raises:
        OutputNotWritable: the file behind the output cannot take it.
    """
    try:
        print(one_line(text, keep="\n\t"), flush=True)
    except BrokenPipeError:  # ``| head`` has seen enough
        discard_output(sys.stdout)
    except OSError as error:
        discard_output(sys.stdout)  # Python would fail over what waits once more at its end
        raise OutputNotWritable(
            f"standard output: cannot be written ({error.strerror}). Check space."
        ) from error


def _with_priority(text: str, level: int) -> str:
    priority = next((number for least, number in _PRIORITIES if level >= least), _DEBUG_PRIORITY)
    return "\n".join(f"<{priority}>{line}" for line in text.splitlines() or [""])


class _LineFormatter(logging.Formatter):
    """What a record quotes stays on its line; only line breaks of our own text are kept."""

    def __init__(self, form: str) -> None:
        super().__init__(form, "%Y-%m-%dT%H:%M:%SZ")
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        shown = copy.copy(record)
        if isinstance(record.args, Mapping):
            shown.args = {name: _quoted(value) for name, value in record.args.items()}
        elif record.args:
            shown.args = tuple(_quoted(value) for value in record.args)
        if record.exc_info:  # its text may quote line breaks
            shown.exc_text = textwrap.indent(self.formatException(record.exc_info), "  ")
        return one_line(super().format(shown), keep="\n")


class _JournalFormatter(_LineFormatter):
    """The journal knows the time, and takes each line as an entry of its own."""

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return _with_priority(super().format(record), record.levelno)


def _quoted(value: object) -> object:
    """Return what a record quotes as it may be shown; numbers stay numbers."""
    if isinstance(value, int | float | StationError):
        return value
    text = str(value)
    return value if text.isprintable() else one_line(text)


def _is_journal(stream: TextIO | None) -> bool:
    """Tell whether a stream is the one that systemd connected to its journal."""
    if stream is None:
        return False
    try:
        state = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{state.st_dev}:{state.st_ino}"
