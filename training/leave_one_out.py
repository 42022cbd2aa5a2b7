"""Which of the good images look least like the others: defects that slipped in among them.

Every image is compared with all others, place by place. A fitted model cannot tell: it has
learned the defect, too; and cross-validation of a large set would multiply the time of a fit.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from edge.bundle.input_spec import InputSpec
from edge.teaching.outliers import MIN_FOR_OUTLIERS, far_above
from training.components.feature_extractor import FeatureExtractor
from training.components.random_projection import SparseRandomProjection
from training.components.remembered_features import RememberedFeatures
from training.data.kept_images import KeptImages
from training.data.loading import prepared_batches
from training.data.samples import Sample

# Rows and columns that features are compared at, or as many as they have.
_GRID = 16
_WIDTH = 48
_BATCH_SIZE = 16

# More images are compared in parts of this size, which bounds memory at 100 MB.
MAX_TOGETHER = 2_000
# Comparing says nothing among fewer.
MIN_IMAGES = MIN_FOR_OUTLIERS

# Side of the cells that colours and contrasts are taken of, in pixels.
_CELL = 8

# An image's places that are averaged: one odd value is noise, a defect covers a few.
_PLACES = 4


def suspicious_good(
    extractor: FeatureExtractor | RememberedFeatures | None,
    samples: Sequence[Sample],
    spec: InputSpec,
    device: torch.device,
    *,
    kept: KeptImages | None = None,
) -> list[Sample]:
    """Return the good images that lie far from all others, the strangest first.

    Args:
        extractor: of the model; None of one without a backbone, colours and contrasts are then
            compared.
        samples: good images. Those that are inspected in tiles are compared whole.
        kept: prepared images that the fit needs, too.

    Raises:
        DataError: an image cannot be used; names the file.
    """
    plain = [sample for sample in samples if sample.view is None]
    whole = spec.model_copy(update={"tile_plan": None})
    scores = leave_one_out_scores(extractor or Contrasts(), plain, whole, device, kept=kept)
    return [plain[index] for index in far_above(scores)]


class Contrasts(nn.Module):
    """Mean and deviation of each colour in cells of 8×8 pixels: features without a backbone."""

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return ``(N, 6, H / 8, W / 8) float32`` of ``(N, H, W, 3) uint8`` images."""
        colours = images.permute(0, 3, 1, 2).float() / 255.0
        side = min(_CELL, *colours.shape[2:])
        mean = F.avg_pool2d(colours, side)
        squares = F.avg_pool2d(colours.square(), side) - mean.square()
        return [torch.cat([mean, squares.clamp(min=0.0).sqrt()], 1)]


def leave_one_out_scores(
    extractor: nn.Module,
    samples: Sequence[Sample],
    spec: InputSpec,
    device: torch.device,
    *,
    kept: KeptImages | None = None,
) -> NDArray[np.float32]:
    """Return how far each image lies from its nearest other one, at the places farthest off.

    Args:
        extractor: of the fitted model.
        samples: ``(N,)`` good images; not in tiles.
        kept: prepared images that the fit needs, too.

    Returns:
        ``(N,)``, relative to what is usual; 1 is usual, higher is stranger.

    Raises:
        DataError: an image cannot be used; names the file.
    """
    extractor = extractor.to(device)
    parts = [
        samples[start : start + MAX_TOGETHER] for start in range(0, len(samples), MAX_TOGETHER)
    ]
    found = [_of_part(_features(extractor, part, spec, device, kept=kept)) for part in parts]
    return np.concatenate(found) if found else np.zeros(0, np.float32)


def _features(
    extractor: nn.Module,
    samples: Sequence[Sample],
    spec: InputSpec,
    device: torch.device,
    *,
    kept: KeptImages | None,
) -> Tensor:
    """Return ``(N, P, 48) float16`` features of the deepest layer at P places."""
    projection: SparseRandomProjection | None = None
    found = []
    batches = prepared_batches(samples, spec, _BATCH_SIZE, set(), kept=kept)
    with torch.inference_mode(), tqdm(total=len(samples), desc="compare", unit="image") as bar:
        for batch in batches:
            features = extractor(batch.to(device))[-1]
            side = tuple(min(_GRID, length) for length in features.shape[2:])
            places = F.adaptive_avg_pool2d(features, side).flatten(2).transpose(1, 2)
            if projection is None:
                projection = SparseRandomProjection(places.shape[2], _WIDTH)
            found.append(projection.project(places).to("cpu", torch.float16))
            bar.update(len(batch))
    return torch.cat(found)


def _of_part(features: Tensor) -> NDArray[np.float32]:
    count, places, _ = features.shape
    if count < MIN_IMAGES:
        return np.ones(count, np.float32)
    nearest = torch.empty(count, places)
    for place in range(places):
        values = features[:, place].float()
        distances = torch.cdist(values, values)
        nearest[:, place] = distances.fill_diagonal_(float("inf")).amin(1)
    # Of all places: relative to its own, noise at a place that hardly varies would look strange.
    usual = nearest.median().clamp_min(1e-6)
    strangest = (nearest / usual).topk(min(_PLACES, places), dim=1).values
    return strangest.mean(1).numpy()
