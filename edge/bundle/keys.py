"""Keys of ed25519 in PEM files, as openssl makes them, and the library that reads them."""

from pathlib import Path
from typing import Any

from edge.atomic_files import open_regular
from edge.errors import ConfigurationError

_MAX_KEY_BYTES = 64 * 1024


class SigningNotInstalled(ConfigurationError):
    """The library that checks signatures is not installed."""


def read_key_file(path: Path, refusal: type[ConfigurationError]) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(_MAX_KEY_BYTES)
    except OSError as error:
        raise refusal(
            f"{path}: the key cannot be read ({error.strerror}). Check its path and its owner."
        ) from error


def signing_library() -> tuple[Any, Any]:
    try:
        # cryptography is an extra of its own, and slow to load.
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise SigningNotInstalled(
            f"signatures cannot be checked: {error}. Install the extra: "
            "pip install 'inspection-station[signing]', or leave model.public_key out."
        ) from error
    return serialization, ed25519
