"""What a validation found wrong, in plain words."""

from collections.abc import Mapping
from typing import Any

# As pydantic begins its sentences, and as ours go on behind the name of a key.
_WORDS = (
    ("Value error, ", ""),
    ("Field required", "is missing"),
    ("Extra inputs are not permitted", "is unknown"),
    ("Input should be a valid boolean", "must be true or false"),
    ("Input should be", "must be"),
    ("Value should", "must"),
    ("String should", "must"),
    ("Bytes should", "must"),
    ("List should", "must"),
    ("Tuple should", "must"),
    ("Dictionary should", "must"),
    ("Invalid JSON: ", "is no JSON: "),
)


def in_words(fault: Mapping[str, Any]) -> str:
    """Return one of a ``ValidationError``'s faults as what may stand behind the name of its key."""
    message = str(fault["msg"])
    for theirs, ours in _WORDS:
        if message.startswith(theirs):
            return ours + message.removeprefix(theirs)
    return message
