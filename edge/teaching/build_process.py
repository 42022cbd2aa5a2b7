"""Teaching in a process of its own, below the line: an order goes in, a candidate comes out.

The order is one line of JSON at standard input, which stays open: its end tells that the station
has gone. Each line of the answer is a ``BuildReport``, the last one a result or what refused it.
"""

import hashlib
import os
import resource
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from pydantic import Field

from edge.atomic_files import write_all
from edge.bundle.input_spec import AlignMode, Crop
from edge.bundle.loading import load_bundle
from edge.bundle.manifest import ThresholdMethod
from edge.errors import OutputNotWritable, StationError
from edge.imaging.frame import Frame
from edge.imaging.image_files import read_image
from edge.inspection.criteria import Limits
from edge.inspection.decision import Result, decide
from edge.inspection.detector import CompiledModel, Detector, RunPlan
from edge.inspection.inspector import Inspection, Inspector
from edge.inspection.normalization import normalize, score_scale
from edge.inspection.overlay import draw_overlay
from edge.inspection.pieces import frame_pieces
from edge.recipes.folder import RecipeFolder
from edge.section import Section
from edge.system.priority import COMPUTES_BESIDE, lower_priority
from edge.teaching.build import Alignment, BuildOrder, BuiltModel, build
from edge.teaching.images import TaughtImage
from edge.teaching.learning_from_marks import WrongBefore, choice_of_rate
from edge.teaching.line_comparison import LineComparison, LineParts, compare
from edge.teaching.part_reference import strangeness
from edge.teaching.product_view import ProductView, make_view
from edge.teaching.teach import ScoredImage, TeachingOrder

# Of the strangest images, so that somebody sees what is strange about them.
MAX_MAPS = 8
# Of false rejects, beside the one that a candidate was built with.
OFFERED_RATES = (0.0, 0.01, 0.02, 0.05, 0.1)
_MAP_PX = 640
_JPEG_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 82]
MODEL_XML = "model.xml"


class RecipeAt(Section):
    """Where a version of a recipe lies, and what is set for it.

    Attributes:
        folder: of all recipes.
        mask: file that is in force for it, of the version or drawn at the page; None for that of
            its bundle.
    """

    folder: str
    name: str
    version: int
    mask: str | None = None


class AlignmentRequest(Section):
    """How the part is to be found, as ``Alignment`` has it.

    Attributes:
        mode: None does not look for it.
    """

    mode: AlignMode | None
    reference: str | None = None
    roi: Crop | None = None
    scale: float = 0.0


class BuildRequest(Section):
    """What the station asks for.

    Attributes:
        images, confirmed, passed, defective, rejected: paths, as ``BuildOrder`` has them; each
            is known by its name from there on.
        learning: the threshold is laid so that the candidate is no worse than ``before``.
        max_false_rejects: it is laid within this share of the good instead.
        before, before_threshold: the ``.xml`` of the model in force, to compare with.
        line: file of ``LineParts`` to compare the candidate on; None compares on none.
        like: folder and version of a recipe by whose crop and mask the product is seen.
        alignment: how the part is found; None as in ``like``.
        folder: gets the bundle and the maps; it is there and empty.
    """

    name: str
    teacher: str
    images: list[str]
    confirmed: list[str] = Field(default_factory=list)
    passed: list[str] = Field(default_factory=list)
    defective: list[str]
    rejected: list[str] = Field(default_factory=list)
    learning: bool = False
    max_false_rejects: float | None = None
    before: str | None
    before_threshold: float | None
    like: RecipeAt | None = None
    alignment: AlignmentRequest | None = None
    line: str | None = None
    folder: str
    views: bool
    threads: int
    public_key: str | None
    key: str | None


class ImageScore(Section):
    """What is known of a taught image.

    Attributes:
        score: raw, by a bank made without it.
        doubtful: it looks like a defect, and nothing rests on it.
        has_map: ``NAME.jpg`` in the folder shows what is strange about it.
        before: what the model in force makes of it; None without one.
        after: what the candidate does, of an image that it was taught with without that.
    """

    name: str
    score: float
    doubtful: bool
    has_map: bool
    before: Result | None
    after: Result


