"""Out of memory, said in terms of the settings that decide how much is needed."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from training.errors import OutOfMemory

# What the allocators of torch say; on the CPU it is a plain RuntimeError.
_PHRASES = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc")


@contextmanager
def naming_settings(settings: str) -> Iterator[None]:
    """Turn running out of memory into an error that says what to lower.

    Args:
        settings: to lower, for the message.

    Raises:
        OutOfMemory: the block ran out of memory.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        first_line = next(iter(str(error).splitlines()), type(error).__name__)
        out_of_memory = any(phrase in str(error).lower() for phrase in _PHRASES)
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and not out_of_memory:
            raise
        raise OutOfMemory(f"out of memory ({first_line}). Lower {settings}.") from error
