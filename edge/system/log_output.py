"""Log lines on standard error: with a time for people, with a priority for systemd's journal."""

import logging
import os
import sys
import time
from contextlib import suppress
from typing import TextIO

from edge.errors import OutputNotWritable
from edge.system.process_start import discard_output

# sd-daemon(3): a line that begins with <N> has that priority of syslog(3).
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG_PRIORITY = 7


def log_to_stderr(level: str = "INFO") -> None:
    """Send every log record of this process to standard error.

    Args:
        level: name of the least level that is shown, in any case.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JournalFormatter() if _is_journal(sys.stderr) else _terminal_formatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])


def write_line(text: str, level: int = logging.ERROR) -> None:
    """Write what a command says to its user on standard error, with a priority for the journal.

    A closed terminal or a full disk loses the line and changes nothing else.
    """
    if sys.stderr is None:  # ``print`` would take standard output, where verdicts are
        return
    shown = _with_priority(text, level) if _is_journal(sys.stderr) else text
    with suppress(OSError, ValueError):
        print(shown, file=sys.stderr, flush=True)


def print_line(text: str) -> None:
    """Write a line of what a command was asked for on standard output; a pipe may end before.

    Raises:
        OutputNotWritable: the file behind the output cannot take it.
    """
    try:
        print(text, flush=True)
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


class _JournalFormatter(logging.Formatter):
    """The journal knows the time, and takes each line as an entry of its own."""

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return _with_priority(super().format(record), record.levelno)


def _terminal_formatter() -> logging.Formatter:
    formatter = logging.Formatter(
        "%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ"
    )
    formatter.converter = time.gmtime
    return formatter


def _is_journal(stream: TextIO | None) -> bool:
    """Tell whether a stream is the one that systemd connected to its journal."""
    if stream is None:
        return False
    try:
        state = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{state.st_dev}:{state.st_ino}"
