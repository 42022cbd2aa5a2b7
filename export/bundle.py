"""From a checkpoint to a model bundle on disk."""

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edge
from edge.atomic_files import check_writable, write_all
from edge.bundle.bounds import MAX_NAME_LENGTH
from edge.bundle.loading import Bundle
from edge.bundle.manifest import (
    ComparedPrecision,
    Fallback,
    GateReport,
    Identity,
    Manifest,
    OutputSpec,
    Precision,
)
from edge.bundle.manifest_types import ManifestPart, plain_text
from edge.bundle.training_record import SeenImagesSummary
from edge.errors import ConfigurationError, StationError
from edge.imaging.folder_names import written
from edge.inspection.detector import CompiledModel, Detector
from edge.inspection.normalization import score_scale
from edge.inspection.self_test import golden_scores
from edge.system.processor import pc_identity
from edge.teaching.used_images import HASH_BYTES, used_images
from edge.wording import counted
from export.accuracy_gate import Accuracy, AccuracyBudget, Scale
from export.calibration_images import (
    ToQuantize,
    read_calibration_folder,
    require_enough,
    usable_images,
    with_patches,
)
from export.engines import (
    BFLOAT16,
    BFLOAT16_FEATURES,
    DecidingAreas,
    make_deciding_areas,
    onnx_engine,
    openvino_engine,
    require_inference,
    scored_over,
    torch_engine,
)
from export.errors import CalibrationUnusable, QuantizationRefused
from export.fastest_precision import COMPARED, Made, compared, measure_latencies
from export.ir import read_layers, stripped_onnx, to_onnx, to_openvino
from export.judging_images import judging_samples, prepare_judging
from export.latency import Latency, fastest
from export.parity_gate import Budget, Engine, Images, Validation, parity, probe_images
from export.quantization import Quantizable
from export.report import FROM_CHECKPOINT, Report, report_files
from export.stitching import Frame, Stitching, scores_to_quantize
from export.variants import (
    NOT_MADE,
    ExportPrecision,
    JudgingSet,
    Variant,
    VariantBuilder,
    make_all,
    reference_graph,
    why_not,
)
from training.checkpoint import Checkpoint, Description
from training.data.content import content_hashes

# Of validation images that torch, ONNX Runtime and OpenVINO are compared on.
_MAX_COMPARED = 64
_MAX_COMPARED_TILES = 256

# An interval of flips that reaches so far says little about the bundle.
_WIDE = 0.1

REPORT_SUFFIXES = (".report.md", ".report.json")

