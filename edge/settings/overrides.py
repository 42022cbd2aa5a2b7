"""What was set at the station's page, kept beside the journal and laid over the settings.

Thresholds are here; masks and zones, for which the same holds, in ``mask_overrides``.

The YAML is the site's file and is never written. A threshold set at the page counts for the model
it was set for, and as long as the YAML still says what it replaced; whoever changes the model or
that key in the YAML has the last word. Each version of a recipe has its own, apart from that of the
model at ``model.path``, also where they share a bundle.
"""

import errno
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from edge.bundle.input_spec import Areas
from edge.bundle.loading import load_bundle, manifest_sha256
from edge.bundle.manifest_types import Sha256
from edge.bundle.mask_file import read_mask_file
from edge.contract.verdict import Recipe
from edge.errors import ConfigurationError
from edge.settings.mask_overrides import FOLDER_NAME, MaskOverride, MaskOverrides
from edge.settings.small_record import RecordUnreadable, demand_record, read_record, write_record
from edge.settings.station import Settings

log = logging.getLogger(__name__)

FILE_NAME = "overrides.json"
MAX_OVERRIDES = 500
# A change is in force within seconds; a reader has read within milliseconds.
READ_WAIT_S, CHANGE_WAIT_S = 30.0, 2.0
_PAUSE_S = 0.02


class TooManyOverrides(ConfigurationError):
    """So many versions of recipes have a threshold of the page already; none was added."""


class Override(BaseModel):
    """A threshold that was set at the page.

    Attributes:
        recipe: of the folder that it was set for; None is the model at ``model.path``.
        image_threshold: raw.
        model_sha256: of the bundle it was set for.
        instead_of: what the YAML said then; None where it left the bundle's own in force.
        by, utc: who set it and when.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    recipe: Recipe | None = None
    image_threshold: float
    model_sha256: Sha256
    instead_of: float | None = None
    by: str = Field(max_length=200)
    utc: str = Field(max_length=40)


class _Kept(BaseModel):
    """The file; one for each recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    overrides: tuple[Override, ...] = Field(max_length=MAX_OVERRIDES)


# Before there were recipes the file was one override.
_CONTENT = TypeAdapter[_Kept | Override](_Kept | Override)


class ModelInForce(NamedTuple):
    """The model that a running station inspects with, whatever lies at its path by now.

    Attributes:
        path: ``model.path`` of the settings it was loaded by.
        sha256: of its bundle.
    """

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class PageSettings:
    """What was set at the page for one recipe, or for the model at ``model.path``.

    Attributes:
        threshold, mask: None where it was not set.
    """

    threshold: Override | None = None
    mask: MaskOverride | None = None

    def __bool__(self) -> bool:
        return self.threshold is not None or self.mask is not None

    def without(self, other: "PageSettings") -> "PageSettings":
        """Return what of it another one does not have."""
        return PageSettings(
            self.threshold if self.threshold != other.threshold else None,
            self.mask if self.mask != other.mask else None,
        )

    def __str__(self) -> str:
        """What was set, by whom and when, for people."""
        named: list[tuple[str, Override | MaskOverride]] = []
        if self.threshold is not None:
            named.append((f"the threshold {self.threshold.image_threshold:.6g}", self.threshold))
        if self.mask is not None:
            named.append(("the mask and zones", self.mask))
        return " and ".join(f"{what} set by {one.by[:60]} at {one.utc}" for what, one in named)