class FoundPlace(Section):
    """Where the part was found in an image.

    Attributes:
        x, y: of the middle of the reference's region, in pixels of the image.
        angle_deg: of its turn, clockwise as seen.
        scale: how many times as large as in the reference it is.
        likeness: to the reference, at most 1.
        strangeness: how far it lies from where most parts lie.
    """

    name: str
    x: float
    y: float
    angle_deg: float
    scale: float
    likeness: float
    strangeness: float


class AlignmentResult(Section):
    """How parts are found.

    Attributes:
        reference: name of the image that shows the part; None as in the version before.
        roi: of the reference image.
        least_likeness: that a part must reach.
        scale: share by which a part may be larger or smaller.
        places: where they were found; the strangest first.
    """

    mode: AlignMode
    reference: str | None
    roi: Crop
    least_likeness: float
    scale: float
    places: list[FoundPlace]


class ThresholdOption(Section):
    """What a threshold would do that allows so many false rejects.

    Attributes:
        rate: of the good, at most.
        rejected: of the good images that the threshold rests on.
        missed: of the defective ones.
    """

    rate: float
    threshold: float
    rejected: int
    missed: int


class BuildResult(Section):
    """What was learned.

    Attributes:
        known_good: images that the threshold rests on; ``passed`` of them were not learned.
        max_false_rejects: that it allows; None where it rests on good images alone.
        options: what others would do.
        sha256: of the bundle's manifest.
        scored: the strangest first, defective ones among them; of one good image alone none.
        repeated: names of images that show the same as one before.
        alignment: None of a product that is not looked for.
        guaranteed_rate, confidence, counted: of good parts that are rejected; None where nothing is
            guaranteed.
    """

    sha256: str
    threshold: float
    images: int
    learned: int
    cross_validated: int
    known_good: int
    passed: int
    defective: int
    max_false_rejects: float | None
    options: list[ThresholdOption]
    scored: list[ImageScore]
    repeated: list[str]
    left_out: int
    guaranteed_rate: float | None
    confidence: float | None
    counted: int | None
    alignment: AlignmentResult | None = None
    line: LineComparison | None = None


class BuildReport(Section):
    """One line of the answer.

    Attributes:
        step: number of the step that begins.
        refused: why nothing was built, line by line.
        refused_kind, refused_data: as ``StationError`` has them.
    """

    step: int | None = None
    result: BuildResult | None = None
    refused: list[str] = Field(default_factory=list)
    refused_kind: str = ""
    refused_data: dict[str, str | int] = Field(default_factory=dict)