_MAKERS = ("torch", "onnx", "onnxruntime", "openvino")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What is asked of an export.

    Attributes:
        precision: of the bundle; None chooses the fastest of FP32, BF16 and INT8 on this PC.
        inference: arithmetic in floating point: ``f32``, or ``bf16`` where this PC has it.
        parity: what torch, ONNX Runtime and OpenVINO may differ by in FP32.
        accuracy: what the precision may change.
        calibrate_on: folder of good images for quantization; None uses the checkpoint's own.
        judge_on: data set whose images judge the precision, too, except those that the model has
            seen.
        fallback: write FP16, and record why, if INT8 is refused; False refuses the export.
        onnx: write ``NAME.onnx`` too.
        report: write ``NAME.report.md`` and ``.json``, with every precision side by side.
    """

    precision: ExportPrecision | None = ExportPrecision.FP32
    inference: str = "f32"
    parity: Budget = field(default_factory=Budget)
    accuracy: AccuracyBudget = field(default_factory=AccuracyBudget)
    calibrate_on: Path | None = None
    judge_on: Path | None = None
    fallback: bool = True
    onnx: bool = False
    report: bool = False


def export_bundle(
    checkpoint: Checkpoint, output: Path, request: ExportRequest = ExportRequest()
) -> Manifest:
    """Convert, pass the gate, write ``NAME.xml``, ``NAME.bin`` and ``NAME.json``.

    Args:
        output: path of the ``.xml``.

    Raises:
        ConfigurationError: not the name of a bundle, or images that cannot be used.
        GateFailed: the IR gives other numbers than the checkpoint; nothing is written.
        QuantizationRefused: no INT8 graph keeps the verdicts, and ``fallback`` is off; nothing is
            written.
        ConversionFailed: an operation cannot be exported.
        OutputNotWritable: folder or disk refused a file.
    """
    files = bundle_files(output)
    beside = [output.with_suffix(suffix) for suffix in _beside(request)]
    for path in (*files, *beside):
        check_writable(path)
    in_bfloat16 = request.precision is ExportPrecision.BF16
    require_inference(BFLOAT16 if in_bfloat16 else request.inference)
    with TemporaryDirectory() as folder:
        onnx = Path(folder) / "model.onnx"
        prepared = _prepare(checkpoint, onnx, request)
        builder, report = prepared.builder, prepared.parity
        made, refusal = _make(builder, request, prepared.left_out)
        if request.report:
            log.info("report: every precision")
            made = make_all(builder, list(ExportPrecision), {**prepared.left_out, **made})
        latencies = {}
        if request.report or request.precision is None:
            log.info("how long each precision takes on this PC")
            latencies = measure_latencies(builder, made)
        variant = _chosen(request, made, latencies)
        extra = [stripped_onnx(onnx)] if request.onnx else []
        if request.report:
            full = Report(
                name=bundle_name(output),
                algorithm=checkpoint.description.algorithm,
                backbone=checkpoint.description.backbone,
                source=FROM_CHECKPOINT,
                chosen=variant,
                made=made,
                latencies=latencies,
                parity=report,
                groups=builder.subject.groups(),
                declared=builder.subject.floating,
                budget=builder.budget,
                scale=builder.evidence.scale,
                fastest_of=COMPARED if request.precision is None else (),
            )
            extra += report_files(full)
    if variant.precision is not ExportPrecision.FP32 or variant.inference != "f32":
        report = gate_report(variant.accuracy, builder.evidence.single_tiles)
    manifest = _manifest(
        checkpoint.description,
        bundle_name(output),
        variant,
        report,
        request=request,
        refusal=refusal,
    )
    if request.precision is None:
        figures = {"compared": compared(made, latencies), "compared_on": pc_identity()}
        manifest = with_precision(manifest, figures)
    manifest = with_self_test(
        manifest.model_copy(update={"seen_images": _seen_images(checkpoint, variant, prepared)}),
        variant.xml,
        variant.weights,
    )
    if variant.inference == BFLOAT16:
        manifest = with_fallback(manifest, variant, builder)
    contents = (variant.xml, variant.weights, *extra, manifest_text(manifest))
    # The manifest last: until it is there, the hashes of the others match nothing.
    write_all(list(zip((*files[:2], *beside, files[2]), contents, strict=True)))
    return manifest


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """What an export is made from.

    Attributes:
        parity: of FP32 and the checkpoint.
        quantized: gives what the images for quantization are known by.
        left_out: what is not made, and why.
    """

    builder: VariantBuilder
    parity: GateReport
    quantized: Callable[[], frozenset[bytes]]
    left_out: Made


def _seen_images(
    checkpoint: Checkpoint, variant: Variant, prepared: _Prepared
) -> SeenImagesSummary:
    """Return what the manifest says of the images that the model has seen."""
    known = checkpoint.seen
    integers = variant.precision is ExportPrecision.INT8
    return SeenImagesSummary(
        fitted=used_images(known.fitted),
        stopping=used_images(known.stopping),
        calibrated=used_images(known.calibrated),
        quantized=used_images(prepared.quantized() if integers else ()),
    )


def _make(
    builder: VariantBuilder, request: ExportRequest, left_out: Made
) -> tuple[Made, StationError | None]:
    """Make what was asked for; of INT8 that is refused FP16, with what was said.

    Where the fastest is asked for, all that are compared; of one that is refused, why.
    """
    if request.precision is None:
        log.info("making %s", ", ".join(one.value for one in COMPARED))
        return make_all(builder, COMPARED, left_out), None
    log.info("making %s", request.precision.value)
    try:
        return {request.precision: builder.make(request.precision)}, None
    except NOT_MADE as error:
        if request.precision is not ExportPrecision.INT8 or not request.fallback:
            raise
        log.warning(
            "INT8 was refused; the bundle is made in FP16, as exact as the checkpoint but slower. "
            "Why: %s",
            error.reason if isinstance(error, QuantizationRefused) else error,
        )
        half = builder.make(ExportPrecision.FP16)
        return {ExportPrecision.FP16: half, request.precision: why_not(error)}, error


def _chosen(
    request: ExportRequest, made: Made, latencies: Mapping[ExportPrecision, Latency]
) -> Variant:
    """Return the variant that becomes the bundle.

    Raises:
        GateFailed: not even FP32 passes.
    """
    precision = request.precision or fastest(latencies, COMPARED)
    variant = made[precision]
    if isinstance(variant, str):  # refused INT8, in whose place FP16 was made
        variant = made[ExportPrecision.FP16]
    assert isinstance(variant, Variant)
    return variant


def with_precision(manifest: Manifest, update: dict[str, Any]) -> Manifest:
    precision = manifest.precision.model_copy(update=update)
    return manifest.model_copy(update={"precision": precision})


def with_fallback(manifest: Manifest, variant: Variant, builder: VariantBuilder) -> Manifest:
    """Say what the arithmetic needs, and what a processor without it computes instead."""
    needs = {"cpu_features": BFLOAT16_FEATURES}
    accuracy = builder.fallback_accuracy(variant)
    if accuracy is None:
        log.warning("in f32 it is not good enough: it will run only where there is bfloat16")
        return with_precision(manifest, needs)
    plain = with_precision(manifest, {"inference": "f32"})
    scores = with_self_test(plain, variant.xml, variant.weights).self_test
    gate = gate_report(accuracy, builder.evidence.single_tiles)
    fallback = Fallback(gate=gate, self_test=scores)
    return with_precision(manifest, {**needs, "fallback": fallback})


def _prepare(checkpoint: Checkpoint, onnx: Path, request: ExportRequest) -> _Prepared:
    """Convert to FP32, prove it equal to the checkpoint, and collect what variants need."""
    description = checkpoint.description
    size = (description.input.height, description.input.width)
    integers = request.precision in (None, ExportPrecision.INT8) or request.report

    @cache
    def found() -> ToQuantize:
        return _calibration(checkpoint, request.calibrate_on)

    # INT8 was asked for, or images to make it with were given: then it is not left out.
    wanted = request.precision is ExportPrecision.INT8 or request.calibrate_on is not None
    unusable = None
    if integers:  # before the conversion, which takes longest
        try:
            require_enough(len(found().images))
        except CalibrationUnusable as error:
            if wanted:
                raise
            unusable, integers = str(error), False
    log.info("converting %s", description.algorithm)
    to_onnx(checkpoint.model, *size, onnx)
    xml, weights, graph = reference_graph(to_openvino(onnx), size)
    spread = score_scale(description.threshold.image, description.normalization.image).range
    areas = make_deciding_areas(description)
    openvino = scored_over(openvino_engine(xml, weights, "f32"), areas)
    report = _prove_equal(checkpoint, onnx, openvino, areas=areas, budget=request.parity)
    judged = _judging_images(checkpoint, request.judge_on)
    if integers:
        quantized = found()
        known = np.array([content in quantized.hashes for content in judged.hashes], np.bool_)
        alike = judged.stitching.of_whole(_among(judged.images, quantized.images))
        unseen = ~(known | alike)
        if not unseen.any():
            unusable = (
                "no image is left to judge INT8 by: it is calibrated with all of them. Give "
                "others with --judge-on, or export with --precision fp16."
            )
            if wanted:
                raise CalibrationUnusable(unusable)
        elif not unseen.all():
            log.info(
                "INT8 is calibrated with these, and not judged by them: %s",
                counted(int((~unseen).sum()), "image"),
            )
            judged = judged.of(unseen)
    everything = np.concatenate([judged.images, probe_images(description.input)])
    stitching, defective = judged.stitching, judged.defective
    if stitching.single_tiles:
        log.warning(
            "of %s the checkpoint has one tile alone, by which they are judged: it is of an "
            "earlier version. Calibrate it again, with all images and --replace, to judge whole "
            "images",
            counted(stitching.single_tiles, "image"),
        )
    evidence = JudgingSet(
        images=everything,
        reference=stitching.joined([openvino(image[None])[0] for image in everything]),
        scale=Scale(defective, description.threshold.image, spread),
        joined=stitching.joined,
        single_tiles=stitching.single_tiles,
    )

    judged_good = np.array([p.score for p in evidence.reference[: len(defective)]])[~defective]

    @cache
    def calibration() -> Images:
        given = found()
        threshold = description.threshold.image
        predicted = [openvino(image[None])[0] for image in given.images]
        scores = scores_to_quantize(predicted, areas)
        good = usable_images(given.images, given.names, scores, threshold, judged_good=judged_good)
        return with_patches(good, description.input)

    if integers and unusable is None:
        try:
            calibration()
        except CalibrationUnusable as error:
            if wanted:
                raise
            unusable = str(error)
    if unusable is not None:
        log.warning("INT8 is left out: %s", unusable)
    model = checkpoint.model
    subject = Quantizable(graph, read_layers(onnx), model.floating_point, model.mean_corrected)
    return _Prepared(
        VariantBuilder(
            subject=subject,
            size=size,
            calibration=calibration,
            evidence=evidence,
            budget=request.accuracy,
            inference=request.inference,
            in_batches=description.input.tile_plan is not None,
            areas=areas,
        ),
        report,
        lambda: found().hashes,
        {} if unusable is None else {ExportPrecision.INT8: unusable},
    )


def _prove_equal(
    checkpoint: Checkpoint,
    onnx: Path,
    openvino: Engine,
    *,
    areas: DecidingAreas | None,
    budget: Budget,
) -> GateReport:
    """Compare the three runtimes in FP32.

    Raises:
        GateFailed: they give other numbers.
    """
    description = checkpoint.description
    log.info("parity gate: torch, ONNX Runtime, OpenVINO")
    started = time.monotonic()
    report = parity(
        scored_over(torch_engine(checkpoint.model), areas),
        {"ONNX Runtime": scored_over(onnx_engine(onnx), areas), "OpenVINO": openvino},
        "OpenVINO",
        description.input,
        validation=_compared(checkpoint),
        threshold=description.threshold.image,
        spread=score_scale(description.threshold.image, description.normalization.image).range,
        budget=budget,
    )
    log.info(
        "gate passed on %s in %.0f s", counted(report.images, "image"), time.monotonic() - started
    )
    return report


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """Prepared images, in pieces.

    Attributes:
        images: ``(P, H, W, 3) uint8``.
        defective: ``(N,) bool``, of the images.
        hashes: what each image is known by.
        stitching: of the pieces.
    """

    images: Images
    defective: NDArray[np.bool_]
    hashes: tuple[bytes, ...]
    stitching: Stitching

    def of(self, kept: NDArray[np.bool_]) -> "_Judged":
        """Return some of the images."""
        return _Judged(
            self.images[self.stitching.of_pieces(kept)],
            self.defective[kept],
            tuple(content for content, keep in zip(self.hashes, kept, strict=True) if keep),
            self.stitching.of(kept),
        )


def _kept_images(checkpoint: Checkpoint) -> _Judged:
    """Return the images that travel with a checkpoint."""
    kept = checkpoint.validation
    frames: tuple[Frame | None, ...] = (None,) * len(kept.defective)
    if kept.frames is not None:
        frames = tuple((int(height), int(width)) for height, width in kept.frames)
    hashes = tuple(row.tobytes() for row in kept.hashes)
    stitching = Stitching(checkpoint.description, frames)
    return _Judged(kept.images, kept.defective, hashes, stitching)


def _judging_images(checkpoint: Checkpoint, judge_on: Path | None) -> _Judged:
    """Return the images that judge a precision."""
    kept = _kept_images(checkpoint)
    if judge_on is None:
        return kept
    description = checkpoint.description
    more = prepare_judging(judging_samples(judge_on, checkpoint), description.input)
    tiled = description.input.tile_plan is not None
    frames = more.frames if tiled else (None,) * len(more.frames)
    contents = content_hashes(more.samples)
    return _Judged(
        np.concatenate([kept.images, more.images]),
        np.concatenate(
            [kept.defective, np.array([one.is_defective for one in more.samples], np.bool_)]
        ),
        (*kept.hashes, *(contents[sample][:HASH_BYTES] for sample in more.samples)),
        Stitching(description, (*kept.stitching.frames, *frames)),
    )


def _calibration(checkpoint: Checkpoint, folder: Path | None) -> ToQuantize:
    if folder is not None:
        return read_calibration_folder(folder, checkpoint.description.input, checkpoint.seen)
    count = len(checkpoint.calibration)
    names = [f"training image {n + 1} of {count}" for n in range(count)]
    return ToQuantize(checkpoint.calibration, names, checkpoint.seen.quantized)


def _among(images: Images, others: Images) -> NDArray[np.bool_]:
    """Tell of each prepared image whether it is one of the others, by content."""
    known = {image.tobytes() for image in others}
    return np.array([image.tobytes() in known for image in images], np.bool_)


def _compared(checkpoint: Checkpoint) -> Validation:
    """Return at most 64 images, evenly over all: three runtimes answer each of them in FP32.

    Of images in tiles so many that there are about 256 of these.
    """
    judged = _kept_images(checkpoint)
    count = len(judged.defective)
    most = max(min(_MAX_COMPARED, _MAX_COMPARED_TILES * count // max(len(judged.images), 1)), 1)
    most = min(count, most)
    kept = np.zeros(count, np.bool_)
    kept[np.arange(most) * count // max(most, 1)] = True
    few = judged.of(kept)
    stitching = few.stitching
    return Validation(few.images, few.defective, stitching.joined, stitching.single_tiles)


def with_self_test(manifest: Manifest, xml: bytes, weights: bytes) -> Manifest:
    """Return the manifest with golden scores, taken from these files as the runtime runs them.

    Raises:
        BundleError, ModelError: the runtime cannot use the files.
    """
    bundle = Bundle(
        manifest=manifest,
        sha256="",
        xml=xml,
        weights=weights,
        path=Path(f"{manifest.identity.name}.xml"),
    )
    scores = golden_scores(Detector(CompiledModel(bundle)), manifest)
    return manifest.model_copy(update={"self_test": scores})


def manifest_text(manifest: ManifestPart) -> bytes:
    """Return a manifest as it is written."""
    return manifest.model_dump_json(indent=2).encode() + b"\n"


def bundle_files(output: Path) -> tuple[Path, Path, Path]:
    """Return the paths of ``NAME.xml``, ``NAME.bin`` and ``NAME.json``.

    Raises:
        ConfigurationError: not the name of a bundle.
    """
    if output.suffix != ".xml":
        raise ConfigurationError(f"{output}: the bundle's name must end in .xml.")
    name = bundle_name(output)
    if len(name) > MAX_NAME_LENGTH:
        raise ConfigurationError(
            f"{output}: the bundle's name has {len(name)} characters, {MAX_NAME_LENGTH} are "
            "allowed."
        )
    if not name.isprintable():
        raise ConfigurationError(
            f"{output}: the bundle's name holds characters that are not plain, such as control "
            "characters. Choose another."
        )
    return output, output.with_suffix(".bin"), output.with_suffix(".json")


def bundle_name(output: Path) -> str:
    """Return what the manifest of a bundle calls it."""
    return written(output.stem)


def summary(manifest: Manifest, output: Path) -> str:
    """Return what a user wants to know after an export."""
    precision = manifest.precision
    gate = precision.gate
    xml, weights = (path.stat().st_size / 1e6 for path in bundle_files(output)[:2])
    between = " of no validation image"
    if gate.flips_interval is not None:
        between = " (95 %: {:.1%} to {:.1%})".format(*gate.flips_interval)
    lines = [
        f"{output}: {manifest.identity.algorithm} {manifest.identity.backbone}, "
        f"{precision.weights}, IR {xml + weights:.1f} MB",
        f"  gate: {counted(gate.images, 'image')}, largest score difference "
        f"{gate.largest_score_difference:.1e} of the spread, smallest map correlation "
        f"{gate.smallest_map_correlation:.6f}, verdict flips {gate.verdict_flips:.1%}{between}",
    ]
    if precision.refused:
        lines.append(
            f"  {precision.requested} was asked for and refused: {precision.refused}. This bundle "
            "decides as the checkpoint does, only slower. For INT8: more good images to quantize "
            "with (--calibrate-on) or to judge by (--judge-on); --report names the layers."
        )
    exact = (precision.weights, precision.inference) == ("fp32", "f32")
    if not exact and gate.flips_interval is not None and gate.flips_interval[1] > _WIDE:
        lines.append(
            f"  {counted(gate.images, 'image')} cannot exclude that {gate.flips_interval[1]:.0%} "
            "of the "
            "verdicts change; judge by more of them with --judge-on."
        )
    if gate.auroc_before is not None and gate.auroc_after is not None:
        of = "whole images"
        if gate.single_tiles:
            of = f"images, of which {gate.single_tiles} by a single tile each"
        lines.append(f"  AUROC of {of} {gate.auroc_before:.4f} → {gate.auroc_after:.4f}")
    return "\n".join([*lines, *precision_lines(precision)])


def precision_lines(precision: Precision) -> list[str]:
    """Return what a user wants to know of speed, and of the processors that it runs on."""
    lines = []
    if precision.compared:
        rows = "; ".join(_timed(row) for row in precision.compared)
        lines.append(f"  the fastest on this PC that passes: {rows}")
    if precision.cpu_features:
        other = "it runs in f32" if precision.fallback else "it does not run"
        needs = " or ".join(precision.cpu_features)
        lines.append(f"  needs a processor with {needs}; on others {other}")
    if precision.floating:
        lines.append(f"  kept in floating point: {', '.join(precision.floating)}")
    return lines


def _timed(row: ComparedPrecision) -> str:
    if row.milliseconds is None:
        return f"{row.name} refused: {row.refused}"
    return f"{row.name} {row.milliseconds:.1f} ms ({row.relative:.2f} × fp32)"


def _beside(request: ExportRequest) -> list[str]:
    """Return the suffixes of what is written beside the bundle."""
    return [".onnx"] * request.onnx + [*REPORT_SUFFIXES] * request.report


def gate_report(accuracy: Accuracy, single_tiles: int = 0) -> GateReport:
    interval = accuracy.flip_interval
    return GateReport(
        images=accuracy.images,
        flips_interval=(interval.low, interval.high),
        largest_score_difference=accuracy.largest_difference,
        smallest_map_correlation=accuracy.smallest_map_correlation,
        verdict_flips=accuracy.verdict_flips,
        auroc_before=accuracy.auroc_before,
        auroc_after=accuracy.auroc_after,
        single_tiles=single_tiles,
    )


def _manifest(
    description: Description,
    name: str,
    variant: Variant,
    report: GateReport,
    *,
    request: ExportRequest,
    refusal: StationError | None,
) -> Manifest:
    """Describe a variant.

    Args:
        refusal: why it is not of the precision that was asked for; None if it is.
    """
    reason = refusal.reason if isinstance(refusal, QuantizationRefused) else str(refusal)
    makers = (*_MAKERS, *(("nncf",) * variant.precision.value.startswith("int8")))
    return Manifest(
        identity=Identity(
            name=name,
            algorithm=description.algorithm,
            backbone=description.backbone,
            weights_licence=description.weights_licence,
            created=datetime.now(UTC).replace(microsecond=0),
            made_with={"inspection-station": edge.__version__}
            | {maker: version(maker) for maker in makers},
            xml_sha256=hashlib.sha256(variant.xml).hexdigest(),
            bin_sha256=hashlib.sha256(variant.weights).hexdigest(),
            xml_bytes=len(variant.xml),
            bin_bytes=len(variant.weights),
        ),
        input=description.input,
        output=OutputSpec(
            map_height=description.map_height,
            map_width=description.map_width,
            image_score=True,
            map_score=description.map_score,
        ),
        normalization=description.normalization,
        threshold=description.threshold,
        statistics=description.statistics,
        precision=Precision.model_validate(
            {
                "weights": variant.precision.weights,
                "inference": variant.inference,
                "gate": report,
                "floating": variant.floating,
                "requested": request.precision.value if refusal and request.precision else None,
                "refused": plain_text(reason) if refusal else None,
            }
        ),
        training=description.training,
    )
