"""Checkpoints: one safetensors file, its metadata a JSON document.

Loading one runs no code and touches no network.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from edge.atomic_files import write_whole
from edge.bundle.bounds import MAX_NAME_LENGTH
from edge.bundle.input_spec import InputSpec
from edge.bundle.manifest import MapScore, Normalization, ScoreStatistics, Threshold
from edge.bundle.manifest_types import Name, Sha256, Side, Text, Whole, plain_text
from edge.bundle.training_record import Training
from edge.errors import FrameUnsuitable
from edge.inspection.pieces import frame_pieces
from edge.teaching.used_images import HASH_BYTES
from edge.wording import counted
from training.calibration_records import CalibrationRecords, pop_records
from training.errors import CheckpointError, SettingError
from training.models.anomaly_model import AnomalyModel
from training.models.building import adopt_tensors, build_model, kept_settings
from training.seen_images import SeenImages, pop_seen
from training.tensor_hash import demand_layout, pop_tensor, tensors_sha256
from training.zone_scores import ZoneScores

SCHEMA: Literal["checkpoint/1"] = "checkpoint/1"

# Far above any fit; a sparse file may say it has terabytes.
_MAX_BYTES = 16 * 2**30
# Of what fits write.
_TYPES = frozenset(
    {torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.int16}
    | {torch.int8, torch.uint8, torch.bool}
)

_IMAGES = "validation.pictures"
_DEFECTIVE = "validation.defective"
_HASHES = "validation.hashes"
_FRAMES = "validation.frames"
_CALIBRATION = "calibration.pictures"


class Description(BaseModel):
    """Everything about a fitted model but its tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    algorithm: Text
    backbone: Text
    weights_licence: Text
    settings: dict[Name, bool | Whole | float | Text | tuple[Text, ...]] = Field(max_length=1000)
    seed: Whole
    input: InputSpec
    map_height: Side
    map_width: Side
    normalization: Normalization
    threshold: Threshold
    statistics: ScoreStatistics
    training: Training
    map_score: MapScore | None = None

    @property
    def map_shape(self) -> tuple[int, int]:
        return self.map_height, self.map_width


