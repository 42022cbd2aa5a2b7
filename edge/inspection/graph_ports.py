"""Inputs and outputs of a graph in words, and what OpenVINO says of one that it does not take."""

from collections.abc import Container
from typing import Any


def find_ports(model: Any, known: Container[str]) -> dict[str, str]:
    """Return type and shape of each input and output, under its known name if it has one."""
    ports = {}
    for port in [*model.inputs, *model.outputs]:
        names = sorted(port.names)
        name = next((name for name in names if name in known), "/".join(names) or "(unnamed)")
        ports[name] = f"{port.element_type.get_type_name()} {port.partial_shape}"
    return ports


def listed(ports: dict[str, str]) -> str:
    """Return inputs and outputs for a message."""
    return ", ".join(f"{name} {kind}" for name, kind in sorted(ports.items())) or "nothing"


def last_line(error: Exception) -> str:
    """Return the line of an OpenVINO error that says what happened; those above say where."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
