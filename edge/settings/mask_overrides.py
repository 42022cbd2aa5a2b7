"""Masks and zones that were drawn at the station's page, kept beside the journal.

Each is a mask file as ``decision.mask`` names one, under a name of its own: what is drawn next
takes another, so that settings and their hash tell them apart. A drawing counts for the model it
was made for, and as long as the YAML still says what it replaced.
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.atomic_files import open_regular, write_whole
from edge.bundle.input_spec import Areas
from edge.bundle.manifest_types import Sha256
from edge.bundle.mask_file import mask_content
from edge.contract.verdict import Recipe
from edge.errors import ConfigurationError, OutputNotWritable
from edge.settings.small_record import write_record
from edge.settings.station import Settings

FOLDER_NAME = "masks"
FILE_NAME = "masks.json"
MAX_DRAWINGS = 500
MAX_BYTES = 2**20
# Drawings that nothing names any more; so many of the newest stay, to look them up.
MAX_FORMER = 50


class TooManyDrawings(ConfigurationError):
    """So many versions of recipes have a mask of the page already; none was added."""


class NeededThreshold(BaseModel):
    """A threshold that is saved with a mask, as ``overrides.Override`` has it.

    Attributes:
        image_threshold: raw.
        instead_of: what the YAML said then; None where it left the bundle's own in force.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    image_threshold: float
    instead_of: float | None = None


class MaskOverride(BaseModel):
    """A mask that was drawn at the page.

    Attributes:
        recipe: of the folder that it was drawn for; None is the model at ``model.path``.
        file: name in the folder of drawings.
        model_sha256: of the bundle it was drawn for.
        instead_of: what ``decision.mask`` said then; None where the bundle's own was in force.
        needs: the threshold that was saved with it, until that is written down by itself.
        by, utc: who drew it and when.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe | None = None
    file: str = Field(pattern=r"^[A-Za-z0-9_-]{1,80}\.yaml$")
    model_sha256: Sha256
    instead_of: str | None = None
    needs: NeededThreshold | None = None
    by: str = Field(max_length=200)
    utc: str = Field(max_length=40)


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    masks: tuple[MaskOverride, ...] = Field(max_length=MAX_DRAWINGS)


@dataclass(frozen=True, slots=True)
class MaskOverrides:
    """The drawings of one station.

    Attributes:
        folder: beside its journal.
    """

    folder: Path

    def read(self, recipe: Recipe | None = None) -> MaskOverride | None:
        """Return what was drawn for a recipe; None for nothing.

        Raises:
            ConfigurationError: what was drawn cannot be read.
        """
        return next((one for one in self.drawn() if one.recipe == recipe), None)

    def draw(self, areas: Areas, name: str) -> str:
        """Write a drawing as a mask file; return the file's name in the folder.

        Args:
            name: of letters, digits, ``-`` and ``_``.

        Raises:
            OutputNotWritable: the disk refuses.
        """
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputNotWritable(
                f"{self.folder}: cannot be made ({error.strerror}). Check its owner and the disk."
            ) from error
        for path, content in mask_content(areas, self.folder / f"{name}.yaml"):
            write_whole(path, content)
        return f"{name}.yaml"

    def write(self, override: MaskOverride | None, recipe: Recipe | None = None) -> None:
        """Keep what was drawn for a recipe, or with None nothing; others keep theirs.

        Raises:
            OutputNotWritable: the disk refuses; what was kept before still is.
            TooManyDrawings: there is no room for one more.
        """
        kept = [one for one in self.drawn() if one.recipe != recipe]
        if override is not None:
            kept.append(override.model_copy(update={"recipe": recipe}))
        if len(kept) > MAX_DRAWINGS:
            raise TooManyDrawings(
                f"{self._list}: {MAX_DRAWINGS} masks drawn at the page are kept. Remove those "
                "of versions that are no longer used from the file, and save it again."
            )
        if kept:
            content = _Kept(masks=tuple(kept))
            write_record(self._list, content)
        else:
            self._list.unlink(missing_ok=True)
        self._remove_former({one.file for one in kept})

    def settle(self, recipe: Recipe | None = None) -> None:
        """Let go of the threshold that a drawing brought: one is written down by itself.

        Raises:
            OutputNotWritable: the disk refuses.
        """
        drawn = self.read(recipe)
        if drawn is not None and drawn.needs is not None:
            self.write(drawn.model_copy(update={"needs": None}), recipe)

    def why_unused(
        self, override: MaskOverride, settings: Settings, model_sha256: str | None
    ) -> str:
        """Return why a drawing does not count any more; empty where it does.

        Args:
            settings: without it.
            model_sha256: of the bundle that they are for.
        """
        if override.instead_of != settings.decision.mask:
            return "decision.mask has been changed in the settings since"
        if override.model_sha256 != model_sha256:
            return "it was drawn for another model"
        return ""

    def path(self, override: MaskOverride) -> Path:
        """Return the mask file of a drawing."""
        return self.folder / override.file

    @property
    def _list(self) -> Path:
        return self.folder / FILE_NAME

    def drawn(self) -> tuple[MaskOverride, ...]:
        """Return what was drawn, of the model at ``model.path`` and of each recipe.

        Raises:
            ConfigurationError: it cannot be read.
        """
        try:
            with open_regular(self._list) as file:
                return _Kept.model_validate_json(file.read(MAX_BYTES)).masks
        except FileNotFoundError:
            return ()
        except (OSError, ValidationError) as error:
            # Without its mask a station would judge by places that somebody took out of it.
            raise ConfigurationError(
                f"{self._list}: the list of masks drawn at the page cannot be read "
                f"({type(error).__name__}). Remove the file to continue with decision.mask of "
                "the settings, and draw the mask again."
            ) from error

    def _remove_former(self, in_use: set[str]) -> None:
        former = sorted(path for path in self.folder.glob("*.yaml") if path.name not in in_use)
        for path in former[:-MAX_FORMER]:
            for one in (path, path.with_suffix(".png")):
                one.unlink(missing_ok=True)