class _Document(BaseModel):
    """What the file's metadata holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal["checkpoint/1"] = SCHEMA
    tensors_sha256: Sha256
    description: Description


@dataclass(frozen=True, slots=True, eq=False)
class ValidationImages:
    """Prepared validation images that travel with the model, so that export can prove itself.

    Attributes:
        images: ``(P, H, W, 3) uint8`` BGR: N images, at most 256, or of images that are inspected
            in tiles all tiles of each.
        defective: ``(N,) bool``.
        hashes: ``(N, 16) uint8``, what each is known by.
        frames: ``(N, 2) int32``, heights and widths of images in tiles; None of whole ones, and
            where one tile of each is kept, as earlier versions did.
    """

    images: NDArray[np.uint8]
    defective: NDArray[np.bool_]
    hashes: NDArray[np.uint8]
    frames: NDArray[np.int32] | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Checkpoint:
    """A fitted, calibrated model, its description and its evidence.

    Attributes:
        calibration: ``(N, H, W, 3) uint8`` prepared good images of the fit, N at most 64, for
            quantization.
        records: the images that the thresholds rest on.
        seen: which images it was fitted, calibrated and is quantized with.
        zones: what good images score in each zone, of a calibration just now; it is not written.
    """

    model: AnomalyModel
    description: Description
    validation: ValidationImages
    calibration: NDArray[np.uint8]
    records: CalibrationRecords
    seen: SeenImages
    zones: tuple[ZoneScores, ...] = ()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint whole or not at all. The same model gives the same bytes.

    Raises:
        OutputNotWritable: folder or disk refused it.
    """
    tensors = {name: t.contiguous().cpu() for name, t in checkpoint.model.state_dict().items()}
    tensors[_IMAGES] = torch.from_numpy(checkpoint.validation.images)
    tensors[_DEFECTIVE] = torch.from_numpy(checkpoint.validation.defective)
    tensors[_HASHES] = torch.from_numpy(checkpoint.validation.hashes)
    if checkpoint.validation.frames is not None:
        tensors[_FRAMES] = torch.from_numpy(checkpoint.validation.frames)
    tensors[_CALIBRATION] = torch.from_numpy(checkpoint.calibration)
    tensors |= checkpoint.records.tensors() | checkpoint.seen.tensors()
    document = _Document(tensors_sha256=tensors_sha256(tensors), description=checkpoint.description)
    write_whole(path, save(tensors, {"checkpoint": document.model_dump_json()}))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: missing, damaged, not ours, or of another version.
    """
    metadata, tensors = _read(path)
    document = _parse(path, metadata.get("checkpoint"))
    if tensors_sha256(tensors) != document.tensors_sha256:
        raise CheckpointError(
            f"{path}: damaged, its tensors do not match their SHA-256. Copy it again or fit again."
        )
    description = document.description
    image = (description.input.height, description.input.width)
    try:
        validation = _pop_validation(tensors, description.input)
        calibration = _images(pop_tensor(tensors, _CALIBRATION), _CALIBRATION, image)
        records = pop_records(tensors)
        seen = pop_seen(tensors)
        settings = kept_settings(description.algorithm, dict(description.settings))
        model = build_model(
            description.algorithm,
            description.backbone,
            None,
            image,
            settings=settings,
            seed=description.seed,
        )
        adopt_tensors(model, tensors)
        _try(model, image)
    except (SettingError, CheckpointError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    except MemoryError:
        raise
    except Exception as error:
        # What a model is built of was not made by a fit: it fails in any way its layers like.
        first_line = next(iter(str(error).splitlines()), "")
        raise CheckpointError(
            f"{path}: no {description.algorithm} can be built and run from its numbers "
            f"({type(error).__name__}: {first_line[:200]}). Fit the model again."
        ) from error
    if model.grid != (description.map_height, description.map_width):
        raise CheckpointError(
            f"{path}: its map is {description.map_width}×{description.map_height}, this version's "
            f"{description.algorithm} gives {model.grid[1]}×{model.grid[0]}. It was made by "
            "another version; fit again."
        )
    return Checkpoint(
        model=model,
        # 0.2.0 did not write it down.
        description=description.model_copy(update={"map_score": model.map_score}),
        validation=validation,
        calibration=calibration,
        records=records,
        seen=seen,
    )


def _read(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Read metadata and tensors of a file, as far as they can be ours."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file. Give what train-station fit wrote.")
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise CheckpointError(
                f"{path}: {size} bytes; a checkpoint has at most {_MAX_BYTES}. "
                "Give the .safetensors file that train-station fit wrote."
            )
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: cannot be read as a checkpoint ({error}). "
            "Give the .safetensors file that train-station fit wrote."
        ) from error
    for name, tensor in tensors.items():
        if tensor.dtype not in _TYPES:
            raise CheckpointError(
                f"{path}: its tensor {plain_text(name, MAX_NAME_LENGTH)!r} is {tensor.dtype}, "
                "which no fit writes. Give the .safetensors file that train-station fit wrote."
            )
    return metadata, tensors


def _pop_validation(tensors: dict[str, torch.Tensor], spec: InputSpec) -> ValidationImages:
    images = _images(pop_tensor(tensors, _IMAGES), _IMAGES, (spec.height, spec.width))
    defective, hashes = pop_tensor(tensors, _DEFECTIVE), pop_tensor(tensors, _HASHES)
    count, frames = len(images), None
    if _FRAMES in tensors:
        tensor = pop_tensor(tensors, _FRAMES)
        count = len(tensor) if tensor.ndim else 0
        demand_layout(_FRAMES, tensor, torch.int32, (count, 2))
        frames = np.asarray(tensor.numpy())
        _demand_tiles(frames, len(images), spec)
    demand_layout(_DEFECTIVE, defective, torch.bool, (count,))
    demand_layout(_HASHES, hashes, torch.uint8, (count, HASH_BYTES))
    return ValidationImages(images, defective.numpy(), hashes.numpy(), frames)


def _demand_tiles(frames: NDArray[np.int32], count: int, spec: InputSpec) -> None:
    """Demand that images of these sizes have as many tiles as are there."""
    try:
        found = sum(len(frame_pieces((int(h), int(w)), spec).boxes) for h, w in frames)
    except FrameUnsuitable as error:
        raise CheckpointError(f"its {_FRAMES}: {error} Fit the model again.") from error
    if found != count:
        raise CheckpointError(
            f"its {_FRAMES} are of {counted(found, 'tile')}, but {count} are there. Fit the "
            "model again."
        )


def _images(tensor: torch.Tensor, name: str, image: tuple[int, int]) -> NDArray[np.uint8]:
    count = len(tensor) if tensor.ndim else 0
    demand_layout(name, tensor, torch.uint8, (count, *image, 3))
    return np.asarray(tensor.numpy())


def _try(model: AnomalyModel, image: tuple[int, int]) -> None:
    """Run a model once: tensors may have shapes that only their use shows to be wrong."""
    with torch.inference_mode():
        model(torch.zeros((1, *image, 3), dtype=torch.uint8))


def _parse(path: Path, text: str | None) -> _Document:
    if text is None:
        raise CheckpointError(
            f"{path}: holds tensors, but no description. These may be backbone weights; "
            "a checkpoint is what train-station fit writes."
        )
    try:
        version = json.loads(text).get("schema_version")
        if version != SCHEMA:
            raise CheckpointError(
                f"{path}: schema {plain_text(str(version), 50)!r}, this version reads {SCHEMA!r}. "
                "Fit the model again."
            )
        return _Document.model_validate_json(text)
    except ValidationError as error:
        fault = error.errors()[0]
        key = plain_text(".".join(str(part) for part in fault["loc"]), MAX_NAME_LENGTH)
        raise CheckpointError(
            f"{path}: its description is damaged ({key}: {fault['msg']}). Fit the model again."
        ) from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: its description is damaged ({error}). Fit the model again."
        ) from error
