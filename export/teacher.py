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
from edge.bundle.input_spec import InputSpec
from edge.bundle.loading import VerifiedFiles
from edge.bundle.manifest import Identity, OutputSpec
from edge.bundle.manifest_types import plain_text
from edge.bundle.teacher import (
    AXES,
    BANK,
    CENTRE,
    FEATURES,
    IMAGE,
    MAP,
    SCORE,
    Teacher,
    TeacherHead,
    TeacherManifest,
)
from edge.errors import ConfigurationError
from edge.imaging.frame import PixelFormat
from edge.teaching.golden_features import golden_features
from edge.teaching.ir import serialized
from edge.teaching.teacher_graph import TeacherGraph
from edge.wording import counted
from export.bundle import bundle_files, bundle_name, manifest_text
from export.errors import GateFailed
from export.ir import make_onnx, read_layers, to_openvino, without_notes
from export.parity_gate import Images, probe_images
from export.quantization import Quantizable, QuantizationRecipe, quantize, within
from export.teacher_gate import GateImages, demand_alike, range_images
from training.components.backbones import find_weights
from training.models.building import build_model, make_settings
from training.models.patchcore import PatchCore, PatchCoreSettings

_ALGORITHM = "patchcore"
# Of the network that is exported.
_BACKBONE = "model.extractor"
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
        precision: number format of the weights, ``int8`` or ``fp32``.
        gate: images that an INT8 teacher is made and judged with.
        hyperparameters: of PatchCore, as those of a fit.
    """

    backbone: str
    weights: str
    licence: str | None = None
    size: tuple[int, int] = (256, 256)
    precision: str = "int8"
    gate: GateImages = field(default_factory=GateImages)
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
        layers = self.model.extractor(images)
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
    graph, layers = _graph(model, request.size)
    teacher = _finished(model, graph, request, weights.licence, path=output)
    if request.precision == "int8":
        teacher = _rounded(model, graph, layers, request, reference=teacher)
    manifest = teacher.manifest
    contents = (teacher.xml, teacher.weights, manifest_text(manifest))
    write_all(list(zip(files, contents, strict=True)))
    return manifest


def _finished(
    model: PatchCore, graph: ov.Model, request: TeacherRequest, licence: str, *, path: Path
) -> Teacher:
    """Describe a graph in FP32, which gives torch's features.

    Raises:
        GateFailed: it gives others.
    """
    xml, weights = serialized(graph.clone())  # which names operations anew
    settings = model.settings
    spec = InputSpec(height=request.size[0], width=request.size[1], pixel_formats=_EIGHT_BITS)
    manifest = TeacherManifest.model_construct(
        identity=Identity(
            name=bundle_name(path),
            algorithm=_ALGORITHM,
            backbone=request.backbone,
            weights_licence=plain_text(licence),
            created=datetime.now(UTC).replace(microsecond=0),
            made_with={"inspection-station": edge.__version__}
            | {maker: version(maker) for maker in _MAKERS},
            **_hashes(xml, weights),
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
            search_candidates=settings.search_candidates,
            search_block=settings.search_block,
            score="map",  # _check_settings
            sigma=settings.sigma,
        ),
        weights="fp32",
    )
    described = _teacher(manifest, xml, weights, path)
    features = TeacherGraph(described, threads=0).features()
    _demand_parity(model, features, probe_images(spec))
    return _with_self_test(described)


def _rounded(
    model: PatchCore,
    graph: ov.Model,
    layers: dict[str, str],
    request: TeacherRequest,
    *,
    reference: Teacher,
) -> Teacher:
    """Quantize the backbone; what compares with the bank stays in floating point.

    Raises:
        GateFailed: it ranks the images of products otherwise than the reference.
    """
    log.info("quantizing %s", request.backbone)
    spec, head = reference.manifest.input, reference.manifest.head
    # The head holds the model, too, and so its weights may go by that name.
    layers = {name: path.removeprefix("head.") for name, path in layers.items() if path != "head"}
    subject = Quantizable(graph, layers, tuple(sorted(_outside_backbone(layers))))
    random = np.random.default_rng(0)
    beside = {
        AXES: np.eye(head.width, dtype=np.float32),
        CENTRE: np.zeros(head.width, np.float32),
        BANK: random.standard_normal((head.bank_size, head.width)).astype(np.float32),
    }
    # Means need no correction: the bank is made of the same features.
    recipe = QuantizationRecipe(bias_correction=False, mean_correction=False)
    quantized = quantize(subject, range_images(spec, request.gate), recipe, beside)
    without_notes(quantized)
    xml, weights = serialized(quantized)
    identity = reference.manifest.identity
    made_with = identity.made_with | {"nncf": version("nncf")}
    manifest = reference.manifest.model_copy(
        update={
            "identity": identity.model_copy(
                update={"made_with": made_with, **_hashes(xml, weights)}
            ),
            "weights": "int8",
        }
    )
    log.info("comparing INT8 with FP32")
    rounded = _teacher(manifest, xml, weights, reference.path)
    gate = demand_alike(reference, rounded, request.gate)
    manifest = manifest.model_copy(update={"gate": gate})
    return _with_self_test(_teacher(manifest, xml, weights, reference.path))


def _outside_backbone(layers: dict[str, str]) -> set[str]:
    """Return the modules beside the backbone; those that hold it are left out."""
    return {
        path
        for path in layers.values()
        if path and not within(path, (_BACKBONE,)) and not within(_BACKBONE, (path,))
    }


def _teacher(manifest: TeacherManifest, xml: bytes, weights: bytes, path: Path) -> Teacher:
    return VerifiedFiles(manifest=manifest, sha256="", xml=xml, weights=weights, path=path)


def _hashes(xml: bytes, weights: bytes) -> dict[str, Any]:
    return {
        "xml_sha256": hashlib.sha256(xml).hexdigest(),
        "bin_sha256": hashlib.sha256(weights).hexdigest(),
        "xml_bytes": len(xml),
        "bin_bytes": len(weights),
    }


def _with_self_test(teacher: Teacher) -> Teacher:
    """Return a teacher whose manifest says what its features are; checked as a reader does."""
    manifest = teacher.manifest
    features = TeacherGraph(teacher, threads=0).features()
    golden = golden_features(features, manifest.input, manifest.weights)
    finished = TeacherManifest.model_validate(manifest.model_dump() | {"self_test": golden})
    return _teacher(finished, teacher.xml, teacher.weights, teacher.path)


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
        make_onnx(
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
        return graph, read_layers(path)


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
        f"{counted(head.width, 'number')}, banks of {head.bank_size}",
    ]
    gate = manifest.gate
    if gate is not None:
        lines.append(
            f"  gate: {counted(gate.images, 'image')} of {counted(gate.products, 'product')}; "
            "INT8 ranks them as FP32 "
            f"does (correlation of ranks {gate.rank_correlation:.3f} or more, AUROC of pasted "
            f"defects at most {gate.auroc_drop:.4f} lower)"
        )
    return "\n".join(lines)
