"""``export-model --from-anomalib``: a model that Anomalib exported becomes a bundle, untrained.

Two generations: those of Anomalib 1 lie beside a ``metadata.json`` with thresholds and ranges, and
give a raw map; those of Anomalib 2 normalize, clip and decide inside the graph. Around either one
our own input is put, uint8 images of one size, and by our names its numbers before they are
clipped. Nothing inside is changed, and that is proven against the graph itself.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import openvino as ov
from pydantic import ValidationError

import edge
from edge.atomic_files import check_writable, write_all
from edge.bundle.manifest import (
    GateReport,
    Identity,
    Manifest,
    Normalization,
    OutputSpec,
    Precision,
    ScoreStatistics,
    Threshold,
    ThresholdMethod,
)
from edge.bundle.manifest_types import plain_text
from edge.bundle.training_record import Training
from edge.imaging.folder_names import written
from edge.system.processor import pc_identity
from edge.wording import counted
from export.accuracy_gate import AccuracyBudget
from export.anomalib_graph import last_line, wrapped
from export.anomalib_parity import Effect, Imported, judged, prove, resize_effect
from export.anomalib_precision import NO_IMAGES, colour_frame, images_for, make_builder
from export.anomalib_source import FIRST, AnomalibSource, read_source
from export.bundle import (
    REPORT_SUFFIXES,
    bundle_files,
    bundle_name,
    gate_report,
    manifest_text,
    precision_lines,
    with_fallback,
    with_precision,
    with_self_test,
)
from export.engines import BFLOAT16, openvino_engine, require_inference
from export.errors import ImportRefused
from export.fastest_precision import COMPARED, Made, compared, measure_latencies
from export.ir import ir_bytes
from export.latency import Latency, fastest
from export.report import FROM_ANOMALIB, Report, report_files
from export.variants import NOT_MADE, ExportPrecision, Variant, VariantBuilder, make_all, why_not
from training.data.open_data_set import open_judging
from training.data.samples import Sample
from training.metrics import exact_interval, share_text

# Integers round differently on another processor: the self-test of a graph that has them allows
# for that.
_FAKE = b'type="FakeQuantize"'

# Bound of time; of more images those spread evenly are taken.
_MAX_JUDGED = 1000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRequest:
    """What is asked of an import.

    Attributes:
        size: height and width of the bundle's input; None: the graph's own.
        precision: of the bundle; None takes the fastest of FP32, BF16 and INT8 that this PC makes.
        judge_on: data set on whose test images verdicts are compared.
        calibrate_on: folder of good images for quantization.
        accuracy: what precision and resize may change.
        report: write ``NAME.report.md`` and ``.json``, with every precision side by side.
    """

    size: tuple[int, int] | None = None
    precision: ExportPrecision | None = ExportPrecision.FP32
    judge_on: Path | None = None
    calibrate_on: Path | None = None
    accuracy: AccuracyBudget = field(default_factory=AccuracyBudget)
    report: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether the graph is taken as it is."""
        return self.precision is ExportPrecision.FP32 and not self.report


