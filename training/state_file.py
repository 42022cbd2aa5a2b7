"""Where an unfinished training is kept."""

from dataclasses import dataclass
from pathlib import Path

# The state is written at the end of an epoch, and not more often than this.
_BETWEEN_STATES_S = 30.0


@dataclass(frozen=True, slots=True)
class StateFile:
    """Where an unfinished training is kept, so that it can go on after a kill.

    Attributes:
        path: of the file; loading it runs no code.
        identity: what else decides the result, above all the data; another one starts anew.
        between_s: seconds between two writings at least.
    """

    path: Path
    identity: str
    between_s: float = _BETWEEN_STATES_S
