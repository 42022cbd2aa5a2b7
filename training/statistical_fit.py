"""One-pass fit of statistical models."""

import logging
from collections.abc import Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from edge.bundle.input_spec import InputSpec
from edge.imaging.frame import PixelFormat
from edge.inspection.areas import counted_tiles
from edge.wording import counted
from training.data.kept_images import KeptImages
from training.data.loading import prepared_batches
from training.data.samples import Sample
from training.models.anomaly_model import StatisticalModel
from training.out_of_memory import naming_settings

BATCH_SIZE = 16

log = logging.getLogger(__name__)


def fit_statistical(
    model: StatisticalModel,
    samples: Sequence[Sample],
    spec: InputSpec,
    device: torch.device,
    *,
    kept: KeptImages | None = None,
) -> tuple[PixelFormat, ...]:
    """Fit a model to good images in one pass.

    Args:
        samples: good images.
        spec: input size, crop, levels and the formats that are let in.
        kept: prepared images that were needed before.

    Returns:
        The pixel formats that were met, for the manifest.

    Raises:
        DataError: an image cannot be used; names the file.
        OutOfMemory: names the settings to lower.
    """
    log.info(
        "fitting %s on %s; needs about %d MiB beside the network",
        type(model).__name__,
        counted(len(samples), "image"),
        model.fit_memory_bytes() / 2**20,
    )
    formats: set[PixelFormat] = set()
    model.to(device)
    images = len(samples) if spec.tile_plan is None else None
    unit = "image" if spec.tile_plan is None else "tile"
    with torch.inference_mode(), naming_settings(model.memory_settings):
        with tqdm(total=images, desc="features", unit=unit) as bar:
            learning = Learning(model, spec, device)
            for batch in prepared_batches(samples, spec, BATCH_SIZE, formats, kept=kept):
                learning.learn(batch)
                bar.update(len(batch))
        steps = model.finish_steps()
        with tqdm(total=steps, desc="finish", disable=steps == 0) as bar:
            model.finish(bar.update)
    return tuple(sorted(formats))


class Learning:
    """Gives a model the images to learn from, each with what of it counts."""

    def __init__(self, model: StatisticalModel, spec: InputSpec, device: torch.device) -> None:
        self._model = model
        self._device = device
        self._counted: Tensor | None = None
        if spec.areas is not None:
            self._counted = torch.from_numpy(counted_tiles(spec, model.grid)).to(device)
        self._learned = 0

    def learn(self, batch: Tensor) -> None:
        """Learn from ``(N, H, W, 3) uint8`` images or tiles, which come in the order of tiles."""
        counted = None
        if self._counted is not None:
            # A mask is for images of one size, so all have as many tiles.
            tiles = torch.arange(self._learned, self._learned + len(batch)) % len(self._counted)
            counted = self._counted[tiles.to(self._device)]
        self._learned += len(batch)
        self._model.learn(batch.to(self._device), counted)
