"""Loads what test modules import, before the workers of a run are forked from this process.

And lets hypothesis keep the constants of our source, which it draws now and then: each worker would
parse all modules for them.
"""

import os
import re
from contextlib import suppress
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parents[1]
# At the top of a module. What a function imports may be something that it looks at.
_IMPORTED = re.compile(r"(?m)^(?:from|import) (\w[\w.]*)")
# Bound to what is preloaded, a plugin that pytest loads itself, and programs of their own.
_NOT_HERE = ("gi", "hypothesis", "tests")


def imported_names() -> set[str]:
    """Return the modules that test modules and what they share import."""
    paths = [*HERE.rglob("test_*.py"), *(HERE / "support").glob("*.py")]
    found = {name for path in paths for name in _IMPORTED.findall(path.read_text("utf-8"))}
    return {name for name in found if name.partition(".")[0] not in _NOT_HERE}


def keep_constants() -> None:
    """Have hypothesis write the constants of all loaded modules where workers find them."""
    if (child := os.fork()) == 0:
        try:
            # In a process that ends: numba and torch are loaded here, hypothesis must not be yet.
            from hypothesis.internal.conjecture.providers import _get_local_constants

            _get_local_constants()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


for name in sorted(imported_names()):
    with suppress(ImportError):  # of an extra that is not installed: its test says so
        import_module(name)
keep_constants()
