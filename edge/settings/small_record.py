"""A small record that a station keeps as JSON beside its journal, and can do without."""

import logging
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from edge.atomic_files import open_regular, write_whole

MAX_BYTES = 2**20

Content = TypeVar("Content")

log = logging.getLogger(__name__)


def read_record(
    path: Path, content: TypeAdapter[Content], empty: Content, consequence: str
) -> Content:
    """Return what a file holds; ``empty`` without one, and with a warning of a damaged one.

    Args:
        consequence: what follows of a file that cannot be used, as a clause.
    """
    try:
        with open_regular(path) as file:
            return content.validate_json(file.read(MAX_BYTES))
    except FileNotFoundError:
        return empty
    except (OSError, ValidationError) as error:
        cause = error.strerror if isinstance(error, OSError) else "damaged"
        log.warning("%s: not used (%s); %s", path, cause, consequence)
        return empty


def write_record(path: Path, content: BaseModel) -> None:
    """Write a record whole.

    Raises:
        OutputNotWritable: the disk refuses; what was kept before still is.
    """
    write_whole(path, content.model_dump_json(indent=1).encode() + b"\n")
