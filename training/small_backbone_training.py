"""Trains the small backbone on rendered parts other than the demo's, from nothing."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from edge.bundle.input_spec import InputSpec
from edge.imaging.frame import PixelFormat
from edge.inspection.preprocessing import prepare
from training.components.feature_extractor import IMAGENET_MEAN, IMAGENET_STD
from training.components.small_backbone import ResidualBlock, SmallBackbone
from training.data.pasted_defects import KINDS, paste_flaw
from training.data.rendered import Variation, render_part
from training.data.rendered_surface import PartDesign

# Seeds of different purposes never meet: no image the backbone has seen is in the demo.
_STREAM = 1
_CROP_PX = 96
_BATCH = 48
_CROPS_PER_IMAGE = 8

_FLAWS_PER_CROP = 2
_CELLS_FINE, _CELLS_COARSE = _CROP_PX // 8, _CROP_PX // 16
_UNCLEAR = -100
# A pixel counts as flawed from this many grey levels on, a cell from this share of its pixels.
_VISIBLE_LEVELS, _VISIBLE_SHARE = 8, 0.06

Progress = Callable[[int, int, float], None]


def train_small_backbone(
    seed: int = 0,
    *,
    images: int = 240,
    epochs: int = 28,
    progress: Progress | None = None,
) -> SmallBackbone:
    """Train the small backbone to name flaws pasted onto rendered good parts.

    The same seed and thread count give the same weights. 240 images and 28 epochs take about
    four minutes on two cores.

    Args:
        images: rendered parts, each of another design.
        epochs: passes over them; each takes eight fresh crops of an image.
        progress: called with the step, the number of steps and the loss.
    """
    random = np.random.default_rng([seed, _STREAM])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = SmallBackbone(KINDS).train()
        tasks = _Tasks(backbone)
    parts = [_training_image(random) for _ in range(images)]
    steps = max(1, epochs * images * _CROPS_PER_IMAGE // _BATCH)
    optimizer = torch.optim.AdamW(tasks.parameters(), lr=4e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps + 1)
    for step, batch in enumerate(_batches(parts, steps, random), start=1):
        loss = tasks(batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(step, steps, float(loss.detach()))
    balance_stages(backbone.eval(), next(_batches(parts, 1, random)).images)
    return backbone


def balance_stages(backbone: SmallBackbone, images: Tensor) -> None:
    """Give the maps of all stages the same mean length per cell, without changing any answer.

    Anomaly models measure distances over stages laid side by side; unbalanced, the stage with the
    largest numbers would decide alone. What a stage gains, the weights that read it lose; ReLU lets
    a positive factor through.
    """
    first, second, third = backbone.layer1, backbone.layer2, backbone.layer3
    readers: tuple[tuple[ResidualBlock, list[Tensor]], ...] = (
        (first, [*second.main[0].parameters(), *second.past[0].parameters()]),
        (second, [*third.main[0].parameters(), *third.past[0].parameters()]),
        (third, [backbone.head.weight]),
    )
    with torch.no_grad():
        maps = backbone.stem(images)
        for stage, weights in readers:
            maps = stage(maps)
            spread = (maps - maps.mean(dim=(0, 2, 3), keepdim=True)).square().sum(dim=1).mean()
            factor = 1 / spread.sqrt().clamp_min(1e-6)
            maps = maps * factor
            for parameter in (*stage.main[-1].parameters(), *stage.past[-1].parameters()):
                parameter.mul_(factor)
            for weight in weights:
                weight.div_(factor)


def random_design(random: np.random.Generator) -> PartDesign:
    """Draw another turned part: rings, holes and sizes unlike the demo's flange."""
    outer = random.uniform(46, 62)
    bore = random.uniform(0.12, 0.36) * outer
    hub = bore + random.uniform(0.12, 0.22) * outer
    groove = hub + random.uniform(2.5, 6.0)
    hole_radius = random.uniform(2.2, min(6.5, 0.32 * (outer - groove - 3)))
    circle = random.uniform(groove + hole_radius + 3.5, outer - hole_radius - 3.5)
    letters = "".join(random.choice(list("ABCDEFHKLMNPRSTX0123456789- "), 7))
    count = int(random.choice([3, 4, 5, 7, 8]))
    return PartDesign(
        outer_radius=outer,
        bore_radius=bore,
        hub_radius=hub,
        groove_radius=groove,
        hole_circle_radius=circle,
        hole_radius=hole_radius,
        hole_count=count,
        chamfer=random.uniform(0.8, 2.2),
        thickness=random.uniform(5, 18),
        markings=(letters,) if count < 8 else (),
    )


@dataclass(frozen=True, slots=True)
class _Batch:
    """Training crops and, per cell, which flaw lies in it.

    Attributes:
        images: ``(N, 3, H, W) float32``, normalised RGB.
        fine_kinds, coarse_kinds: ``(N, H/8, W/8)`` and ``(N, H/16, W/16) int64``.
    """

    images: Tensor
    fine_kinds: Tensor
    coarse_kinds: Tensor


