"""How the command lines of training and export end: an exit code and one sentence."""

import logging
from collections.abc import Callable

from edge.errors import ConfigurationError, StationError, raised_at
from edge.redaction import one_line
from edge.system.log_output import log_to_stderr, write_line

INTERRUPTED = 130
THRESHOLD_FORMS = (
    "auto, f1, recall=0.99, false-reject-rate=0.01, quantile=0.95 (with a margin: 0.95,0.1), "
    "balanced=0.05, manual=SCORE, or with a guarantee false-reject-rate=0.01@0.95 or "
    "miss-rate=0.02@0.95"
)
"""What ``--threshold`` takes, in its help and in the messages of ``parse_threshold``."""


def run_command(program: str, extra: str, command: Callable[[], int]) -> int:
    """Run a command and return the exit code of the process; no error becomes a traceback.

    Args:
        program: name in front of messages.
        extra: the optional dependencies that the command needs.
        command: what to do; it imports the slow libraries itself.
    """
    log_to_stderr(form="%(levelname)s %(message)s")
    try:
        return command()
    except StationError as error:
        return _failed(program, str(error), error.exit_code)
    except KeyboardInterrupt:
        return _failed(program, "interrupted, nothing was written.", INTERRUPTED)
    except ModuleNotFoundError as error:
        return _failed(
            program,
            f"{error.name} is not installed. Run: pip install 'inspection-station[{extra}]'",
            ConfigurationError.exit_code,
        )
    except MemoryError:
        return _failed(
            program,
            "out of memory. Choose a smaller --image-size, or smaller limits with --set.",
            StationError.exit_code,
        )
    except Exception as error:
        logging.getLogger(__name__).debug("the defect in detail", exc_info=True)
        return _failed(
            program,
            f"internal error: {type(error).__name__}: {one_line(str(error))} ({raised_at(error)}). "
            "This is a defect of the software, not of its use. Please report it.",
            StationError.exit_code,
        )


def _failed(program: str, message: str, exit_code: int) -> int:
    write_line(f"{program}: {message}")
    return exit_code
