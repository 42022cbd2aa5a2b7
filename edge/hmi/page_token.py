"""The token of the page: made so that nobody can guess it, and refused where somebody could.

Whoever has it may change the threshold, so what protects it is its length, not a limit on tries:
a limit that kept everybody out could be used to keep out who has the right one.
"""

import base64
import math
import os
import re
import secrets
from pathlib import Path

from edge.errors import ConfigurationInvalid, OutputNotWritable
from edge.settings.credentials import TOKEN_KEY, read_secret

TOKEN_BITS = 160
MIN_TOKEN_BITS = 128
# Of one among the 7,776 words of a dice list; people choose from fewer.
_WORD_BITS = 13.0
_MAX_WORD_LENGTH, _USUAL_WORD = 10, 5
_NEXT_STEP = (
    "Make one: edge-run --make-token FILE, name that file, and give it to the people who may make "
    "changes"
)
_KINDS = ("0-9", "a-z", "A-Z", "^0-9a-zA-Z")


def make_token() -> str:
    """Return a new token: 32 letters and digits that are told apart when read aloud."""
    while True:
        token = base64.b32encode(secrets.token_bytes(TOKEN_BITS // 8)).decode().lower()
        if most_bits(token) >= MIN_TOKEN_BITS:  # one in a thousand looks like words
            return token


def write_token(path: Path) -> None:
    """Write a new token, readable by its owner only; never over what is there, nor over a link.

    Raises:
        OutputNotWritable: the file exists, or its folder takes none.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(path, flags, 0o600), "w", encoding="ascii") as file:
            file.write(make_token() + "\n")
    except FileExistsError as error:
        raise OutputNotWritable(
            f"{path}: exists already. Remove it first; users of the old token are locked "
            "out at the next reload or restart of the station."
        ) from error
    except OSError as error:
        raise OutputNotWritable(
            f"{path}: cannot be written ({error.strerror}). Check the folder and its permissions."
        ) from error


def read_token(path: Path) -> str:
    """Read the file of ``hmi.token_file``.

    Raises:
        ConfigurationInvalid: it cannot be read, is open to others, or holds what can be guessed.
    """
    token = read_secret(path, TOKEN_KEY, _NEXT_STEP)
    bits = most_bits(token)
    if bits < MIN_TOKEN_BITS:
        raise ConfigurationInvalid(
            f"{path}: the token of {TOKEN_KEY} can be guessed (at most {bits:.0f} bits, "
            f"{MIN_TOKEN_BITS} are needed). {_NEXT_STEP}."
        )
    return token


def most_bits(token: str) -> float:
    """Return the most bits that can be in a token, from how it looks; chance is not visible.

    Repetitions count once, letters without digits between them as words.
    """
    length = len(token)
    repeated = (n for n in range(1, length // 2 + 1) if token[n:] == token[: length - n])
    period = next(repeated, length)
    return sum(_piece_bits(piece) for piece in re.findall(r"[^\W_]+|[\W_]+", token[:period]))


def _piece_bits(piece: str) -> float:
    if piece.isalpha() and (piece.islower() or piece.isupper() or piece.istitle()):
        words = 1 if len(piece) <= _MAX_WORD_LENGTH else math.ceil(len(piece) / _USUAL_WORD)
        return _WORD_BITS * words
    if not piece.isalnum():
        return 3.0 * len(piece)
    letters = sum(32 if kind[0] == "^" else _width(kind) for kind in _KINDS if _has(kind, piece))
    hexadecimal = re.fullmatch("[0-9a-f]+|[0-9A-F]+", piece) is not None
    return len(piece) * math.log2(min(letters, 16) if hexadecimal else letters)


def _width(kind: str) -> int:
    return ord(kind[2]) - ord(kind[0]) + 1


def _has(kind: str, piece: str) -> bool:
    return re.search(f"[{kind}]", piece) is not None