def import_model(
    path: Path, output: Path, wanted: ImportRequest = ImportRequest()
) -> Iterator[str]:
    """Wrap a model of Anomalib; yields what a user must know about it.

    Args:
        path: ``.xml`` or ``.onnx`` that Anomalib exported.
        output: ``.xml`` of the bundle.

    Raises:
        ImportRefused: no such model, its inputs and outputs are none that we know, or it cannot be
            shown that the bundle decides as it does.
        DataError: no images to judge on.
        ConfigurationError: not the name of a bundle.
        OutputNotWritable: folder or disk refused a file.
    """
    files = bundle_files(output)
    beside = [output.with_suffix(suffix) for suffix in REPORT_SUFFIXES * wanted.report]
    for file in (*files, *beside):
        check_writable(file)
    _demand_images(path, wanted)
    if wanted.precision is ExportPrecision.BF16:
        require_inference(BFLOAT16)
    try:
        lines = list(_imported(path, files, beside, wanted))
    except ValidationError as error:
        raise ImportRefused(
            f"{path}: no manifest can be made of what it says ({error.errors()[0]['msg']}). Copy "
            "the whole export folder again."
        ) from error
    except (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        # A graph that no exporter wrote fails wherever it is taken apart.
        log.debug("the fault in detail", exc_info=True)
        raise ImportRefused(
            f"{path}: is no model that can be taken apart ({type(error).__name__}: "
            f"{plain_text(last_line(error), 300)}). Export it again with a recent Anomalib."
        ) from error
    yield from lines


def _demand_images(path: Path, wanted: ImportRequest) -> None:
    """Demand what another precision is judged and made with.

    Raises:
        ImportRefused: names the option.
    """
    if not wanted.is_plain and wanted.judge_on is None:
        raise ImportRefused(
            f"{path}: what a precision changes is not known before it is seen on images of yours, "
            "good and defective ones: give a data set of them with --judge-on DATA."
        )
    if wanted.precision is ExportPrecision.INT8 and wanted.calibrate_on is None:
        raise ImportRefused(f"{path}: {NO_IMAGES}.")


def _imported(
    path: Path, files: tuple[Path, Path, Path], beside: list[Path], wanted: ImportRequest
) -> Iterator[str]:
    output = files[0]
    source = read_source(path, wanted.size)
    model, size = wrapped(path, source.size, source.batch, source.norm, fill=source.map_extent.min)
    unit = max(source.image_extent.max - source.image_extent.min, 1e-6)
    imported = Imported(
        path=path,
        size=source.size,
        batch=source.batch,
        free=source.free,
        norm=source.norm,
        threshold=source.image,
        unit=unit,
    )
    samples = () if wanted.judge_on is None else _judging(wanted.judge_on)
    builder = None
    if not wanted.is_plain:
        images = images_for(imported, samples, wanted.calibrate_on)
        samples = images.judging
        builder = make_builder(imported, model, images, wanted.accuracy)
    xml, weights = ir_bytes(model.clone(), *source.size)
    if builder is not None and _FAKE in xml:
        raise ImportRefused(
            f"{path}: computes in integers already. Leave out --precision and --report, or export "
            "it again in floating point."
        )
    parity = prove(imported, xml, weights)
    notes = _resize_notes(source, imported, xml, weights, wanted=wanted)
    plain = _Graph(
        xml=xml,
        weights=weights,
        inference="f32",
        precision="int8" if _FAKE in xml else "fp32",
        gate=parity,
    )
    chosen, comparison = plain, None
    if builder is None:
        chosen, more = _judged(source, imported, plain, samples, wanted=wanted)
    else:
        comparison = _made(path, builder, wanted)
        chosen, more = _fastest_judged(source, imported, comparison, samples, wanted=wanted)
    manifest = with_self_test(
        _manifest(bundle_name(output), source, imported, size, graph=chosen),
        chosen.xml,
        chosen.weights,
    )
    extra: list[bytes] = []
    if comparison is not None and builder is not None:
        variant = comparison.variant(chosen)
        figures: dict[str, Any] = {"floating": variant.floating}
        if wanted.precision is None:
            rows = compared(comparison.made, comparison.latencies)
            figures |= {"compared": rows, "compared_on": pc_identity()}
        manifest = with_precision(manifest, figures)
        if variant.inference == BFLOAT16:
            manifest = with_fallback(manifest, variant, builder)
        if wanted.report:
            extra = _report(manifest, builder, comparison, variant, parity=parity, wanted=wanted)
    contents = (chosen.xml, chosen.weights, *extra, manifest_text(manifest))
    # The manifest last: until it is there, the hashes of the others match nothing.
    write_all(list(zip((*files[:2], *beside, files[2]), contents, strict=True)))
    yield (
        f"{output}: {source.generation}, {source.size[1]}×{source.size[0]}, map "
        f"{size[1]}×{size[0]}, rejects from {source.image:.6g} on"
    )
    numbers = (
        f"of {counted(parity.images, 'prepared image')} the numbers of {path.name} itself, before "
        "they"
    )
    if chosen.made_here or chosen.inference != "f32":
        yield f"  In FP32 it gave {numbers} are clipped. {_taken(manifest)}"
    else:
        yield f"  It gives {numbers} are clipped, and the same verdicts."
    yield from precision_lines(manifest.precision)
    for note in (*source.notes, *notes, *more):
        yield f"  - {note}"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Graph:
    """What becomes the bundle.

    Attributes:
        inference: arithmetic of what is not integer.
        precision: number format of the weights.
        gate: what was seen of it.
        made_here: whether it was quantized here.
    """

    xml: bytes
    weights: bytes
    inference: str
    precision: str
    gate: GateReport
    made_here: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Comparison:
    """The precisions that were made, and how long each takes."""

    made: Made
    latencies: dict[ExportPrecision, Latency]

    def variant(self, graph: _Graph) -> Variant:
        """Return what a graph was made of."""
        return next(
            one
            for one in self.made.values()
            if isinstance(one, Variant) and (one.xml, one.inference) == (graph.xml, graph.inference)
        )


def _made(path: Path, builder: VariantBuilder, wanted: ImportRequest) -> _Comparison:
    """Make what is asked for, and what it is compared with.

    Raises:
        ImportRefused: the one precision that was asked for changes too much.
    """
    made: Made = {}
    if wanted.calibrate_on is None:
        made[ExportPrecision.INT8] = NO_IMAGES
    if wanted.precision is not None:
        log.info("making %s", wanted.precision.value)
        try:
            made[wanted.precision] = builder.make(wanted.precision)
        except NOT_MADE as error:
            raise ImportRefused(
                f"{path}: in {wanted.precision.value} it would decide otherwise: "
                f"{why_not(error)} Nothing was written. Leave out --precision, or allow more with "
                "--max-verdict-flips and --max-auroc-drop."
            ) from error
    else:
        log.info("making %s", ", ".join(one.value for one in COMPARED))
        made = make_all(builder, COMPARED, made)
    if wanted.report:
        log.info("report: every precision")
        made = make_all(builder, list(ExportPrecision), made)
    if wanted.precision is not None and not wanted.report:
        return _Comparison(made, {})
    log.info("how long each precision takes on this PC")
    return _Comparison(made, measure_latencies(builder, made))


def _fastest_judged(
    source: AnomalibSource,
    imported: Imported,
    comparison: _Comparison,
    samples: Sequence[Sample],
    *,
    wanted: ImportRequest,
) -> tuple[_Graph, list[str]]:
    """Return the fastest precision that decides as the untouched graph does, resize included.

    Raises:
        ImportRefused: none does, or not the one that was asked for.
    """
    while True:
        precision = wanted.precision or fastest(comparison.latencies, COMPARED)
        variant = comparison.made[precision]
        assert isinstance(variant, Variant)
        graph = _Graph(
            xml=variant.xml,
            weights=variant.weights,
            inference=variant.inference,
            precision=precision.weights,
            gate=gate_report(variant.accuracy),
            made_here=precision is ExportPrecision.INT8,
        )
        try:
            return _judged(source, imported, graph, samples, wanted=wanted)
        except ImportRefused as error:
            if wanted.precision is not None or precision is ExportPrecision.FP32:
                raise
            comparison.made[precision] = str(error)
            del comparison.latencies[precision]


def _report(
    manifest: Manifest,
    builder: VariantBuilder,
    comparison: _Comparison,
    variant: Variant,
    *,
    parity: GateReport,
    wanted: ImportRequest,
) -> list[bytes]:
    """Return the export report, in Markdown and JSON."""
    full = Report(
        name=manifest.identity.name,
        algorithm=manifest.identity.algorithm,
        backbone=manifest.identity.backbone,
        source=FROM_ANOMALIB,
        chosen=variant,
        made=comparison.made,
        latencies=comparison.latencies,
        parity=parity,
        groups=builder.subject.groups(),
        declared=(),
        budget=builder.budget,
        scale=builder.evidence.scale,
        fastest_of=COMPARED if wanted.precision is None else (),
    )
    return report_files(full)


def _taken(manifest: Manifest) -> str:
    """Say what is in the bundle instead, and what that changes."""
    precision = manifest.precision
    gate = precision.gate
    assert gate.flips_interval is not None
    low, high = gate.flips_interval
    return (
        f"The bundle computes in {precision.weights}/{precision.inference}: of "
        f"{counted(gate.images, 'image')} {gate.verdict_flips:.1%} are decided otherwise (95 %: "
        f"{low:.1%} to {high:.1%})."
    )


def _resize_notes(
    source: AnomalibSource, imported: Imported, xml: bytes, weights: bytes, *, wanted: ImportRequest
) -> list[str]:
    """Measure what it does to images without detail that frames are resized by us.

    Raises:
        ImportRefused: verdicts would be others, and no images of the user's say how much.
    """
    ours = f"frames are averaged down to {source.size[1]}×{source.size[0]} before the graph"
    if not _resizes_itself(source):
        return [f"{ours}; it does not say how its own program makes them that size"]
    effect, faults = resize_effect(imported, xml, weights, source.any_shape)
    notes = [
        f"{ours}, where its own program resizes without antialiasing: of "
        f"{counted(effect.images, 'image')} "
        "without detail, of several sizes, "
        f"{counted(effect.flips, 'verdict is', 'verdicts are')} others and scores differ "
        f"by up to {effect.largest:.2g}"
    ]
    if not source.any_shape:
        notes.append("it keeps the shape of frames: use it for frames of the shape of --image-size")
    if wanted.judge_on is None:
        if faults:
            raise ImportRefused(
                f"{imported.path}: even of images without detail it gives other numbers when they "
                f"are resized before the graph: {'; '.join(faults)}. Compare its verdicts on "
                "images of yours: --judge-on DATA."
            )
        notes.append("what that does to your images is measured with --judge-on DATA")
    return notes


def _resizes_itself(source: AnomalibSource) -> bool:
    """Whether it is known how its own program makes frames the size of the input."""
    return source.free or source.generation == FIRST


def _judged(
    source: AnomalibSource,
    imported: Imported,
    graph: _Graph,
    samples: Sequence[Sample],
    *,
    wanted: ImportRequest,
) -> tuple[_Graph, list[str]]:
    """Compare it with the untouched graph on images of the user's; returns it with what was seen.

    Raises:
        ImportRefused: verdicts would be others.
        DataError: an image cannot be used.
    """
    if wanted.judge_on is None or not _resizes_itself(source):
        return graph, []
    engine = openvino_engine(graph.xml, graph.weights, graph.inference)
    frames = ((colour_frame(one, imported), one.is_defective) for one in samples)
    found = judged(imported, engine, frames)
    flips = exact_interval(found.flips, found.images)
    limit = wanted.accuracy.verdict_flips
    if found.over(limit):
        raise ImportRefused(
            f"{imported.path}: {_sentence(found)}, more than --max-verdict-flips "
            f"{limit:g} allows. Allow more, or fit a model here on the same images."
        )
    gate = graph.gate.model_copy(
        update={
            "images": found.images,
            "verdict_flips": found.flips / found.images,
            "flips_interval": (flips.low, flips.high),
            "auroc_before": found.auroc_before,
            "auroc_after": found.auroc_after,
        }
    )
    return replace(graph, gate=gate), [f"of the images of {wanted.judge_on} {_sentence(found)}"]


def _sentence(effect: Effect) -> str:
    text = (
        f"{share_text(effect.flips, effect.images)} are decided otherwise, {effect.worse} of them "
        f"wrongly now; it rejects {effect.rejected} itself, and scores differ by up to "
        f"{effect.largest:.2g}"
    )
    if effect.auroc_before is None or effect.auroc_after is None:
        return text
    return f"{text}; AUROC {effect.auroc_before:.4f} → {effect.auroc_after:.4f}"


def _judging(data: Path) -> tuple[Sample, ...]:
    """Return the test images of a data set; of many those spread evenly.

    Raises:
        DataError: there are none.
    """
    samples = open_judging(data).samples
    if len(samples) > _MAX_JUDGED:
        log.warning("of %s %d judge", counted(len(samples), "test image"), _MAX_JUDGED)
        count = len(samples)
        samples = tuple(samples[n * count // _MAX_JUDGED] for n in range(_MAX_JUDGED))
    return samples


def _manifest(
    name: str,
    source: AnomalibSource,
    imported: Imported,
    size: tuple[int, int],
    *,
    graph: _Graph,
) -> Manifest:
    makers = {"inspection-station": edge.__version__, "openvino": ov.__version__}
    if graph.made_here:
        makers["nncf"] = version("nncf")
    return Manifest(
        identity=Identity(
            name=name,
            algorithm="imported",
            backbone=f"of {source.generation}",
            weights_licence="as of the imported model",
            created=datetime.now(UTC).replace(microsecond=0),
            made_with=makers,
            xml_sha256=hashlib.sha256(graph.xml).hexdigest(),
            bin_sha256=hashlib.sha256(graph.weights).hexdigest(),
            xml_bytes=len(graph.xml),
            bin_bytes=len(graph.weights),
        ),
        input=imported.spec(),
        output=OutputSpec(map_height=size[0], map_width=size[1], image_score=True),
        normalization=Normalization(image=source.image_extent, map=source.map_extent),
        threshold=Threshold(
            image=source.image,
            pixel=source.pixel,
            method=ThresholdMethod.MANUAL,
            good_count=0,
            defective_count=0,
            interval=None,
        ),
        statistics=ScoreStatistics(probabilities=(), scores=()),
        precision=Precision.model_validate(
            {"weights": graph.precision, "inference": graph.inference, "gate": graph.gate}
        ),
        training=Training(
            dataset=f"of {source.generation}",
            # Nobody knows its images; the file at least can be told from others.
            dataset_fingerprint=hashlib.sha256(imported.path.read_bytes()).hexdigest(),
            fit_count=1,
            validation_good_count=0,
            validation_defective_count=0,
            seed=0,
            hyperparameters={"imported_from": plain_text(written(imported.path.name))},
            metrics={},
        ),
    )
