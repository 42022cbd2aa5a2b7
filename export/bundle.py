"""From a checkpoint to a model bundle on disk."""

import hashlib
import logging
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import edge
from edge.errors import ConfigurationError
from edge.files import check_writable, write_all
from edge.inspection.detector import Detector, Network
from edge.inspection.normalization import score_scale
from edge.inspection.self_test import golden_scores
from edge.manifest import Bundle, GateReport, Identity, Manifest, OutputSpec, Precision
from export.engines import onnx_engine, openvino_engine, torch_engine
from export.gate import Budget, Validation, parity
from export.ir import ir_bytes, to_onnx, to_openvino
from training.checkpoint import Checkpoint

# What the manifest allows.
LONGEST_NAME = 100

_MAKERS = ("torch", "onnx", "onnxruntime", "openvino")

log = logging.getLogger(__name__)


def export_bundle(checkpoint: Checkpoint, output: Path, budget: Budget = Budget()) -> Manifest:
    """Convert, pass the gate, write ``NAME.xml``, ``NAME.bin`` and ``NAME.json``.

    Args:
        output: path of the ``.xml``.

    Raises:
        ConfigurationError: not the name of a bundle.
        GateFailed: the IR gives other numbers than the checkpoint; nothing is written.
        ConversionFailed: an operation cannot be exported.
        OutputNotWritable: folder or disk refused a file.
    """
    files = bundle_files(output)
    for path in files:
        check_writable(path)
    description = checkpoint.description
    height, width = description.input.height, description.input.width
    with TemporaryDirectory() as folder:
        onnx = Path(folder) / "model.onnx"
        log.info("converting %s", description.algorithm)
        to_onnx(checkpoint.model, height, width, onnx)
        xml, weights = ir_bytes(to_openvino(onnx), height, width)
        log.info("parity gate: torch, ONNX Runtime, OpenVINO")
        started = time.monotonic()
        report = parity(
            torch_engine(checkpoint.model),
            {"ONNX Runtime": onnx_engine(onnx), "OpenVINO": openvino_engine(xml, weights, "f32")},
            "OpenVINO",
            description.input,
            Validation(checkpoint.validation.pictures, checkpoint.validation.defective),
            description.threshold.image,
            score_scale(description.threshold.image, description.normalization.image).range,
            budget,
        )
    log.info("gate passed on %d pictures in %.0f s", report.pictures, time.monotonic() - started)
    manifest = with_self_test(
        _manifest(checkpoint, output.stem, xml, weights, "fp32", report), xml, weights
    )
    # The manifest last: until it is there, the hashes of the others match nothing.
    write_all(list(zip(files, (xml, weights, manifest_text(manifest)), strict=True)))
    return manifest


def with_self_test(manifest: Manifest, xml: bytes, weights: bytes) -> Manifest:
    """Return the manifest with golden scores, taken from these files as the runtime runs them.

    Raises:
        BundleError, ModelError: the runtime cannot use the files.
    """
    bundle = Bundle(manifest, "", xml, weights, Path(f"{manifest.identity.name}.xml"))
    scores = golden_scores(Detector(Network(bundle)), manifest)
    return manifest.model_copy(update={"self_test": scores})


def manifest_text(manifest: Manifest) -> bytes:
    """Return a manifest as it is written."""
    return manifest.model_dump_json(indent=2).encode() + b"\n"


def bundle_files(output: Path) -> tuple[Path, Path, Path]:
    """Return the paths of ``NAME.xml``, ``NAME.bin`` and ``NAME.json``.

    Raises:
        ConfigurationError: not the name of a bundle.
    """
    if output.suffix != ".xml":
        raise ConfigurationError(f"{output}: the bundle's name must end in .xml.")
    if len(output.stem) > LONGEST_NAME:
        raise ConfigurationError(
            f"{output}: the bundle's name has {len(output.stem)} characters, {LONGEST_NAME} are "
            "allowed."
        )
    return output, output.with_suffix(".bin"), output.with_suffix(".json")


def summary(manifest: Manifest, output: Path) -> str:
    """Return what a user wants to know after an export."""
    gate = manifest.precision.gate
    size = sum(path.stat().st_size for path in bundle_files(output)) / 2**20
    lines = [
        f"{output}: {manifest.identity.algorithm} {manifest.identity.backbone}, "
        f"{manifest.precision.weights}, {size:.1f} MiB",
        f"  gate: {gate.pictures} pictures, largest score difference "
        f"{gate.largest_score_difference:.1e} of the spread, smallest map correlation "
        f"{gate.smallest_map_correlation:.6f}, verdict flips {gate.verdict_flips:.1%}",
    ]
    if gate.auroc_before is not None and gate.auroc_after is not None:
        lines.append(f"  validation AUROC {gate.auroc_before:.4f} → {gate.auroc_after:.4f}")
    return "\n".join(lines)


def _manifest(
    checkpoint: Checkpoint,
    name: str,
    xml: bytes,
    weights: bytes,
    precision: Literal["fp32", "fp16", "int8"],
    report: GateReport,
) -> Manifest:
    description = checkpoint.description
    return Manifest(
        identity=Identity(
            name=name,
            algorithm=description.algorithm,
            backbone=description.backbone,
            weights_licence=description.weights_licence,
            created=datetime.now(UTC).replace(microsecond=0),
            made_with={"inspection-station": edge.__version__}
            | {maker: version(maker) for maker in _MAKERS},
            xml_sha256=hashlib.sha256(xml).hexdigest(),
            bin_sha256=hashlib.sha256(weights).hexdigest(),
        ),
        input=description.input,
        output=OutputSpec(
            map_height=description.map_height,
            map_width=description.map_width,
            image_score=True,
        ),
        normalization=description.normalization,
        threshold=description.threshold,
        statistics=description.statistics,
        precision=Precision(weights=precision, inference="f32", gate=report),
        training=description.training,
    )
