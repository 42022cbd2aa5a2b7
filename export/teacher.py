"""From a backbone to a teacher: features, and PatchCore's head with a bank that is exchanged."""

import hashlib
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import openvino as ov
import torch
from torch import Tensor, nn

import edge
from edge.atomic_files import check_writable, write_all
from edge.bundle.manifest import Identity, InputSpec, OutputSpec, VerifiedFiles, plain_text
from edge.bundle.teacher import (
    AXES,
    BANK,
    CENTRE,
    FEATURES,
    IMAGE,
    MAP,
    SCORE,
    TeacherHead,
    TeacherManifest,
)
from edge.errors import ConfigurationError
from edge.imaging.frame import PixelFormat
from edge.teaching.golden_features import golden_features
from edge.teaching.ir import serialized
from edge.teaching.teacher_graph import TeacherGraph
from export.bundle import bundle_files, bundle_name, manifest_text
from export.errors import GateFailed
from export.gate import Images, probe_images
from export.ir import layers_of, onnx_of, to_openvino
from training.components.backbones import find_weights
from training.models.building import build_model, make_settings
from training.models.patchcore import PatchCore, PatchCoreSettings

_ALGORITHM = "patchcore"
_MAKERS = ("torch", "onnx", "openvino")
_EIGHT_BITS = tuple(sorted(known for known in PixelFormat if not known.is_16_bit))
# Of torch's features, in shares of their largest.
_PARITY = 1e-4

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherRequest:
    """What is asked of a teacher.

    Attributes:
        backbone: its name.
        weights: a file, ``cache`` or ``download``.
        licence: terms of weights from a file.
        size: height and width of its input.
        precision: number format of the weights.
        hyperparameters: of PatchCore, as those of a fit.
    """

    backbone: str
    weights: str
    licence: str | None = None
    size: tuple[int, int] = (256, 256)
    precision: str = "fp32"
    hyperparameters: dict[str, Any] = field(default_factory=dict)


