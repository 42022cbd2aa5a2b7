"""The published JSON Schemas of every payload, one file each."""

import json
from importlib import resources
from typing import Any


def schema_names() -> list[str]:
    """Return the names, for example ``verdict/1``."""
    files = (file.name for file in resources.files(__name__).iterdir())
    stems = (name.removesuffix(".json") for name in files if name.endswith(".json"))
    return sorted("/".join(stem.rsplit("-", 1)) for stem in stems)


def read_schema(name: str) -> dict[str, Any]:
    """Read the schema of a payload by the name that the payload carries in ``schema``.

    Raises:
        KeyError: there is none of that name.
    """
    file = resources.files(__name__).joinpath(name.replace("/", "-") + ".json")
    if name not in schema_names():
        raise KeyError(f"no schema {name!r}; there are {', '.join(schema_names())}")
    schema: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return schema
