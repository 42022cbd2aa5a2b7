"""What of an image a product is taught and judged by: its part, its crop, what a mask leaves."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.bundle.input_spec import Areas, Crop, InputSpec, Locator
from edge.bundle.loading import load_bundle
from edge.bundle.manifest import OutputSpec
from edge.bundle.mask_file import read_mask_file
from edge.inspection.areas import CountedAreas, common_score, counted_areas, counted_tiles
from edge.inspection.pieces import frame_pieces
from edge.inspection.predictor import RawPrediction
from edge.recipes.folder import RecipeVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductView:
    """Where in its images a product is looked at.

    Attributes:
        crop: in frame pixels; None is all of the frame. With a locator both it and the areas lie
            in the reference image, and without a crop the locator's region is looked at.
        areas: what of it counts; None counts all.
        locator: how the part is found; None looks at the same place of every frame.
    """

    crop: Crop | None = None
    areas: Areas | None = None
    locator: Locator | None = None

    def applied(self, spec: InputSpec) -> InputSpec:
        """Return how images are prepared for a model of the product."""
        own = {"crop": self.crop, "areas": self.areas, "locator": self.locator}
        return spec.model_copy(update=own)

    def unaligned(self) -> "ProductView":
        """Return how the product is looked at where its part is not looked for.

        Crop and mask that lie on the part have no place in the frame.
        """
        return self if self.locator is None else ProductView()


def make_view(
    version: RecipeVersion, public_key: Path | None = None, *, mask: Path | None
) -> ProductView:
    """Return how a version of a recipe looks at its product, so that the next one does it alike.

    Args:
        mask: the file that is in force for it, of the version or of the page; None for that of its
            bundle.

    Raises:
        StationError: bundle or mask cannot be read.
    """
    spec = load_bundle(version.model, public_key).manifest.input
    return ProductView(
        crop=version.content.camera.crop or spec.crop,
        areas=read_mask_file(mask) if mask is not None else spec.areas,
        locator=spec.locator,
    )


@dataclass(frozen=True, slots=True, eq=False)
class CountedPatches:
    """What a mask leaves of an image's patches.

    Attributes:
        cells: ``(P,) bool``.
        areas: what of a map counts, and in which zone.
    """

    cells: NDArray[np.bool_]
    areas: CountedAreas

    def judged(self, raw: RawPrediction) -> RawPrediction:
        """Return a prediction of what counts alone, as it decides about a part."""
        score = common_score(self.areas.scores(raw.anomaly_map[None])).score
        return RawPrediction(score, self.areas.only(raw.anomaly_map))


def counted_patches(spec: InputSpec, output: OutputSpec) -> CountedPatches | None:
    """Return what counts; None where all does.

    Raises:
        AreasUnusable: the mask leaves nothing to inspect.
        FrameUnsuitable: the crop does not lie inside the image that the mask was drawn on.
    """
    if spec.areas is None:
        return None
    frame, grid = (spec.areas.height, spec.areas.width), (output.map_height, output.map_width)
    whole = frame_pieces(frame, spec).whole
    areas = counted_areas(spec, frame, whole, score=output.map_score, map_shape=grid)
    return CountedPatches(counted_tiles(spec, grid)[0].ravel(), areas)
