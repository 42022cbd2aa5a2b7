"""Which images, as YAML and command line name them."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class Layout(StrEnum):
    """Known layouts of data sets on disk."""

    MVTEC_AD = "mvtec-ad"
    BTAD = "btad"
    VISA = "visa"
    KOLEKTOR_SDD = "kolektor-sdd"
    KOLEKTOR_SDD2 = "kolektor-sdd2"
    CIFAR10 = "cifar10"
    SHANGHAITECH = "shanghaitech"
    RECIPE = "recipe"
    FOLDER = "folder"


class DataSettings(BaseModel):
    """A data set and how it is used.

    Attributes:
        path: folder of the data set.
        also: more folders, each with a layout of its own; their images are added, fit only.
        layout: how it is laid out; None finds out.
        category: of a set that holds many; ``airplane`` of CIFAR-10, ``candle`` of VisA.
        skip_unreadable: leave out images that cannot be read, each with a warning, instead of
            ending with an error.
        synthetic_defects: how many to paste into good validation and test images, where these
            have no defective ones.
        transforms: torchvision v2 steps that images are learned through; fit only.
        transform_copies: transformed views of every image beside the image itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    path: Annotated[Path, Field(strict=False)]
    also: Annotated[tuple[Annotated[Path, Field(strict=False)], ...], Field(strict=False)] = ()
    layout: Annotated[Layout | None, Field(strict=False)] = None
    category: Annotated[str | None, Field(min_length=1)] = None
    skip_unreadable: bool = False
    synthetic_defects: int = Field(default=0, ge=0, le=10_000)
    transforms: tuple[str | dict[str, dict[str, Any] | None], ...] = Field(default=(), strict=False)
    transform_copies: int = Field(default=1, ge=1, le=100)

    def __hash__(self) -> int:
        return hash(repr(self))


def as_settings(source: Path | DataSettings) -> DataSettings:
    """Take a bare folder for a data set whose layout is to be found out."""
    return source if isinstance(source, DataSettings) else DataSettings(path=source)
