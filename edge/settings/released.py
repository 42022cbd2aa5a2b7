"""Settings that a roll-out has released, kept beside the journal and laid over the site's file.

The YAML is the site's file and is never written. What a release sets counts as long as the YAML
still says what it replaced; whoever changes one of its keys there has the last word. What a recipe,
or somebody at the page, sets for a product lies above it.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from edge.errors import ConfigurationInvalid
from edge.recipes.names import RecipeName
from edge.section import Section
from edge.settings.camera import CameraSettings
from edge.settings.decision import DecisionSettings
from edge.settings.image import ImageSettings
from edge.settings.small_record import read_record, write_record
from edge.settings.station import Settings
from edge.validation import in_words

FILE_NAME = "released-settings.json"
MAX_VERSION = 9999
# What a running station takes over between two parts, and what is no file, key or name of this PC.
RELEASABLE: Mapping[str, frozenset[str]] = {
    "decision": frozenset(
        {"image_threshold", "pixel_threshold", "guard_band", "smallest_region_px"}
    ),
    "camera": frozenset({"crop"}),
    "image": frozenset(ImageSettings.model_fields),
}
_SECTIONS: Mapping[str, type[Section]] = {
    "decision": DecisionSettings,
    "camera": CameraSettings,
    "image": ImageSettings,
}
# Keys of ``image`` that have to agree with each other.
_COMPARED = frozenset({"min_mean", "max_mean"})
MAX_FAULTS = 10

log = logging.getLogger(__name__)

Key = Annotated[str, StringConstraints(pattern="^[a-z_]{1,40}$")]
Fragment = Annotated[
    dict[Key, Annotated[dict[Key, JsonValue], Field(min_length=1, max_length=20)]],
    Field(min_length=1, max_length=10),
]


class ReleasedSettings(BaseModel):
    """A release of settings, as a station has it.

    Attributes:
        sha256: of the release's file.
        settings: section → key → value.
        instead_of: what the file said then, by dotted key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: RecipeName
    version: int = Field(ge=1, le=MAX_VERSION)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    settings: Fragment
    instead_of: dict[str, JsonValue] = Field(max_length=200)

    def __str__(self) -> str:
        return f"settings {self.name} version {self.version}"


class _Kept(BaseModel):
    """The file: what counts, and what counted before."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    now: ReleasedSettings | None = None
    before: ReleasedSettings | None = None


_CONTENT = TypeAdapter(_Kept)


def keys_of_no_release(fragment: Mapping[str, Mapping[str, JsonValue]]) -> list[str]:
    """Return the keys, dotted, that no release sets at stations of this version."""
    return sorted(
        f"{section}.{key}"
        for section, keys in fragment.items()
        for key in keys
        if key not in RELEASABLE.get(section, frozenset())
    )


def demand_releasable(fragment: Mapping[str, Mapping[str, JsonValue]]) -> None:
    """Demand that a release may set all of this, and that there are stations that can take it.

    Raises:
        ConfigurationInvalid: names the keys that belong to the station itself, or whose value no
            station can have.
    """
    own = keys_of_no_release(fragment)
    if own:
        known = ", ".join(
            f"{section}.{key}" for section in RELEASABLE for key in sorted(RELEASABLE[section])
        )
        raise ConfigurationInvalid(
            f"{', '.join(own)}: no release sets that; it is the station's own, or needs a "
            f"restart. A release sets {known}."
        )
    faults = [sentence for section in fragment for sentence in _faults(section, fragment[section])]
    if faults:
        raise ConfigurationInvalid(*faults[:MAX_FAULTS])


def _faults(section: str, values: Mapping[str, JsonValue]) -> Iterator[str]:
    """Yield what is wrong with values whatever the rest of a section says."""
    try:
        _SECTIONS[section].model_validate(dict(values))
    except ValidationError as error:
        for fault in error.errors():
            # Keys that are missing are the station's, and so is what these have to agree with.
            if fault["loc"] and fault["loc"][0] in values:
                yield f"{'.'.join(map(str, (section, *fault['loc'])))}: {in_words(fault)}."
            elif not fault["loc"] and values.keys() >= _COMPARED:
                yield f"{section}: {in_words(fault)}."


def with_fragment(settings: Settings, fragment: Mapping[str, Mapping[str, JsonValue]]) -> Settings:
    """Return a station's settings with what a release sets.

    Raises:
        ConfigurationInvalid: it does not fit this station; names the keys.
    """
    demand_releasable(fragment)
    content = settings.model_dump()
    for section, keys in fragment.items():
        content[section] = {**content[section], **keys}
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        raise ConfigurationInvalid(
            *(
                f"{'.'.join(map(str, fault['loc'])) or 'settings'}: {in_words(fault)}."
                for fault in error.errors()[:MAX_FAULTS]
            )
        ) from error


def values_at(
    settings: Settings, fragment: Mapping[str, Mapping[str, JsonValue]]
) -> dict[str, JsonValue]:
    """Return what settings say under the keys of a release."""
    content = settings.model_dump(mode="json")
    return {
        f"{section}.{key}": content[section][key]
        for section, keys in fragment.items()
        for key in keys
    }


@dataclass(frozen=True, slots=True)
class ReleasedSettingsFile:
    """The file of one station.

    Attributes:
        path: in the folder of its journal.
    """

    path: Path

    @classmethod
    def beside(cls, journal_folder: Path) -> "ReleasedSettingsFile":
        return cls(journal_folder / FILE_NAME)

    @property
    def now(self) -> ReleasedSettings | None:
        """What was released last; None for nothing, also of a file that is damaged."""
        return self._read().now

    @property
    def before(self) -> ReleasedSettings | None:
        """What counted before that."""
        return self._read().before

    def write(self, now: ReleasedSettings | None, before: ReleasedSettings | None) -> None:
        """Keep a release, or none.

        Raises:
            OutputNotWritable: the disk refuses; what was kept before still is.
        """
        kept = _Kept(now=now, before=before)
        write_record(self.path, kept)

    def counting(self, settings: Settings) -> dict[str, dict[str, JsonValue]]:
        """Return what of the release counts: the file says there what it said before.

        Args:
            settings: as the file has them.
        """
        now = self.now
        if now is None or keys_of_no_release(now.settings):  # of another version of the station
            return {}
        written = values_at(settings, now.settings)
        counting: dict[str, dict[str, JsonValue]] = {}
        for section, keys in now.settings.items():
            for key, value in keys.items():
                if written[f"{section}.{key}"] == now.instead_of.get(f"{section}.{key}"):
                    counting.setdefault(section, {})[key] = value
        return counting

    def laid_over(self, settings: Settings) -> Settings:
        """Return the settings of the file with what of the release counts; a fault is logged."""
        now = self.now
        if now is None:
            return settings
        if unknown := keys_of_no_release(now.settings):
            log.warning(
                "the released %s is left out: it sets %s, which no release does at this version of "
                "the station. Release settings again.",
                now,
                ", ".join(unknown[:MAX_FAULTS]),
            )
            return settings
        counting = self.counting(settings)
        changed = [
            f"{section}.{key}"
            for section, keys in now.settings.items()
            for key in keys
            if key not in counting.get(section, {})
        ]
        if changed:
            log.warning(
                "%s of the released %s is left out: the settings say something else since",
                ", ".join(changed),
                now,
            )
        try:
            return with_fragment(settings, counting) if counting else settings
        except ConfigurationInvalid as error:
            log.warning("the released %s is left out: %s", now, error)
            return settings

    def _read(self) -> _Kept:
        return read_record(
            self.path,
            _CONTENT,
            _Kept(),
            "the settings of the file count. Release them again.",
        )
