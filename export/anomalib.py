"""``export-model --from-anomalib``: a model that Anomalib exported becomes a bundle, untrained.

Two generations: those of Anomalib 1 lie beside a ``metadata.json`` with thresholds and ranges, and
give a raw map; those of Anomalib 2 normalize, clip and decide inside the graph. Around either one
our own input is put, uint8 images of one size, and by our names its numbers before they are
clipped. Nothing inside is changed, and that is proven against the graph itself.
"""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

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
    Training,
    plain_text,
)
from edge.errors import FrameUnsuitable
from edge.imaging.folder_names import written
from edge.inspection.preprocessing import to_samples
from export.anomalib_graph import last_line, wrapped
from export.anomalib_parity import Effect, Frame, Imported, judged, prove, resize_effect
from export.anomalib_source import FIRST, AnomalibSource, read_source
from export.bundle import bundle_files, bundle_name, manifest_text, with_self_test
from export.errors import ImportRefused
from export.ir import ir_bytes
from training.data.loading import read_sample
from training.data.opening import open_judging
from training.errors import DataError
from training.metrics import exact_interval, share_text

# Bound of time; of more images those spread evenly are taken.
_MAX_JUDGED = 1000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What is asked of an import.

    Attributes:
        size: height and width of the bundle's input; None: the graph's own.
        judge_on: data set on whose test images verdicts are compared.
        verdict_flips: share of them that may be others.
    """

    size: tuple[int, int] | None = None
    judge_on: Path | None = None
    verdict_flips: float = 0.01


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
    for file in files:
        check_writable(file)
    try:
        lines = list(_imported(path, files, wanted))
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


def _imported(path: Path, files: tuple[Path, Path, Path], wanted: ImportRequest) -> Iterator[str]:
    output = files[0]
    source = read_source(path, wanted.size)
    model, size = wrapped(path, source.size, source.batch, source.norm, fill=source.map_extent.min)
    xml, weights = ir_bytes(model, *source.size)
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
    report = prove(imported, xml, weights)
    count = report.images
    notes, report = _resize(source, imported, xml, weights, wanted=wanted, report=report)
    manifest = with_self_test(
        _manifest(
            bundle_name(output), source, imported, size, xml=xml, weights=weights, report=report
        ),
        xml,
        weights,
    )
    write_all(list(zip(files, (xml, weights, manifest_text(manifest)), strict=True)))
    yield (
        f"{output}: {source.generation}, {source.size[1]}×{source.size[0]}, map "
        f"{size[1]}×{size[0]}, rejects from {source.image:.6g} on"
    )
    yield (
        f"  Of {count} prepared images it gives the numbers of {path.name} itself, before they are "
        "clipped, and the same verdicts."
    )
    for note in (*source.notes, *notes):
        yield f"  - {note}"


def _resize(
    source: AnomalibSource,
    imported: Imported,
    xml: bytes,
    weights: bytes,
    *,
    wanted: ImportRequest,
    report: GateReport,
) -> tuple[list[str], GateReport]:
    """Measure what it does that frames are resized by us; returns notes, and the report with it.

    Raises:
        ImportRefused: verdicts would be others.
        DataError: no images to judge on.
    """
    ours = f"frames are averaged down to {source.size[1]}×{source.size[0]} before the graph"
    if not source.free and source.generation != FIRST:
        return [f"{ours}; it does not say how its own program makes them that size"], report
    effect, faults = resize_effect(imported, xml, weights, source.any_shape)
    notes = [
        f"{ours}, where its own program resizes without antialiasing: of {effect.images} images "
        f"without detail, of several sizes, {effect.flips} verdicts are others and scores differ "
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
        return [*notes, "what that does to your images is measured with --judge-on DATA"], report
    found = judged(imported, xml, weights, _frames(imported, wanted.judge_on))
    flips = exact_interval(found.flips, found.images)
    if found.over(wanted.verdict_flips):
        raise ImportRefused(
            f"{imported.path}: {_sentence(found)}, more than --max-verdict-flips "
            f"{wanted.verdict_flips:g} allows. Allow more, or fit a model here on the same images."
        )
    return [*notes, f"of the images of {wanted.judge_on} {_sentence(found)}"], report.model_copy(
        update={
            "images": found.images,
            "verdict_flips": found.flips / found.images,
            "flips_interval": (flips.low, flips.high),
            "auroc_before": found.auroc_before,
            "auroc_after": found.auroc_after,
        }
    )


def _sentence(effect: Effect) -> str:
    text = (
        f"{share_text(effect.flips, effect.images)} are decided otherwise, {effect.worse} of them "
        f"wrongly now; it rejects {effect.rejected} itself, and scores differ by up to "
        f"{effect.largest:.2g}"
    )
    if effect.auroc_before is None or effect.auroc_after is None:
        return text
    return f"{text}; AUROC {effect.auroc_before:.4f} → {effect.auroc_after:.4f}"


def _frames(imported: Imported, data: Path) -> Iterator[tuple[Frame, bool]]:
    """Yield the test images of a data set in colour, each with whether it is defective."""
    samples = open_judging(data).samples
    if len(samples) > _MAX_JUDGED:
        log.warning("of %d test images %d judge", len(samples), _MAX_JUDGED)
        count = len(samples)
        samples = tuple(samples[n * count // _MAX_JUDGED] for n in range(_MAX_JUDGED))
    for sample in samples:
        try:
            pixels = to_samples(read_sample(sample), imported.spec())
        except FrameUnsuitable as error:
            raise DataError(f"{sample.label}: {error}") from error
        if pixels.ndim == 2:
            pixels = pixels[:, :, None].repeat(3, 2)
        yield pixels, sample.is_defective


def _manifest(
    name: str,
    source: AnomalibSource,
    imported: Imported,
    size: tuple[int, int],
    *,
    xml: bytes,
    weights: bytes,
    report: GateReport,
) -> Manifest:
    # Integers round differently on another processor: its self-test allows for that.
    arithmetic: Literal["int8", "fp32"] = "int8" if b'type="FakeQuantize"' in xml else "fp32"
    return Manifest(
        identity=Identity(
            name=name,
            algorithm="imported",
            backbone=f"of {source.generation}",
            weights_licence="as of the imported model",
            created=datetime.now(UTC).replace(microsecond=0),
            made_with={"inspection-station": edge.__version__, "openvino": ov.__version__},
            xml_sha256=hashlib.sha256(xml).hexdigest(),
            bin_sha256=hashlib.sha256(weights).hexdigest(),
            xml_bytes=len(xml),
            bin_bytes=len(weights),
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
        precision=Precision(weights=arithmetic, inference="f32", gate=report),
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