@dataclass(frozen=True, slots=True)
class Overrides:
    """The file of one station.

    Attributes:
        path: in the folder of its journal.
    """

    path: Path

    @classmethod
    def beside(cls, journal_folder: Path) -> "Overrides":
        return cls(journal_folder / FILE_NAME)

    @property
    def masks(self) -> MaskOverrides:
        """The masks that were drawn at the page."""
        return MaskOverrides(self.path.parent / FOLDER_NAME)

    def read(self, recipe: Recipe | None = None) -> Override | None:
        """Return what was set for a recipe; None for nothing, also of a file that is damaged.

        Args:
            recipe: of the folder; None is the model at ``model.path``.

        Raises:
            ConfigurationError: which masks were drawn cannot be read.
        """
        mask = self.masks.read(recipe)
        if mask is not None and mask.needs is not None:  # a process ended between two files
            return Override(
                recipe=recipe,
                image_threshold=mask.needs.image_threshold,
                model_sha256=mask.model_sha256,
                instead_of=mask.needs.instead_of,
                by=mask.by,
                utc=mask.utc,
            )
        return next((one for one in self._kept() if one.recipe == recipe), None)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Change a threshold and a mask that belong together; who reads both waits meanwhile.

        Should the process end in the middle: a mask is written with the threshold that it needs,
        which counts until one is written after it.
        """
        with self._held(fcntl.LOCK_EX, CHANGE_WAIT_S):  # no reader may stop the page for good
            yield

    @contextmanager
    def unchanging(self) -> Iterator[None]:
        """Read a threshold and the mask that belongs to it, and no half of a change.

        Raises:
            ConfigurationError: they are being changed for long.
        """
        with self._held(fcntl.LOCK_SH, READ_WAIT_S) as held:
            if not held:
                raise ConfigurationError(
                    f"{self.path.parent}: something is being changed at the page of the station. "
                    "Try again once it counts there."
                )
            yield

    @contextmanager
    def _held(self, kind: int, limit_s: float) -> Iterator[bool]:
        """Lock the folder; give whether nobody else has it. Without a folder nothing was set."""
        try:
            descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            yield True
            return
        try:
            yield _locked(descriptor, kind, limit_s)
        finally:
            os.close(descriptor)

    def check(self) -> None:
        """Demand that all of it can be read, for who must not go on with less.

        A mask that was drawn counts with the threshold that was saved with it.

        Raises:
            ConfigurationError: thresholds, or which masks were drawn, cannot be read.
        """
        try:
            demand_record(self.path, _CONTENT, _Kept(overrides=()))
        except RecordUnreadable as error:
            raise ConfigurationError(
                f"{self.path}: the thresholds set at the page cannot be read ({error}). Remove the "
                "file to continue with those of the settings, and set them again at the page."
            ) from error
        self.masks.drawn()

    def write(self, override: Override | None, recipe: Recipe | None = None) -> None:
        """Keep what was set for a recipe, or with None nothing; others keep theirs.

        Args:
            recipe: of the folder; None is the model at ``model.path``.

        Raises:
            OutputNotWritable: the disk refuses; what was kept before still is.
            TooManyOverrides: there is no room for one more.
        """
        kept = [one for one in self._kept() if one.recipe != recipe]
        if override is not None:
            kept.append(override.model_copy(update={"recipe": recipe}))
        if len(kept) > MAX_OVERRIDES:
            raise TooManyOverrides(
                f"{self.path}: {MAX_OVERRIDES} thresholds set at the page are kept. Remove "
                "those of versions that are no longer used from the file, and set it again."
            )
        if not kept:
            self.path.unlink(missing_ok=True)
        else:
            content = _Kept(overrides=tuple(kept))
            write_record(self.path, content)
        self.masks.settle(recipe)

    def laid_over(
        self,
        settings: Settings,
        in_force: ModelInForce | None = None,
        *,
        recipe: Recipe | None = None,
    ) -> Settings:
        """Return the settings with what was set at the page, where that still counts.

        Args:
            in_force: counts in place of the files at its path; None has the files looked at.
            recipe: of the folder, whose settings they are; None is the model at ``model.path``.

        Raises:
            ConfigurationError: which masks were drawn cannot be read.
        """
        counting, unused = self._found(settings, in_force, recipe)
        for what, why in unused:
            log.warning("%s set at the page is not used: %s", what, why)
        changed: dict[str, object] = {}
        if counting.threshold is not None:
            changed["image_threshold"] = counting.threshold.image_threshold
        if counting.mask is not None:
            changed["mask"] = str(self.masks.path(counting.mask))
        if not changed:
            return settings
        return settings.model_copy(
            update={"decision": settings.decision.model_copy(update=changed)}
        )

    def counting(
        self,
        settings: Settings,
        in_force: ModelInForce | None = None,
        *,
        recipe: Recipe | None = None,
    ) -> PageSettings:
        """Return what was set at the page and still counts.

        Args:
            settings: without it.
            in_force: as for ``laid_over``.
            recipe: of the folder, whose settings they are; None is the model at ``model.path``.

        Raises:
            ConfigurationError: which masks were drawn cannot be read.
        """
        return self._found(settings, in_force, recipe)[0]

    def unused(self, settings: Settings, *, recipe: Recipe | None = None) -> tuple[str, ...]:
        """Return what was set at the page and does not count any more, with the reason, for people.

        Args:
            settings: without what was set at the page.
            recipe: as for ``counting``.

        Raises:
            ConfigurationError: which masks were drawn cannot be read.
        """
        found = self._found(settings, None, recipe)[1]
        return tuple(f"{what} set at the page: {why}" for what, why in found)

    def left_behind(self, found: PageSettings, settings: Settings) -> PageSettings:
        """Return what of it other settings do not decide by as well.

        Args:
            found: was set for a version of a recipe.
            settings: of another version, with what was set at the page for that one.

        Raises:
            StationError: the bundle of the other version, or a mask, cannot be read.
        """
        threshold, mask, decision = found.threshold, found.mask, settings.decision
        if threshold is not None and threshold.image_threshold == decision.image_threshold:
            threshold = None
        if mask is not None:
            if decision.mask is not None:
                areas: Areas | None = read_mask_file(Path(decision.mask))
            else:
                areas = load_bundle(Path(settings.model.path)).manifest.input.areas
            if areas == read_mask_file(self.masks.path(mask)):
                mask = None
        return PageSettings(threshold, mask)

    def _found(
        self, settings: Settings, in_force: ModelInForce | None, recipe: Recipe | None
    ) -> tuple[PageSettings, list[tuple[str, str]]]:
        """Return what counts; and what does not any more, with the reason."""
        threshold, mask = self.read(recipe), self.masks.read(recipe)
        unused: list[tuple[str, str]] = []
        if threshold is None and mask is None:
            return PageSettings(), unused
        sha256 = _model_sha256(settings.model.path, in_force)
        if threshold is not None and (why := _why_unused(threshold, settings, sha256)):
            unused.append((f"the threshold {threshold.image_threshold:g}", why))
            threshold = None
        if mask is not None and (why := self.masks.why_unused(mask, settings, sha256)):
            unused.append((f"the mask {mask.file}", why))
            mask = None
        return PageSettings(threshold, mask), unused

    def _kept(self) -> tuple[Override, ...]:
        found = read_record(
            self.path,
            _CONTENT,
            _Kept(overrides=()),
            "the threshold of the settings is used. Set it again at the page.",
        )
        return found.overrides if isinstance(found, _Kept) else (found,)


def _locked(descriptor: int, kind: int, limit_s: float) -> bool:
    """Lock a folder, waiting so long; a file system without locks goes without."""
    end_s = time.monotonic() + limit_s
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end_s:
                return False
            time.sleep(_PAUSE_S)
        except OSError as error:
            # The last: NFS, of a folder, which is open for reading.
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EBADF):
                raise
            return True
        else:
            return True


def _why_unused(override: Override, settings: Settings, model_sha256: str | None) -> str:
    """Return why a threshold does not count any more; empty where it does."""
    if override.instead_of != settings.decision.image_threshold:
        return "decision.image_threshold has been changed in the settings since"
    return "" if override.model_sha256 == model_sha256 else "it was set for another model"


def _model_sha256(path: str, in_force: ModelInForce | None) -> str | None:
    if in_force is not None and in_force.path == path:
        return in_force.sha256
    return manifest_sha256(Path(path))
