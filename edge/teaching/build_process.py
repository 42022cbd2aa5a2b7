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
from pathlib import Path

import cv2
import numpy as np
from pydantic import Field

from edge.atomic_files import write_all
from edge.bundle.manifest import load_bundle
from edge.errors import StationError
from edge.imaging.frame import Frame
from edge.imaging.image_files import read_image
from edge.inspection.criteria import Limits
from edge.inspection.detector import CompiledModel, Detector, RunPlan
from edge.inspection.inspector import Inspection, Inspector
from edge.inspection.normalization import normalize, score_scale
from edge.inspection.overlay import draw_overlay
from edge.inspection.preprocessing import inspected_box
from edge.inspection.thresholding import Result, decide
from edge.recipes.folder import RecipeFolder
from edge.section import Section
from edge.system.priority import COMPUTES_BESIDE, lower_priority
from edge.teaching.build import BuildOrder, BuiltModel, build
from edge.teaching.line_comparison import LineComparison, LineParts, compare
from edge.teaching.product_view import ProductView, make_view
from edge.teaching.teach import ScoredImage, TeachingOrder

# Of the strangest images, so that somebody sees what is strange about them.
MAX_MAPS = 8
_MAP_PX = 640
_JPEG_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 82]
MODEL_XML = "model.xml"


class RecipeAt(Section):
    """Where a version of a recipe lies.

    Attributes:
        folder: of all recipes.
    """

    folder: str
    name: str
    version: int


class BuildRequest(Section):
    """What the station asks for.

    Attributes:
        images, defective: paths; each is known by its name from there on.
        before, before_threshold: the ``.xml`` of the model in force, to compare with.
        line: file of ``LineParts`` to compare the candidate on; None compares on none.
        like: folder and version of a recipe by whose crop and mask the product is seen.
        folder: gets the bundle and the maps; it is there and empty.
    """

    name: str
    teacher: str
    images: list[str]
    defective: list[str]
    before: str | None
    before_threshold: float | None
    like: RecipeAt | None = None
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


class BuildResult(Section):
    """What was learned.

    Attributes:
        sha256: of the bundle's manifest.
        scored: the strangest first, defective ones among them; of one good image alone none.
        repeated: names of images that show the same as one before.
        guaranteed_rate, confidence, counted: of good parts that are rejected; None where nothing is
            guaranteed.
    """

    sha256: str
    threshold: float
    images: int
    learned: int
    cross_validated: int
    defective: int
    scored: list[ImageScore]
    repeated: list[str]
    left_out: int
    guaranteed_rate: float | None
    confidence: float | None
    counted: int | None
    line: LineComparison | None = None


class BuildReport(Section):
    """One line of the answer.

    Attributes:
        step: number of the step that begins.
        refused: why nothing was built, line by line.
    """

    step: int | None = None
    result: BuildResult | None = None
    refused: list[str] = Field(default_factory=list)


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
        built = build(_order(asked), progress)
        folder = Path(asked.folder)
        maps = _written_maps(built, folder)
        before = _judged_before(asked, built)
        write_all(built.version_files(folder))
        found = _result(built, maps, before)
        if asked.line is not None:
            progress("comparing with the line")
            found = found.model_copy(update={"line": _compared(asked, asked.line)})
        _send(BuildReport(result=found))
    except StationError as error:
        _send(BuildReport(refused=str(error).splitlines()))
    except MemoryError:
        _send(BuildReport(refused=["there is not enough memory to teach. Use fewer images."]))
    except OSError as error:
        why = f"{asked.folder}: cannot be written ({error.strerror}). Make room on this disk."
        _send(BuildReport(refused=[why]))
    return 0


def _order(asked: BuildRequest) -> BuildOrder:
    public_key = Path(asked.public_key) if asked.public_key else None
    view = ProductView()
    if asked.like is not None:
        recipes = RecipeFolder(Path(asked.like.folder))
        view = make_view(recipes.load(asked.like.name, asked.like.version), public_key)
    return BuildOrder(
        name=asked.name,
        teacher=Path(asked.teacher),
        images=[Path(path) for path in asked.images],
        defective=[Path(path) for path in asked.defective],
        order=TeachingOrder(with_views=asked.views, view=view),
        threads=asked.threads,
        public_key=public_key,
        key=Path(asked.key) if asked.key else None,
    )


def _compared(asked: BuildRequest, line: str) -> LineComparison:
    """Judge the parts of the line by what was written."""
    path = Path(line)
    parts = LineParts.model_validate_json(path.read_bytes())
    path.unlink()
    bundle = load_bundle(Path(asked.folder) / MODEL_XML)
    network = CompiledModel(bundle, plan=RunPlan(threads=asked.threads))
    return compare(Inspector(Detector(network), bundle.manifest), parts)


def _judged_before(asked: BuildRequest, built: BuiltModel) -> dict[str, Result]:
    """Return by name what the model in force makes of each image; empty without one.

    Raises:
        StationError: it cannot be loaded.
    """
    if asked.before is None:
        return {}
    bundle = load_bundle(Path(asked.before), Path(asked.public_key) if asked.public_key else None)
    network = CompiledModel(bundle, plan=RunPlan(threads=asked.threads))
    limits = Limits(image_threshold=asked.before_threshold)
    manifest = bundle.manifest
    if manifest.input.locator is None:  # its crop and mask are those of the candidate
        spec = built.view.applied(manifest.input)
        manifest = manifest.model_copy(update={"input": spec})
    inspector = Inspector(Detector(network), manifest, limits)
    found = {}
    for image in (*built.read.images, *built.defective):
        frame = Frame(pixels=read_image(image.path), number=0, captured_ns=0, captured_utc_ns=0)
        found[image.path.name] = inspector.inspect(frame).decision.result
    return found


def _strangest_first(built: BuiltModel) -> list[ScoredImage]:
    scored = [*built.taught.scored, *built.taught.defective]
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
        defective=len(built.defective),
        repeated=[path.name for path in built.read.repeated],
        left_out=taught.check.suspect_count if taught.check is not None else 0,
        guaranteed_rate=found.rate if found is not None else None,
        confidence=found.confidence if found is not None else None,
        counted=found.count if found is not None else None,
    )


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
    manifest = built.bundle.manifest
    threshold = manifest.threshold
    scale = score_scale(threshold.image, manifest.normalization.image)
    return Inspection(
        decision=decide(item.raw.score, threshold.image),
        threshold=threshold.image,
        pixel_threshold=threshold.pixel,
        score=item.raw.score,
        normalized_score=float(normalize(np.asarray(item.raw.score), scale)),
        decided_map=item.raw.anomaly_map,
        map_scale=score_scale(threshold.pixel, manifest.normalization.map),
        placement=inspected_box(shape, manifest.input.crop),
    )


def _send(report: BuildReport) -> None:
    print(report.model_dump_json(), flush=True)


def _end_with_the_station() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
