"""The hash chain: each row's value rests on its payload and on all rows before it."""

import hashlib


def first_link(journal: str) -> bytes:
    """Return the value before the first row; two journals never share a chain."""
    return hashlib.sha256(journal.encode()).digest()


def link(previous: bytes, payload: bytes) -> bytes:
    """Return the value of a row: ``sha256(previous || payload)``."""
    return hashlib.sha256(previous + payload).digest()
