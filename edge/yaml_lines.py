"""Station YAML as plain values that remember the line each key stands on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from edge.errors import ConfigurationError

# More than any settings tree has; stops files that are made to blow up.
MAX_DEPTH = 8
MAX_BYTES = 1_000_000
# With every alias written out.
MAX_NODES = 10_000

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
            given twice, a tag, more nodes or levels than settings have, or not a mapping.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigurationUnreadable(f"{path}: larger than 1 MB, not a station's settings.")
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigurationUnreadable(
            f"{path}: cannot be read ({error.strerror}). Check its name and permissions."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationUnreadable(
            f"{path}: not UTF-8 text (byte {error.start}). Save it as UTF-8."
        ) from error
    lines: dict[Location, int] = {}
    try:
        _check_shape(path, text)
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
        held = "a list" if isinstance(values, list) else "a single value"
        raise ConfigurationUnreadable(
            f"{path}: holds {held} instead of sections such as 'camera:'."
        )
    return SettingsFile(path, values, lines)


@dataclass(frozen=True, slots=True)
class _Reader:
    path: Path
    loader: yaml.SafeLoader
    lines: dict[Location, int]

    def value(self, node: yaml.Node, location: Location) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, location)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*location, i)) for i, item in enumerate(node.value)]
        numeric = node.tag.rpartition(":")[2] in ("int", "float")
        if numeric and ":" in node.value:
            return node.value  # a time of day: to YAML 1.1 a number in base 60
        try:
            return self.loader.construct_object(node)
        except (ValueError, OverflowError) as error:  # for example a date with month 13
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
        return _fault(self.path, node, message)


def _fault(path: Path, where: yaml.Node | yaml.Event, message: str) -> ConfigurationUnreadable:
    mark = where.start_mark
    place = f"{path}, line {mark.line + 1}" if mark is not None else str(path)
    return ConfigurationUnreadable(f"{place}: {message}.")


@dataclass(slots=True)
class _Extent:
    """How much a node holds, itself counted, and how many levels; its anchor where it has one."""

    anchor: str | None = None
    nodes: int = 1
    levels: int = 0

    def add(self, child: "_Extent") -> None:
        self.nodes += child.nodes
        self.levels = max(self.levels, child.levels + 1)


def _check_shape(path: Path, text: str) -> None:
    """Bound nodes, levels, aliases and tags before anything is built of them.

    Raises:
        ConfigurationUnreadable: with line and cause.
        yaml.YAMLError: not YAML.
    """
    begun = [_Extent()]
    anchored: dict[str, _Extent] = {}
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.CollectionEndEvent):
            done = begun.pop()
            if done.anchor is not None:
                anchored[done.anchor] = done
        elif isinstance(event, yaml.AliasEvent):
            # One of a node that is not closed yet contains itself.
            if event.anchor not in anchored:
                raise _fault(path, event, f"no earlier anchor is named &{event.anchor}")
            done = anchored[event.anchor]
        elif isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            if event.tag is not None:
                raise _fault(
                    path, event, f"the tag {event.tag!r} is not allowed here; leave it out"
                )
            extent = _Extent(event.anchor)
            if isinstance(event, yaml.CollectionStartEvent):
                begun.append(extent)
                if len(begun) - 1 > MAX_DEPTH:
                    raise _fault(path, event, f"nested too deep, more than {MAX_DEPTH} levels")
                continue
            if event.anchor is not None:
                anchored[event.anchor] = extent
            done = extent
        else:
            continue
        begun[-1].add(done)
        if len(begun) - 1 + done.levels > MAX_DEPTH:
            raise _fault(path, event, f"nested too deep, more than {MAX_DEPTH} levels")
        if sum(extent.nodes for extent in begun) > MAX_NODES:
            raise _fault(path, event, f"more than {MAX_NODES} values, aliases written out")