class _Tasks(nn.Module):
    """What the backbone learns from: naming flaws, and remembering what it saw.

    Naming alone would let the features forget everything that is no pasted flaw; a defect of
    another kind would then look like a good part.
    """

    weight: Tensor

    def __init__(self, backbone: SmallBackbone) -> None:
        super().__init__()
        self.backbone = backbone
        # A second answer from the finer stage: the smallest flaws are gone in the coarsest.
        self.fine_head = nn.Conv2d(64, KINDS, 1)
        self.fine_memory = nn.Conv2d(64, 16, 1)
        self.coarse_memory = nn.Conv2d(128, 16, 1)
        # Most cells are good; they must not drown the others.
        weight = torch.full((KINDS,), 1.0)
        weight[0] = 0.2
        self.register_buffer("weight", weight)

    def forward(self, batch: _Batch) -> Tensor:
        """Return the loss of a batch."""
        backbone = self.backbone
        fine = backbone.layer2(backbone.layer1(backbone.stem(batch.images)))
        coarse = backbone.layer3(fine)
        grey = batch.images.mean(dim=1, keepdim=True)
        return (
            self._named(backbone.head(coarse), batch.coarse_kinds)
            + self._named(self.fine_head(fine), batch.fine_kinds)
            + 2 * F.smooth_l1_loss(self.fine_memory(fine), _blocks(grey, 2))
            + F.smooth_l1_loss(self.coarse_memory(coarse), _blocks(grey, 4))
        )

    def _named(self, logits: Tensor, kinds: Tensor) -> Tensor:
        return F.cross_entropy(logits, kinds, self.weight, ignore_index=_UNCLEAR)


def _blocks(grey: Tensor, shrink: int) -> Tensor:
    """Average by ``shrink``, then put 4×4 neighbours into channels: ``(N, 16, h, w)``."""
    return F.pixel_unshuffle(F.avg_pool2d(grey, shrink), 4)


def _training_image(random: np.random.Generator) -> NDArray[np.uint8]:
    """Render a part of any design in any light, at a size near the model's input."""
    variation = Variation(shift_mm=8, scale=0.15, lamp_deg=180, lamp_strength=0.4, exposure=0.2)
    part = render_part(random, design=random_design(random), variation=variation)
    height, width = (int(side) for side in random.integers(224, 320, 2))
    spec = InputSpec(height=height, width=width, pixel_formats=(PixelFormat.BGR8,))
    return prepare(part.pixels, spec)


def _batches(
    parts: list[NDArray[np.uint8]], steps: int, random: np.random.Generator
) -> Iterator[_Batch]:
    mean = 255 * torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    deviation = 255 * torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    for _ in range(steps):
        crops, fine, coarse = [], [], []
        for part in random.integers(len(parts), size=_BATCH):
            crop, fine_kinds, coarse_kinds = _flawed(_crop(parts[part], random), random)
            crops.append(_jittered(crop, random))
            fine.append(fine_kinds)
            coarse.append(coarse_kinds)
        rgb = torch.from_numpy(np.stack(crops)).flip(3).permute(0, 3, 1, 2)
        yield _Batch(
            (rgb.float() - mean) / deviation,
            torch.from_numpy(np.stack(fine)),
            torch.from_numpy(np.stack(coarse)),
        )


def _flawed(
    crop: NDArray[np.uint8], random: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Paste flaws into a crop and tell which lies in which cell, fine and coarse."""
    fine = np.zeros((_CELLS_FINE, _CELLS_FINE), np.int64)
    coarse = np.zeros((_CELLS_COARSE, _CELLS_COARSE), np.int64)
    for kind in random.integers(KINDS, size=_FLAWS_PER_CROP):
        flawed = paste_flaw(crop, int(kind), random)
        blue, green, red = cv2.split(cv2.absdiff(crop, flawed))
        visible = cv2.max(cv2.max(blue, green), red) >= _VISIBLE_LEVELS
        for cells in (fine, coarse):
            share = cv2.resize(
                visible.astype(np.float32), cells.shape[::-1], interpolation=cv2.INTER_AREA
            )
            cells[share > 0] = _UNCLEAR
            cells[share >= _VISIBLE_SHARE] = kind
        crop = flawed
    return crop, fine, coarse


def _crop(part: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    top, left = (int(random.integers(side - _CROP_PX + 1)) for side in part.shape[:2])
    crop = part[top : top + _CROP_PX, left : left + _CROP_PX]
    crop = np.rot90(crop, int(random.integers(4)))
    return np.ascontiguousarray(crop[:, ::-1] if random.random() < 0.5 else crop)


def _jittered(crop: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Change contrast, brightness and noise, which must not matter; take away colour at times."""
    contrast, brightness = random.uniform(0.75, 1.3), random.uniform(-20, 20)
    changed = crop.astype(np.float32) * np.float32(contrast) + np.float32(brightness)
    if random.random() < 0.5:
        # Else colour alone would solve the task, and bare metal has none.
        changed = cv2.cvtColor(cv2.cvtColor(changed, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    noise = random.standard_normal(crop.shape, dtype=np.float32)
    changed += noise * np.float32(random.uniform(0, 4))
    return np.clip(np.rint(changed), 0, 255).astype(np.uint8)