class TeacherNetwork(nn.Module):
    """PatchCore whose bank comes with the images."""

    def __init__(self, model: PatchCore) -> None:
        """Take an unfitted model."""
        super().__init__()
        self.model = model
        self.head = _Head(model)

    def forward(
        self, images: Tensor, axes: Tensor, centre: Tensor, bank: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores, maps and features of images."""
        layers = self.model.pooled(images)
        buffers = {"model.axes": axes, "model.bank_centre": centre, "model.bank": bank}
        score, anomaly_map = torch.func.functional_call(self.head, buffers, (layers,))
        return score, anomaly_map, self.model.joined(layers)


class _Head(nn.Module):
    """What of PatchCore follows its features."""

    def __init__(self, model: PatchCore) -> None:
        super().__init__()
        self.model = model

    def forward(self, layers: list[Tensor]) -> tuple[Tensor, Tensor]:
        score, anomaly_map = self.model.judge(layers)
        return score, anomaly_map


def export_teacher(output: Path, request: TeacherRequest) -> TeacherManifest:
    """Convert, compare with torch, write ``NAME.xml``, ``NAME.bin`` and ``NAME.json``.

    Args:
        output: path of the ``.xml``.

    Raises:
        StationError: a setting, the weights or the images cannot be used, or the graph gives other
            features than torch; nothing is written.
    """
    files = bundle_files(output)
    for path in files:
        check_writable(path)
    settings = make_settings(_ALGORITHM, request.hyperparameters)
    _check_settings(settings)
    weights = find_weights(request.backbone, request.weights, request.licence)
    model = build_model(
        _ALGORITHM, request.backbone, weights, request.size, settings=settings, seed=0
    )
    assert isinstance(model, PatchCore)
    log.info("converting %s", request.backbone)
    graph, _ = _graph(model, request.size)
    xml, weights_bytes = serialized(graph)
    spec = InputSpec(height=request.size[0], width=request.size[1], pixel_formats=_EIGHT_BITS)
    manifest = TeacherManifest.model_construct(
        identity=Identity(
            name=bundle_name(output),
            algorithm=_ALGORITHM,
            backbone=request.backbone,
            weights_licence=plain_text(weights.licence),
            created=datetime.now(UTC).replace(microsecond=0),
            made_with={"inspection-station": edge.__version__}
            | {maker: version(maker) for maker in _MAKERS},
            xml_sha256=hashlib.sha256(xml).hexdigest(),
            bin_sha256=hashlib.sha256(weights_bytes).hexdigest(),
            xml_bytes=len(xml),
            bin_bytes=len(weights_bytes),
        ),
        input=spec,
        output=OutputSpec(
            map_height=model.grid[0],
            map_width=model.grid[1],
            image_score=True,
            map_score=model.map_score,
        ),
        head=TeacherHead(
            layers=settings.layers,
            width=model.width,
            bank_size=settings.bank_size,
            variance=settings.variance,
            search_components=settings.search_components,
            score=settings.score,
            sigma=settings.sigma,
        ),
        weights=request.precision,
    )
    features = TeacherGraph(
        VerifiedFiles(manifest=manifest, sha256="", xml=xml, weights=weights_bytes, path=output),
        threads=0,
    ).features()
    if request.precision == "fp32":
        _demand_parity(model, features, probe_images(spec))
    finished = TeacherManifest.model_validate(
        manifest.model_dump() | {"self_test": golden_features(features, spec, request.precision)}
    )
    write_all(list(zip(files, (xml, weights_bytes, manifest_text(finished)), strict=True)))
    return finished


def _check_settings(settings: PatchCoreSettings) -> None:
    if settings.score != "map" or settings.variance >= 1.0:
        raise ConfigurationError(
            "--teacher: only score=map with a variance below 1 can be taught at a station. Leave "
            "both as they are."
        )


def _graph(model: PatchCore, size: tuple[int, int]) -> tuple[ov.Model, dict[str, str]]:
    """Return the FP32 graph with a batch of one, and the layer of each of its operations."""
    width, count = model.width, model.settings.bank_size
    with TemporaryDirectory() as folder:
        path = Path(folder) / "teacher.onnx"
        onnx_of(
            TeacherNetwork(model).eval(),
            (
                torch.zeros(2, *size, 3, dtype=torch.uint8),
                torch.zeros(width, width),
                torch.zeros(width),
                torch.zeros(count, width),
            ),
            (IMAGE, AXES, CENTRE, BANK),
            (SCORE, MAP, FEATURES),
            path=path,
        )
        graph = to_openvino(path)
        graph.reshape({IMAGE: [1, *size, 3]})
        return graph, layers_of(path)


def _demand_parity(model: PatchCore, features: Any, images: Images) -> None:
    """Demand that a graph gives torch's features.

    Raises:
        GateFailed: it does not.
    """
    for image in images:
        with torch.inference_mode():
            expected = model.embed(torch.from_numpy(image)[None])[0].numpy()
        difference = float(np.abs(features.of(image) - expected).max())
        limit = _PARITY * max(float(np.abs(expected).max()), 1e-6)
        if not difference <= limit:
            raise GateFailed(
                f"gate: the graph's features differ from torch's by {difference:.3g}, allowed "
                f"{limit:.3g}. Nothing was written. Report this with the backbone's name."
            )


def summary(manifest: TeacherManifest, output: Path) -> str:
    """Return what a user wants to know after an export."""
    xml, weights = (path.stat().st_size / 1e6 for path in bundle_files(output)[:2])
    head = manifest.head
    lines = [
        f"{output}: teacher, {manifest.identity.backbone}, {manifest.weights}, IR "
        f"{xml + weights:.1f} MB; input {manifest.input.width}×{manifest.input.height}, patches of "
        f"{head.width} numbers, banks of {head.bank_size}",
    ]
    gate = manifest.gate
    if gate is not None:
        lines.append(
            f"  gate: {gate.images} images of {gate.products} products; INT8 ranks them as FP32 "
            f"does (correlation of ranks {gate.rank_correlation:.3f} or more, AUROC of pasted "
            f"defects at most {gate.auroc_drop:.4f} lower)"
        )
    return "\n".join(lines)