def main() -> int:
    """Be the process; what it writes is whole before its result is."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    lower_priority(COMPUTES_BESIDE)
    with suppress(OSError):  # where memory runs out, this process goes and not the station
        Path("/proc/self/oom_score_adj").write_text("1000")
    asked = BuildRequest.model_validate_json(sys.stdin.readline())
    threading.Thread(target=_end_with_the_station, daemon=True).start()
    steps = 0

    def progress(_sentence: str) -> None:
        nonlocal steps
        steps += 1
        _send(BuildReport(step=steps))

    try:
        order = _order(asked)
        before = _judged_before(asked)
        built = build(_held_against(order, asked, before), progress)
        folder = Path(asked.folder)
        maps = _written_maps(built, folder)
        write_all(built.version_files(folder))
        found = _result(built, maps, before)
        if asked.line is not None:
            progress("comparing with the line")
            found = found.model_copy(update={"line": _compared(asked, asked.line)})
        _send(BuildReport(result=found))
    except StationError as error:
        _send(
            BuildReport(
                refused=_without_folders(str(error), asked).splitlines(),
                refused_kind="disk" if isinstance(error, OutputNotWritable) else error.kind,
                refused_data=dict(error.data),
            )
        )
    except MemoryError:
        why = "there is not enough memory to teach. Use fewer images."
        _send(BuildReport(refused=[why], refused_kind="memory"))
    except OSError as error:
        why = f"{asked.folder}: cannot be written ({error.strerror}). Make room on this disk."
        _send(BuildReport(refused=[why], refused_kind="disk"))
    return 0


def _without_folders(text: str, asked: BuildRequest) -> str:
    """Return a text that names images as people see them at the page."""
    for path in (*asked.images, *asked.passed, *asked.defective, *asked.rejected):
        text = text.replace(path, Path(path).name)
    return text


def _order(asked: BuildRequest) -> BuildOrder:
    public_key = Path(asked.public_key) if asked.public_key else None
    view, alignment = _view_before(asked), None
    if asked.alignment is not None:
        view = view.unaligned()
        if asked.alignment.mode is not None:
            # What was drawn on the frame does not lie on the part.
            view = ProductView()
            reference = asked.alignment.reference
            alignment = Alignment(
                mode=asked.alignment.mode,
                reference=Path(reference) if reference is not None else None,
                roi=asked.alignment.roi,
                scale=asked.alignment.scale,
            )
    return BuildOrder(
        name=asked.name,
        teacher=Path(asked.teacher),
        images=[Path(path) for path in asked.images],
        confirmed=[Path(path) for path in asked.confirmed],
        passed=[Path(path) for path in asked.passed],
        defective=[Path(path) for path in asked.defective],
        rejected=[Path(path) for path in asked.rejected],
        order=TeachingOrder(with_views=asked.views, view=view),
        alignment=alignment,
        threads=asked.threads,
        public_key=public_key,
        key=Path(asked.key) if asked.key else None,
    )


def _view_before(asked: BuildRequest) -> ProductView:
    """Return how the version before looks at the product.

    Raises:
        StationError: its bundle or mask cannot be read.
    """
    if asked.like is None:
        return ProductView()
    recipes = RecipeFolder(Path(asked.like.folder))
    version = recipes.load(asked.like.name, asked.like.version)
    mask = asked.like.mask
    return make_view(
        version,
        Path(asked.public_key) if asked.public_key else None,
        mask=Path(mask) if mask is not None else None,
    )


def _held_against(
    order: BuildOrder, asked: BuildRequest, before: Mapping[str, Result]
) -> BuildOrder:
    """Return an order that says how the threshold is laid, of what is learned from marks."""
    if not asked.learning:
        return order
    if asked.max_false_rejects is not None:
        teaching = replace(order.order, threshold=choice_of_rate(asked.max_false_rejects))
        return replace(order, order=teaching)
    good = {path.name for path in (*order.images, *order.passed)}
    rejected = sum(name in good and one is not Result.OK for name, one in before.items())
    missed = sum(name not in good and one is Result.OK for name, one in before.items())
    teaching = replace(order.order, before=WrongBefore(rejected, missed))
    return replace(order, order=teaching)


def _compared(asked: BuildRequest, line: str) -> LineComparison:
    """Judge the parts of the line by what was written."""
    path = Path(line)
    parts = LineParts.model_validate_json(path.read_bytes())
    path.unlink()
    bundle = load_bundle(Path(asked.folder) / MODEL_XML)
    network = CompiledModel(bundle, plan=RunPlan(threads=asked.threads))
    return compare(Inspector(Detector(network), bundle.manifest), parts)


def _judged_before(asked: BuildRequest) -> dict[str, Result]:
    """Return by name what the model in force makes of each image; empty without one.

    Raises:
        StationError: it cannot be loaded, or an image cannot be read.
    """
    if asked.before is None:
        return {}
    bundle = load_bundle(Path(asked.before), Path(asked.public_key) if asked.public_key else None)
    network = CompiledModel(bundle, plan=RunPlan(threads=asked.threads))
    limits = Limits(image_threshold=asked.before_threshold)
    manifest = bundle.manifest
    if asked.like is not None:
        spec = _view_before(asked).applied(manifest.input)
        manifest = manifest.model_copy(update={"input": spec})
    inspector = Inspector(Detector(network), manifest, limits)
    found = {}
    for path in (*asked.images, *asked.passed, *asked.defective, *asked.rejected):
        frame = Frame(pixels=read_image(Path(path)), number=0, captured_ns=0, captured_utc_ns=0)
        found[Path(path).name] = inspector.inspect(frame).decision.result
    return found


def _strangest_first(built: BuiltModel) -> list[ScoredImage]:
    scored = [*built.taught.scored, *built.taught.passed, *built.taught.defective]
    return sorted(scored, key=lambda item: -item.raw.score)


def _result(built: BuiltModel, maps: set[str], before: Mapping[str, Result]) -> BuildResult:
    manifest, taught = built.bundle.manifest, built.taught
    threshold = manifest.threshold
    found = threshold.guarantee
    return BuildResult(
        sha256=hashlib.sha256(built.bundle.manifest_text).hexdigest(),
        threshold=threshold.image,
        images=len(built.read.images),
        learned=len(taught.learned),
        cross_validated=threshold.cross_validated_count,
        scored=[
            ImageScore(
                name=item.image.path.name,
                score=item.raw.score,
                doubtful=item.doubtful,
                has_map=item.image.path.name in maps,
                before=before.get(item.image.path.name),
                after=decide(item.raw.score, threshold.image).result,
            )
            for item in _strangest_first(built)
        ],
        known_good=threshold.good_count,
        passed=sum(not item.doubtful for item in taught.passed),
        defective=len(taught.defective),
        max_false_rejects=_allowed(built),
        options=_options(built),
        repeated=[path.name for path in built.read.repeated],
        left_out=taught.check.suspect_count if taught.check is not None else 0,
        guaranteed_rate=found.rate if found is not None else None,
        confidence=found.confidence if found is not None else None,
        counted=found.count if found is not None else None,
        alignment=_alignment(built),
    )


def _alignment(built: BuiltModel) -> AlignmentResult | None:
    locator, given = built.bundle.manifest.input.locator, built.given
    if locator is None:
        return None
    images = (*given.good, *given.passed, *given.held_against)
    strange = strangeness([image.located for image in images])
    ordered = sorted(zip(strange, images, strict=True), key=lambda item: -item[0])
    return AlignmentResult(
        mode=locator.mode,
        reference=built.reference,
        roi=locator.roi,
        least_likeness=locator.least_likeness,
        scale=locator.most_scale,
        places=[_place(image, value) for value, image in ordered],
    )


def _place(image: TaughtImage, strange: float) -> FoundPlace:
    located = image.located
    assert located is not None  # read_images refuses the others
    pose = located.pose
    return FoundPlace(
        name=image.path.name,
        x=round(pose.x, 1),
        y=round(pose.y, 1),
        angle_deg=round(pose.angle_deg, 1),
        scale=round(pose.scale, 4),
        likeness=round(located.likeness, 3),
        strangeness=round(strange, 2),
    )


def _allowed(built: BuiltModel) -> float | None:
    choice = built.taught.choice
    return choice.numbers[0] if choice.method is ThresholdMethod.BALANCED else None


def _options(built: BuiltModel) -> list[ThresholdOption]:
    """Return what thresholds would do that allow more or fewer false rejects."""
    taught, allowed = built.taught, _allowed(built)
    if allowed is None:
        return []
    good, defective = taught.known_scores()
    if not len(good):  # of one image and its views
        return []
    options = []
    for rate in sorted({allowed, *OFFERED_RATES}):
        choice = taught.choice if rate == allowed else choice_of_rate(rate)
        threshold = choice.threshold(good, defective)
        rejected, missed = int((good >= threshold).sum()), int((defective < threshold).sum())
        options.append(
            ThresholdOption(rate=rate, threshold=threshold, rejected=rejected, missed=missed)
        )
    return options


def _written_maps(built: BuiltModel, folder: Path) -> set[str]:
    """Write what the strangest images look like to a bank that does not know them."""
    written = set()
    for item in _strangest_first(built)[:MAX_MAPS]:
        pixels = read_image(item.image.path)
        overlay = draw_overlay(pixels, _inspection(built, item, pixels.shape))
        factor = _MAP_PX / overlay.shape[1]
        if factor < 1.0:
            overlay = cv2.resize(overlay, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        content = cv2.imencode(".jpg", overlay, _JPEG_QUALITY)[1].tobytes()
        (folder / f"{item.image.path.stem}.jpg").write_bytes(content)
        written.add(item.image.path.name)
    return written


def _inspection(built: BuiltModel, item: ScoredImage, shape: tuple[int, ...]) -> Inspection:
    """Return what the line would say of a taught image, had it not been taught with it."""
    manifest, located = built.bundle.manifest, item.image.located
    threshold = manifest.threshold
    box = frame_pieces(shape, manifest.input).whole
    scale = score_scale(threshold.image, manifest.normalization.image)
    return Inspection(
        decision=decide(item.raw.score, threshold.image),
        threshold=threshold.image,
        pixel_threshold=threshold.pixel,
        score=item.raw.score,
        normalized_score=float(normalize(np.asarray(item.raw.score), scale)),
        decided_map=item.raw.anomaly_map,
        map_scale=score_scale(threshold.pixel, manifest.normalization.map),
        map_box=box,
        located=located,
        placement=box if located is None else located.pose.enclosing(box, (shape[0], shape[1])),
    )


def _send(report: BuildReport) -> None:
    print(report.model_dump_json(), flush=True)


def _end_with_the_station() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
