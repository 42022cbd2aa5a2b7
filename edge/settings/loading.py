"""From station YAML and command line to settings; faults are named by line and key."""

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from edge.errors import ConfigurationInvalid
from edge.ports.port import PortSettings
from edge.redaction import redacted
from edge.settings.addresses import Scheme, parse_scheme
from edge.settings.credentials import CREDENTIALS
from edge.settings.station import Settings
from edge.validation import in_words
from edge.yaml_lines import Location, SettingsFile, read_settings_file

MAX_FAULTS = 10


def load_settings(
    path: Path | None = None, options: Mapping[str, Mapping[str, object]] | None = None
) -> Settings:
    """Read the station's YAML and lay the command line over it.

    Args:
        path: the YAML; None for the command line alone.
        options: section → key → value; None values are options that were not given.

    Raises:
        ConfigurationUnreadable: the file is missing or not YAML.
        ConfigurationInvalid: names file, line, key, what was found and what is allowed.
    """
    file = read_settings_file(path) if path else SettingsFile(Path("command line"), {}, {})
    # An empty section is one whose keys are all commented out.
    merged = {name: value for name, value in file.values.items() if value is not None}
    if path:
        merged = _beside(path, merged)
    given: set[Location] = set()
    for section, keys in (options or {}).items():
        chosen = {key: value for key, value in keys.items() if value is not None}
        if chosen and isinstance(merged.setdefault(section, {}), dict):
            merged[section] = {**merged[section], **chosen}
            given.update((section, key) for key in chosen)
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        faults = error.errors()[:MAX_FAULTS]
        raise ConfigurationInvalid(*(_sentence(fault, file, given) for fault in faults)) from error


PATHS: tuple[tuple[str, ...], ...] = (
    ("camera", "uri"),
    ("camera", "ca_file"),
    ("model", "path"),
    ("mqtt", "password_file"),
    ("mqtt", "ca_file"),
    ("mqtt", "certificate_file"),
    ("mqtt", "key_file"),
    ("mqtt", "sparkplug", "password_file"),
    ("mqtt", "sparkplug", "certificate_file"),
    ("mqtt", "sparkplug", "key_file"),
    ("model", "public_key"),
    ("fleet", "public_key"),
    ("journal", "folder"),
    ("recipes", "folder"),
    ("teach", "teacher"),
    ("teach", "key"),
    ("snapshots", "folder"),
    ("save", "folder"),
    ("hmi", "token_file"),
    ("opcua", "certificate_file"),
    ("opcua", "key_file"),
    ("opcua", "password_file"),
    ("decision", "mask"),
)


def _beside(file: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Make the file's relative paths relative to the file: a service has another folder."""
    moved = values
    # A port that works on a folder calls it so.
    ports = ((name, "folder") for name in values if name in _port_names())
    for place in (*PATHS, *ports):
        moved = _with_absolute(moved, place, file.absolute().parent)
    return moved


def _with_absolute(values: dict[str, Any], place: Sequence[str], folder: Path) -> dict[str, Any]:
    """Return the values with the path at this place below the folder; as they are without one."""
    key, *further = place
    found = values.get(key)
    if further:
        if not isinstance(found, dict):
            return values
        return {**values, key: _with_absolute(found, further, folder)}
    if not isinstance(found, str) or not found or found.startswith(CREDENTIALS):
        return values
    scheme, path = "", found
    if parse_scheme(found) == Scheme.WATCH:
        scheme, _, path = found.partition("//")
        scheme += "//"
    if not _is_path(path):
        return values
    return {**values, key: scheme + os.path.normpath(folder / path)}


def _port_names() -> set[str]:
    """Return the keys of the sections that open verdict ports."""
    return {
        name
        for name, field in Settings.model_fields.items()
        for kind in get_args(field.annotation)
        if isinstance(kind, type) and issubclass(kind, PortSettings)
    }


def _is_path(text: str) -> bool:
    return "://" not in text and not text.isdecimal()


def _sentence(fault: ErrorDetails, file: SettingsFile, given: set[Location]) -> str:
    location = tuple(fault["loc"])
    key = ".".join(str(part) for part in location) or "settings"
    place = "command line" if location[:2] in given else file.place(location)
    if fault["type"] == "missing":
        option = {"camera.uri": "--camera URI", "camera": "--camera URI", "mqtt.url": "--mqtt URL"}
        option |= {"model.path": "--model BUNDLE.xml", "model": "--model BUNDLE.xml"}
        hint = f" or give {option[key]}" if key in option else ""
        return f"{place}: {key} is missing. Set it in the YAML{hint}."
    if fault["type"] == "extra_forbidden":
        allowed = _keys_beside(location)
        close = difflib.get_close_matches(str(location[-1]), allowed, 1, 0.6)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        return f"{place}: {key} is unknown. {hint}Allowed here: {', '.join(allowed)}."
    message = in_words(fault)
    found = fault["input"]
    if fault["type"] == "string_unicode":
        message = "is not UTF-8. Rename that file or folder"
    if fault["type"] == "model_type":
        message = f"must hold keys: {', '.join(_keys_beside((*location, '')))}"
    if isinstance(found, dict | list | BaseModel):
        return f"{place}: {key}: {message}."
    shown = redacted(found) if isinstance(found, str) else found
    return f"{place}: {key}: found {shown!r} ({_kind(found)}), {message}."


def _keys_beside(location: Location) -> list[str]:
    section: type[BaseModel] = Settings
    for part in location[:-1]:
        annotation = section.model_fields[str(part)].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        section = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(section.model_fields)


def _kind(value: object) -> str:
    names = {bool: "yes/no", int: "a whole number", float: "a number", str: "text"}
    return "nothing" if value is None else names.get(type(value), type(value).__name__)
