"""The columns of edge-listen's table of verdicts, in SQLite and in CSV."""

from collections.abc import Callable
from typing import Any

from edge.contract.image_source import image_name
from edge.listen.records import Arrived

# Column and where its value stands in the payload.
COLUMNS: dict[str, tuple[str, ...]] = {
    "id": ("id",),
    "decided_utc": ("time", "decided_utc"),
    "part_id": ("part_id",),
    "trigger_id": ("trigger_id",),
    "result": ("result",),
    "reason": ("reason",),
    "anomaly_score": ("anomaly_score",),
    "threshold": ("threshold",),
    "deadline_met": ("deadline_met",),
    "simulated": ("simulated",),
    "replayed": ("replayed",),
    "model": ("model", "name"),
    "model_version": ("model", "version"),
}
# Columns of the image, at the end of each row.
IMAGE_COLUMNS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "image_uri": lambda content: value_at(content, ("image", "uri")),
    "image_source_uri": lambda content: value_at(content, ("image", "source_uri")),
    "image_name": image_name,
}
# Which a table of any version has, in this order.
KEY_COLUMNS = ("station", "journal", "seq", "id")
HEADER = ("station", "journal", "seq", *COLUMNS, "arrived_utc", *IMAGE_COLUMNS)


def row_values(one: Arrived) -> tuple[Any, ...]:
    """Return what a verdict says in each of ``HEADER``."""
    found = (value_at(one.content, path) for path in COLUMNS.values())
    image = (find(one.content) for find in IMAGE_COLUMNS.values())
    return (one.station, one.journal, one.seq, *found, one.arrived_utc, *image)


def check_storable(one: Arrived) -> None:
    """Find out whether a database can hold what a verdict says; JSON can say more.

    Raises:
        ValueError: it cannot.
    """
    for value in row_values(one):
        if isinstance(value, str):
            value.encode()
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError(f"{value} is out of range")


def value_at(content: Any, path: tuple[str, ...]) -> Any:
    """Return what stands somewhere in a payload as one cell; None for nothing."""
    for name in path:
        content = content.get(name) if isinstance(content, dict) else None
    return content if isinstance(content, str | int | float | None) else str(content)
