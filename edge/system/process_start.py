"""How our processes begin: names and output in UTF-8 whatever the locale, descriptors in place."""

import atexit
import codecs
import os
import sys
from contextlib import suppress
from typing import TextIO

from edge.redaction import readable

# How streams write what UTF-8 cannot carry: as everything else does, see ``edge.redaction``.
READABLE = "readable"


def _readable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    shown = readable(error.object[error.start : error.end])
    # An output that is not even UTF-8 gets what it can carry.
    return shown.encode(error.encoding, "backslashreplace").decode(error.encoding), error.end


codecs.register_error(READABLE, _readable)


def prepare_process() -> None:
    """Prepare a process for its command; may replace it by one that runs in Python's UTF-8 mode.

    File names are UTF-8 on Linux, and so are MQTT, JSON and our YAML. Under another locale Python
    could not even open what the settings name.
    """
    _fill_closed_descriptors()
    if sys.getfilesystemencoding().lower() != "utf-8" and sys.executable:
        os.environ["PYTHONUTF8"] = "1"  # for the processes that this one starts
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            # Names need not be UTF-8 whatever we do; no message fails over one.
            stream.reconfigure(errors=READABLE)  # type: ignore[union-attr]
    atexit.register(settle_standard_error)


def settle_standard_error() -> None:
    """Let go of what a closed terminal or a full disk did not take: it changes no exit code."""
    if sys.stderr is not None:
        try:
            sys.stderr.flush()
        except (OSError, ValueError):
            discard_output(sys.stderr)


def discard_output(stream: TextIO) -> None:
    """Send what is written to a stream, and what waits in it, nowhere."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _fill_closed_descriptors() -> None:
    """Open what was closed: else the journal could get the number that libraries print to."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
