"""``edge-listen --part FILE``: which stations look at one part, and in what time."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from edge.contract.topics import StationTopic
from edge.errors import ConfigurationInvalid
from edge.section import Section
from edge.validation import in_words
from edge.yaml_lines import read_settings_file

MAX_VIEWS = 16


class PartSettings(Section):
    """One part that several stations look at."""

    name: str = Field(
        description="SITE/LINE/STATION/CAMERA below which the topic part lies.",
        examples=["plant1/line3/washer/all"],
    )
    views: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        min_length=2,
        max_length=MAX_VIEWS,
        description="The stations that look at the part, each SITE/LINE/STATION/CAMERA.",
        examples=[["plant1/line3/washer/top", "plant1/line3/washer/side"]],
    )
    within_ms: float = Field(
        default=2000.0,
        gt=0,
        le=3_600_000,
        description="Longest time from the arrival of the first view until all must have arrived.",
    )
    replayed_within_s: float = Field(
        default=60.0,
        gt=0,
        le=86_400,
        description="The same if a view was replayed or the connection was lost meanwhile.",
    )
    open_parts: int = Field(
        default=1000,
        ge=1,
        le=100_000,
        description="Most parts that may wait; beyond it, the oldest is an ERROR.",
    )

    @model_validator(mode="after")
    def _names(self) -> "PartSettings":
        for name in (self.name, *self.views):
            StationTopic.parse(name)
        if len(set(self.views)) < len(self.views):
            raise ValueError("views names a station twice")
        return self

    @property
    def topic(self) -> str:
        return StationTopic.parse(self.name).part


class _PartFile(Section):
    part: PartSettings


def read_part_settings(path: Path, pattern: str) -> PartSettings:
    """Read a part's file.

    Args:
        path: YAML with the section ``part``.
        pattern: what the listener listens to.

    Raises:
        ConfigurationError: no such file, or a key is wrong; the message names file and line.
    """
    file = read_settings_file(path)
    try:
        found = _PartFile.model_validate(file.values).part
    except ValidationError as error:
        faults = "; ".join(
            f"{file.place(fault['loc'])}: {'.'.join(map(str, fault['loc']))} {in_words(fault)}"
            for fault in error.errors()
        )
        raise ConfigurationInvalid(f"{faults}.") from error
    heard = re.compile(re.escape(pattern).replace(r"\+", "[^/]+"))
    for view in found.views:
        if not heard.fullmatch(view):
            raise ConfigurationInvalid(
                f"{file.place(('part', 'views'))}: {view} is not covered by --station "
                f"({pattern}). Widen --station, or leave it out."
            )
    return found
