"""Why a file of numbers was not loaded, in words of ours."""

import pickle

# What torch and numpy say of objects, followed by how to switch the check off.
_OBJECTS = ("weights_only", "allow_pickle")


def load_fault(error: Exception) -> str:
    """Return what a library found wrong, without its advice to load anything whatever it runs."""
    text = str(error)
    if isinstance(error, pickle.UnpicklingError) or any(word in text for word in _OBJECTS):
        return "it holds objects, whose loading could run a program, or is damaged"
    return next(iter(text.splitlines()), type(error).__name__)
