"""A taught model as a bundle: the bank laid into the teacher's graph, and what is known of it."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import openvino as ov

import edge
from edge.bundle.loading import Bundle
from edge.bundle.manifest import GateReport, Identity, Manifest, Precision
from edge.bundle.manifest_types import plain_text
from edge.bundle.teacher import Teacher
from edge.bundle.training_record import SeenImagesSummary, SplitMetrics, Training
from edge.errors import ModelError
from edge.inspection.detector import CompiledModel, Detector, RunPlan
from edge.inspection.normalization import score_scale
from edge.inspection.predictor import RawPrediction
from edge.inspection.self_test import golden_scores
from edge.teaching.product_view import CountedPatches, counted_patches
from edge.teaching.teach import ScoredImage, TaughtModel, TeachingImages, TeachingOrder
from edge.teaching.teacher_graph import TeacherGraph
from edge.teaching.used_images import HASH_BYTES, image_line, make_fingerprint, used_images

# Images that the bundle's graph must score as teaching did.
_MAX_COMPARED = 16
# Of the score's range, and of a map's largest value. In integers a step may tip over.
_TOLERANCE = {"fp32": 1e-3, "int8": 2e-2}


@dataclass(frozen=True, slots=True, eq=False)
class TaughtBundle:
    """A bundle before it is written: manifest, ``.xml`` and ``.bin``."""

    manifest: Manifest
    xml: bytes
    weights: bytes

    @property
    def manifest_text(self) -> bytes:
        """The manifest's file."""
        return self.manifest.model_dump_json(indent=2).encode() + b"\n"

    def files(self, xml_path: Path) -> list[tuple[Path, bytes]]:
        """Return what to write; the manifest last: until then the hashes match nothing."""
        return [
            (xml_path, self.xml),
            (xml_path.with_suffix(".bin"), self.weights),
            (xml_path.with_suffix(".json"), self.manifest_text),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What a bundle's manifest says of its making.

    Attributes:
        name: of the product.
        created: now.
        teacher: whose graph it is.
        order: what was asked for.
        images: all that it was taught with.
    """

    name: str
    created: datetime
    teacher: Teacher
    order: TeachingOrder
    images: TeachingImages


def make_bundle(
    taught: TaughtModel, graph: TeacherGraph, lesson: Lesson, threads: int
) -> TaughtBundle:
    """Lay the bank into the graph, prove that it scores as taught, and take golden scores.

    Raises:
        ModelError: the graph gives other numbers than teaching did.
        BundleError: the runtime cannot use it.
    """
    xml, weights = graph.laid_in(taught.bank)
    manifest = _manifest(taught, lesson, xml, weights)
    bundle = Bundle(
        manifest=manifest, sha256="", xml=xml, weights=weights, path=Path(f"{lesson.name}.xml")
    )
    detector = Detector(CompiledModel(bundle, plan=RunPlan(threads=threads)))
    report = _compared(taught, detector, manifest)
    precision = manifest.precision.model_copy(update={"gate": report})
    self_test = golden_scores(detector, manifest)
    finished = manifest.model_copy(update={"precision": precision, "self_test": self_test})
    # Copies are not checked; what is written must be read again.
    return TaughtBundle(Manifest.model_validate(finished.model_dump()), xml, weights)


def _compared(taught: TaughtModel, detector: Detector, manifest: Manifest) -> GateReport:
    """Compare what the bundle says of held-out images with what teaching said.

    Raises:
        ModelError: they differ by more than rounding explains.
    """
    compared = taught.held_out[:_MAX_COMPARED]
    spread = score_scale(manifest.threshold.image, manifest.normalization.image).range
    counted = counted_patches(manifest.input, manifest.output)
    scores = maps = 0.0
    flips = 0
    for item in compared:
        found = _predicted(detector, item, counted)
        scores = max(scores, abs(found.score - item.raw.score) / max(spread, 1e-6))
        scale = max(float(abs(item.raw.anomaly_map).max()), 1e-6)
        maps = max(maps, float(abs(found.anomaly_map - item.raw.anomaly_map).max()) / scale)
        limit = manifest.threshold.image
        flips += (found.score >= limit) != (item.raw.score >= limit)
    tolerance = _TOLERANCE[manifest.precision.weights]
    if not (scores <= tolerance and maps <= tolerance):
        raise ModelError(
            f"{manifest.identity.name}: the model gives other numbers than its teacher: scores "
            f"differ by {scores:.2g}, maps by {maps:.2g}, allowed {tolerance:g}. Nothing was "
            "written. Make the teacher again with this version."
        )
    return GateReport(
        images=max(len(compared), 1),
        largest_score_difference=scores,
        smallest_map_correlation=1.0 - maps,
        verdict_flips=flips / max(len(compared), 1),
        auroc_before=None,
        auroc_after=None,
    )


def _predicted(
    detector: Detector, item: ScoredImage, counted: CountedPatches | None
) -> RawPrediction:
    scores, maps = detector.predict_all(1, lambda _, out: out.__setitem__(..., item.image.prepared))
    raw = RawPrediction(float(scores[0]), maps[0])
    return raw if counted is None else counted.judged(raw)


def _manifest(taught: TaughtModel, lesson: Lesson, xml: bytes, weights: bytes) -> Manifest:
    teacher = lesson.teacher.manifest
    head, described = teacher.head, taught.described
    given = lesson.images
    contents = [image.content for image in given.good]
    # What was left out is not new to the model: it decided about the others.
    kept_out = {item.image.content for item in taught.held_out}
    fitted = [content[:HASH_BYTES] for content in contents if content not in kept_out]
    calibrated = [
        item.image.content[:HASH_BYTES]
        for item in (*taught.scored, *taught.passed, *taught.defective)
    ]
    lines = [
        *(image_line("good", content) for content in contents),
        *(image_line("passed", image.content) for image in given.passed),
        *(image_line("defect", image.content) for image in given.held_against),
    ]
    return Manifest(
        identity=Identity(
            name=lesson.name,
            algorithm=teacher.identity.algorithm,
            backbone=teacher.identity.backbone,
            weights_licence=teacher.identity.weights_licence,
            created=lesson.created.replace(microsecond=0),
            made_with={
                "inspection-station": edge.__version__,
                "openvino": ov.__version__,
                "teacher": lesson.teacher.sha256,
            },
            xml_sha256=hashlib.sha256(xml).hexdigest(),
            bin_sha256=hashlib.sha256(weights).hexdigest(),
            xml_bytes=len(xml),
            bin_bytes=len(weights),
        ),
        input=lesson.order.view.applied(teacher.input).model_copy(
            update={
                "pixel_formats": tuple(
                    sorted(
                        {
                            image.pixel_format
                            for image in (*given.good, *given.passed, *given.held_against)
                        }
                    )
                )
            }
        ),
        output=teacher.output,
        normalization=described.normalization,
        threshold=described.threshold,
        statistics=described.statistics,
        precision=Precision.model_validate(
            {
                "weights": teacher.weights,
                "inference": teacher.inference,
                "gate": _NO_GATE,
                "floating": teacher.floating,
            }
        ),
        training=Training(
            dataset=plain_text(lesson.name),
            dataset_fingerprint=make_fingerprint(lines),
            fit_count=len(taught.learned),
            validation_good_count=described.threshold.good_count,
            validation_defective_count=described.threshold.defective_count,
            seed=lesson.order.seed,
            hyperparameters={
                "layers": ",".join(head.layers),
                "bank_size": head.bank_size,
                "variance": head.variance,
                "search_components": head.search_components,
                "search_candidates": head.search_candidates,
                "search_block": head.search_block,
                "score": head.score,
                "sigma": head.sigma,
                "views": taught.viewed,
                "threshold": taught.choice.text,
            },
            metrics={
                "validation": SplitMetrics(
                    good_count=described.threshold.good_count,
                    defective_count=described.threshold.defective_count,
                )
            },
            good_check=taught.check,
        ),
        seen_images=SeenImagesSummary(
            fitted=used_images(set(fitted)),
            stopping=used_images(()),
            calibrated=used_images(set(calibrated)),
            quantized=used_images(()),
        ),
    )


_NO_GATE = GateReport(
    images=1,
    largest_score_difference=0.0,
    smallest_map_correlation=1.0,
    verdict_flips=0.0,
    auroc_before=None,
    auroc_after=None,
)
