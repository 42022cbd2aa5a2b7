"""A station.yaml with every key and its description, and its JSON Schema for editors.

Both are made of the settings' own fields, so that nothing is described twice.
"""

import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from edge.settings.station import Settings

SCHEMA_FILE = "station.schema.json"
WIDTH = 100
# Where comments begin, unless a key is longer.
COMMENT_COLUMN = 32

HEAD = f"""\
# yaml-language-server: $schema={SCHEMA_FILE}
# A station. Every key but camera.uri and model.path may be left out; values are the defaults.
# What stands behind a # is off: remove it and the blank after it. The values there are examples
# where a key has no default. `edge-run --config station.yaml --check` validates the file.
# Relative paths are relative to this file. Options of the command line go first.
# Written by `edge-run --settings-template`; editors check and complete it with what
# `edge-run --settings-schema` writes, as {SCHEMA_FILE} beside it.
"""


def settings_template() -> str:
    """Return a station.yaml in which every key stands, with default or example and description."""
    return "\n".join([HEAD, *_sections()])


def settings_schema() -> str:
    """Return the JSON Schema of a station.yaml."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "station.yaml",
        **_untitled(Settings.model_json_schema()),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _untitled(schema: Any) -> Any:
    """Return a schema without its titles, which only repeat the names of keys."""
    if isinstance(schema, dict):
        return {
            key: _untitled(value)
            for key, value in schema.items()
            if key != "title" or not isinstance(value, str)
        }
    return [_untitled(one) for one in schema] if isinstance(schema, list) else schema


def _sections() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        section = _section_type(field)
        assert section is not None, name
        lines = [_commented(f"{name}:", field.description or "", 0), *_keys(section, 1)]
        off = field.default is None
        yield "".join(f"# {line}\n" if off else f"{line}\n" for text in lines for line in text)


def _keys(section: type[BaseModel], depth: int, shift: int = 0) -> Iterator[list[str]]:
    """Yield the lines of each key, and of the keys of the sections in it.

    Args:
        shift: by how much they will be moved to the right.
    """
    for name, field in section.model_fields.items():
        inner = _section_type(field)
        if inner is not None and isinstance(field.default, BaseModel):
            text = "  " * depth + f"{name}:"
            yield _commented(text, field.description or "", depth, shift=shift)
            yield from _keys(inner, depth + 1, shift)
            continue
        if inner is not None and field.default is None and not field.examples:
            before = "  " * depth + "# "
            further = shift + len(before)
            head = _commented(f"{name}:", field.description or "", 0, shift=further)
            lines = [head, *_keys(inner, 1, further)]
            yield [before + text for rows in lines for text in rows]
            continue
        has_default = field.default not in (None, PydanticUndefined)
        value = (field.examples or [None])[0]
        if has_default and value is None:
            value = field.default
        off = "# " if field.default is None or field.default == [] else ""
        text = "  " * depth + f"{off}{name}: {_in_yaml(value)}"
        yield _commented(text, field.description or "", depth, shift=shift)


def _section_type(field: FieldInfo) -> type[BaseModel] | None:
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _commented(text: str, comment: str, depth: int, *, shift: int = 0) -> list[str]:
    """Return the lines of a key with its comment behind it, and below where that is long."""
    column = max(COMMENT_COLUMN - shift, len(text) + 2)
    rows = textwrap.wrap(comment, max(WIDTH - shift - column - 4, 1))
    if column > COMMENT_COLUMN - shift and len(rows) > 1:
        # Behind a long key little room is left: the whole comment stands above.
        rows = textwrap.wrap(comment, WIDTH - shift - 2 * depth - 4)
        return ["  " * depth + f"# {row}" for row in rows] + [text]
    first, *more = rows or [""]
    return [f"{text:{column}}# {first}", *(" " * column + f"# {row}" for row in more)]


def _in_yaml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_in_yaml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(json.dumps(one) for one in value) + "]"
    if isinstance(value, str):
        plain = re.fullmatch(r"[\w./:-][\w ./:@-]*", value) and yaml.safe_load(value) == value
        return value if plain else json.dumps(value)
    return json.dumps(value)
