"""A small record that a station keeps as JSON beside its journal, and can do without."""

import logging
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from edge.atomic_files import open_regular, write_whole
from edge.errors import ConfigurationError

MAX_BYTES = 2**20

Content = TypeVar("Content")

log = logging.getLogger(__name__)


class RecordUnreadable(ConfigurationError):
    """A record is there, and cannot be read."""


def read_record(
    path: Path, content: TypeAdapter[Content], empty: Content, consequence: str
) -> Content:
    """Return what a file holds; ``empty`` without one, and with a warning of a damaged one.

    Args:
        consequence: what follows of a file that cannot be used, as a clause.
    """
    try:
        return demand_record(path, content, empty)
    except RecordUnreadable as error:
        log.warning("%s: not used (%s); %s", path, error, consequence)
        return empty


def demand_record(path: Path, content: TypeAdapter[Content], empty: Content) -> Content:
    """Return what a file holds; ``empty`` without one.

    Raises:
        RecordUnreadable: there is one that cannot be read; says only why.
    """
    try:
        with open_regular(path) as file:
            return content.validate_json(file.read(MAX_BYTES))
    except FileNotFoundError:
        return empty
    except OSError as error:
        raise RecordUnreadable(error.strerror) from error
    except ValidationError as error:
        raise RecordUnreadable("damaged") from error


def write_record(path: Path, content: BaseModel) -> None:
    """Write a record whole.

    Raises:
        OutputNotWritable: the disk refuses; what was kept before still is.
    """
    write_whole(path, content.model_dump_json(indent=1).encode() + b"\n")
