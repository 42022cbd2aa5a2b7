"""Station YAML as plain values that remember the line each key stands on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from edge.errors import ConfigurationError

# Deeper than any settings tree; stops files that are made to blow up.
DEEPEST = 8
LARGEST_BYTES = 1_000_000

Location = tuple[str | int, ...]


class ConfigurationUnreadable(ConfigurationError):
    """The configuration file is missing, not readable or not YAML."""


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """What a file says.

    Attributes:
        path: of the file, for messages.
        values: nested dictionaries of plain YAML values.
        lines: 1-based line of every key.
    """

    path: Path
    values: dict[str, Any]
    lines: dict[Location, int]

    def place(self, location: Location) -> str:
        """Return ``station.yaml, line 4`` for a key, or for the nearest section that exists."""
        for length in range(len(location), 0, -1):
            if location[:length] in self.lines:
                return f"{self.path}, line {self.lines[location[:length]]}"
        return str(self.path)


def read_settings_file(path: Path) -> SettingsFile:
    """Read a YAML file.

    Raises:
        ConfigurationUnreadable: missing, not UTF-8, broken YAML (with line and column), a key
            given twice, an alias, or not a mapping.
    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise ConfigurationUnreadable(f"{path}: larger than 1 MB, not a station's settings.")
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigurationUnreadable(
            f"{path}: cannot be read ({error.strerror}). Check --config and its permissions."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationUnreadable(
            f"{path}: not UTF-8 text (byte {error.start}). Save it as UTF-8."
        ) from error
    lines: dict[Location, int] = {}
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        values = {} if node is None else _Reader(path, loader, lines).value(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        start = error.context_mark
        context = f", {error.context} begun in line {start.line + 1}" if start else ""
        raise ConfigurationUnreadable(
            f"{path}{where}: not valid YAML ({error.problem or 'broken'}{context}). "
            "Check indentation, colons and quotes there."
        ) from error
    except yaml.YAMLError as error:
        raise ConfigurationUnreadable(
            f"{path}: not valid YAML ({str(error).splitlines()[0]})."
        ) from error
    if not isinstance(values, dict):
        raise ConfigurationUnreadable(
            f"{path}: holds {type(values).__name__} instead of sections such as 'camera:'."
        )
    return SettingsFile(path, values, lines)


@dataclass(frozen=True, slots=True)
class _Reader:
    path: Path
    loader: yaml.SafeLoader
    lines: dict[Location, int]

    def value(self, node: yaml.Node, location: Location) -> Any:
        if len(location) > DEEPEST:
            raise self._fault(node, "nested too deep (an alias that contains itself?)")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, location)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*location, i)) for i, item in enumerate(node.value)]
        try:
            return self.loader.construct_object(node)
        except ValueError as error:  # for example a date with month 13
            raise self._fault(node, str(error)) from error

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None:
                raise self._fault(key_node, "a key must be a plain word")
            here = (*location, key)
            if key in mapping:
                raise self._fault(key_node, f"'{key}' is given twice; keep one")
            self.lines[here] = key_node.start_mark.line + 1
            mapping[key] = self.value(value_node, here)
        return mapping

    def _fault(self, node: yaml.Node, message: str) -> ConfigurationUnreadable:
        return ConfigurationUnreadable(f"{self.path}, line {node.start_mark.line + 1}: {message}.")
