"""``taught.json``: what a version was taught with, so that it can be built again bit by bit."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError

from edge.atomic_files import open_regular
from edge.bundle.manifest_types import Sha256
from edge.recipes.errors import RecipeDamaged
from edge.section import Section
from edge.validation import in_words

TAUGHT_FILE = "taught.json"
MAX_TAUGHT_BYTES = 2_000_000

Share = Annotated[float, Field(ge=0, le=1)]
ContentHash = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


class Taught(Section):
    """The order of a build; images go by the SHA-256 of their pixels, as their files are called.

    Attributes:
        teacher: hash of its manifest.
        images: good ones, in the order in which they were learned.
        confirmed: those of them that a person has confirmed.
        passed, defective, rejected: that the threshold was held against; not learned.
        balanced: shares of the good and of the defective that the threshold may judge wrongly; None
            of a product that was taught with good images alone.
        views: few images were shown turned and shifted, too.
        check_good: those that look like defects were left out.
    """

    schema_version: Literal["taught/1"] = "taught/1"
    teacher: Sha256
    seed: int
    views: bool
    check_good: bool
    balanced: tuple[Share, ...] | None = None
    images: list[ContentHash] = Field(max_length=1000)
    confirmed: list[ContentHash] = Field(default_factory=list, max_length=1000)
    passed: list[ContentHash] = Field(default_factory=list, max_length=1000)
    defective: list[ContentHash] = Field(default_factory=list, max_length=1000)
    rejected: list[ContentHash] = Field(default_factory=list, max_length=1000)

    @property
    def contents(self) -> list[str]:
        """Return all that a build needs, learned or not."""
        return [*self.images, *self.passed, *self.defective, *self.rejected]


def read_taught(folder: Path) -> Taught | None:
    """Return what the version in a folder was taught with; None of one that was not taught here.

    Raises:
        RecipeDamaged: the file says something else.
    """
    path = folder / TAUGHT_FILE
    try:
        with open_regular(path) as file:
            return Taught.model_validate_json(file.read(MAX_TAUGHT_BYTES))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RecipeDamaged(f"{path}: cannot be read ({error.strerror}).") from error
    except ValidationError as error:
        raise RecipeDamaged(
            f"{path}: {in_words(error.errors()[0])}. Publish the version again."
        ) from error
