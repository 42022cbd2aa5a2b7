"""Proves that an imported bundle gives the numbers of the graph it was made of.

The graph itself runs untouched, but for further outputs: its numbers before they are clipped to
0…1. Of numbers clipped at 1 all are equal, whatever the wrapped graph does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino as ov
from numpy.typing import NDArray

from edge.bundle.input_spec import InputSpec
from edge.bundle.manifest import GateReport
from edge.imaging.frame import PixelFormat
from edge.inspection.openvino_core import openvino_core
from edge.inspection.predictor import RawPrediction
from edge.inspection.preprocessing import prepare
from edge.inspection.self_test import golden_images
from edge.wording import agreeing, counted
from export.anomalib_graph import last_line, outputs_by_name, raw_outputs, read_graph
from export.engines import openvino_engine
from export.errors import ImportRefused
from export.parity_gate import Agreement, Budget, Engine, agreement, probe_images
from training.metrics import auroc, exact_interval

Frame = NDArray[np.uint8]

# Of scores and maps of images without detail, whichever way they are resized, in shares of one
# unit of the score or of the largest map value.
_ALIKE = Budget(score_difference=0.05, map_correlation=-1.0, map_difference=0.1)

# Share of the images whose scores must be told apart: of equal ones, as clipped ones are, nothing
# shows that what was seen is the same.
_DISTINCT_SHARE = 1 / 3

# Height and width of frames in shares of the bundle's input: its own shape, then others.
_SAME_SHAPE = ((1.0, 1.0), (1.5, 1.5), (2.4, 2.4))
_OTHER_SHAPES = ((1.2, 1.9), (2.1, 0.9))

# How often a limit that is kept is taken for exceeded.
_ERROR_RATE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What the graph and its bundle are compared by.

    Attributes:
        size: height and width of the bundle's input.
        batch: images that the graph takes at a time.
        free: whether the graph takes frames of any size and resizes them itself.
        norm: mean and deviation of a normalization outside the graph, of RGB in [0, 1].
        threshold: unclipped score from which on an image is rejected.
        unit: of the image score, for differences.
    """

    path: Path
    size: tuple[int, int]
    batch: int
    free: bool
    norm: tuple[tuple[float, ...], tuple[float, ...]]
    threshold: float
    unit: float

    def spec(self) -> InputSpec:
        """Return how the bundle prepares frames."""
        formats = (PixelFormat.BGR8, PixelFormat.GREY8)
        return InputSpec(height=self.size[0], width=self.size[1], pixel_formats=formats)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What another resize does to frames, the graph's own way against the bundle's.

    Attributes:
        rejected: by the graph.
        worse: right verdicts that became wrong; None where no defects are known.
        largest: score difference, in units of the score.
    """

    images: int
    rejected: int
    flips: int
    worse: int
    largest: float
    auroc_before: float | None
    auroc_after: float | None

    def over(self, limit: float) -> bool:
        """Tell whether more verdicts change than a limit, and not by chance."""
        low = exact_interval(self.flips, self.images, 1.0 - 2.0 * _ERROR_RATE).low
        return low > limit


class Original:
    """The exported graph as its own program runs it."""

    def __init__(self, imported: Imported) -> None:
        """Compile it, with its unclipped numbers as further outputs.

        Raises:
            ImportRefused: OpenVINO cannot run it.
        """
        self._imported = imported
        graph = read_graph(imported.path)
        raw = raw_outputs(imported.path, graph)
        self._decides = "pred_label" in outputs_by_name(graph)
        wanted = [raw.anomaly_map, *([] if raw.score is None else [raw.score])]
        graph.add_outputs(wanted)
        self._map, *score = (_place(graph, output) for output in wanted)
        self._score = score[0] if score else None
        try:
            self._compiled = openvino_core().compile_model(
                graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
            )
        except RuntimeError as error:
            raise ImportRefused(
                f"{imported.path}: OpenVINO {ov.__version__} cannot run it ({last_line(error)}). "
                "Export it again."
            ) from error

    def run(self, frames: Sequence[Frame]) -> tuple[list[RawPrediction], NDArray[np.bool_]]:
        """Return unclipped numbers of ``(H, W, 3) uint8`` BGR frames, and which it rejects.

        Raises:
            ImportRefused: it does not take them.
        """
        found: list[RawPrediction] = []
        rejected: list[bool] = []
        for some in _alike(frames, self._imported.batch):
            # A graph of two images takes two: the last one stands in where one is missing.
            full = [*some, *([some[-1]] * (self._imported.batch - len(some)))]
            planes = np.stack([_planes(frame, self._imported.norm) for frame in full])
            try:
                outputs = self._compiled(planes)
            except RuntimeError as error:
                raise ImportRefused(
                    f"{self._imported.path}: cannot run on images of "
                    f"{some[0].shape[1]}×{some[0].shape[0]} ({last_line(error)}). Export it again."
                ) from error
            maps = outputs[self._map].reshape(len(full), *outputs[self._map].shape[-2:])
            scores = maps.max((1, 2)) if self._score is None else outputs[self._score].ravel()
            labels = scores >= self._imported.threshold
            if self._decides:
                labels = outputs["pred_label"].ravel()
            for index in range(len(some)):
                found.append(RawPrediction(float(scores[index]), maps[index].copy()))
                rejected.append(bool(labels[index]))
        return found, np.array(rejected, np.bool_)

    def own_way(self, frame: Frame) -> Frame:
        """Return a frame as its own program would give it to a graph of fixed size."""
        if self._imported.free:
            return frame
        height, width = self._imported.size
        return cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)


def prove(imported: Imported, xml: bytes, weights: bytes) -> GateReport:
    """Demand the same unclipped scores and maps, and the same verdicts, of prepared images.

    Of every kind, and prepared from frames of several sizes and shapes.

    Raises:
        ImportRefused: they differ, or nothing can be told from them.
    """
    spec = imported.spec()
    frames = [frame for size in (*_SAME_SHAPE, *_OTHER_SHAPES) for frame in _scenes(spec, size)]
    images = np.concatenate(
        [
            np.stack(list(golden_images(*imported.size).values())),
            probe_images(spec),
            np.stack([prepare(frame, spec) for frame in frames]),
        ]
    )
    expected, rejected = Original(imported).run(list(images))
    engine = openvino_engine(xml, weights, "f32")
    found = [_seen(engine(p[None])[0], e) for p, e in zip(images, expected, strict=True)]
    measured = agreement(expected, found, imported.unit)
    faults = [] if all(p.is_finite() for p in found) else ["numbers that are not finite"]
    faults = faults or measured.faults("", Budget())
    flips = int((rejected != (_scores(found) >= imported.threshold)).sum())
    if flips and not faults:
        faults = [
            f"{flips} of {counted(len(images), 'verdict')} {agreeing(flips, 'is', 'are')} others"
        ]
    if faults:
        raise ImportRefused(
            f"{imported.path}: the bundle made of it gives other numbers than it gives itself: "
            f"{'; '.join(faults)}. Nothing was written. Report this with the model's name."
        )
    step = Budget().score_difference * imported.unit
    apart = len(np.unique(np.rint(_scores(expected) / step)))
    if apart < _DISTINCT_SHARE * len(images):
        raise ImportRefused(
            f"{imported.path}: gives {counted(len(images), 'very different image')} "
            f"{counted(apart, 'different score')}, so nothing shows that the bundle sees what it "
            "saw. Export it again from the "
            "fitted model, with the post-processor of Anomalib."
        )
    return _report(measured, len(images))


def resize_effect(
    imported: Imported, xml: bytes, weights: bytes, any_shape: bool
) -> tuple[Effect, list[str]]:
    """Measure what our resize changes of frames without detail, where it should change nothing.

    Args:
        any_shape: whether the graph makes one size of frames of every shape, as ours does.

    Returns:
        The effect, and what speaks against taking one resize for the other.
    """
    shapes = _SAME_SHAPE + _OTHER_SHAPES * any_shape
    spec = imported.spec()
    frames = [frame for size in shapes for frame in _scenes(spec, size)]
    original, engine = Original(imported), openvino_engine(xml, weights, "f32")
    pairs = [_both_ways(original, engine, spec, frame) for frame in frames]
    effect = _effect([(a, b, label, None) for a, b, label in pairs], imported)
    if any(a.anomaly_map.shape != b.anomaly_map.shape for a, b, _ in pairs):
        return effect, ["its maps are of other sizes"]
    measured = agreement([a for a, _, _ in pairs], [b for _, b, _ in pairs], imported.unit)
    return effect, measured.faults(" between its resize and ours", _ALIKE)


def judged(
    imported: Imported,
    engine: Engine,
    frames: Iterator[tuple[Frame, bool]],
) -> Effect:
    """Measure on frames of the user's, each with whether it is defective.

    Args:
        engine: the bundle, in the precision that it is to have.
    """
    original = Original(imported)
    spec = imported.spec()
    rows = [(*_both_ways(original, engine, spec, frame), defective) for frame, defective in frames]
    return _effect(rows, imported)


def _both_ways(
    original: Original, engine: Engine, spec: InputSpec, frame: Frame
) -> tuple[RawPrediction, RawPrediction, bool]:
    expected, rejected = original.run([original.own_way(frame)])
    found = _seen(engine(prepare(frame, spec)[None])[0], expected[0])
    return expected[0], found, bool(rejected[0])


def _seen(found: RawPrediction, expected: RawPrediction) -> RawPrediction:
    """Return what the graph itself sees of a map: the bundle's is that of the whole image."""
    sides = expected.anomaly_map.shape
    first = [(a - b) // 2 for a, b in zip(found.anomaly_map.shape, sides, strict=True)]
    middle = np.s_[first[0] : first[0] + sides[0], first[1] : first[1] + sides[1]]
    return RawPrediction(found.score, found.anomaly_map[middle])


def _effect(
    rows: Sequence[tuple[RawPrediction, RawPrediction, bool, bool | None]], imported: Imported
) -> Effect:
    before, after = _scores([row[0] for row in rows]), _scores([row[1] for row in rows])
    was = np.array([row[2] for row in rows], np.bool_)
    now = after >= imported.threshold
    known = all(row[3] is not None for row in rows)
    defective = np.array([bool(row[3]) for row in rows], np.bool_)
    return Effect(
        images=len(rows),
        rejected=int(was.sum()),
        flips=int((was != now).sum()),
        worse=int(((was == defective) & (now != defective)).sum()) if known else 0,
        largest=float(np.abs(after - before).max()) / imported.unit,
        auroc_before=auroc(before, defective) if known else None,
        auroc_after=auroc(after, defective) if known else None,
    )


def _report(measured: Agreement, count: int) -> GateReport:
    return GateReport(
        images=count,
        largest_score_difference=measured.score_difference,
        smallest_map_correlation=measured.map_correlation,
        verdict_flips=0.0,
        auroc_before=None,
        auroc_after=None,
    )


def _scores(predictions: Sequence[RawPrediction]) -> NDArray[np.float64]:
    return np.array([prediction.score for prediction in predictions], np.float64)


def _planes(frame: Frame, norm: tuple[tuple[float, ...], tuple[float, ...]]) -> NDArray[np.float32]:
    """Return ``(3, H, W) float32`` RGB as the graph takes it."""
    mean, deviation = (np.reshape(part, (3, 1, 1)) for part in norm)
    planes = frame[:, :, ::-1].transpose(2, 0, 1).astype(np.float32) / 255.0
    return np.ascontiguousarray((planes - mean) / deviation, np.float32)


def _place(graph: ov.Model, output: Any) -> int:
    """Return which output of a graph gives this one: it may have been one already."""
    given = [result.get_node().input_value(0) for result in graph.outputs]
    wanted = (output.get_node().get_friendly_name(), output.get_index())
    return [(g.get_node().get_friendly_name(), g.get_index()) for g in given].index(wanted)


def _alike(frames: Sequence[Frame], max_count: int) -> Iterator[list[Frame]]:
    """Yield frames in runs of one shape, as many as fit a batch."""
    some: list[Frame] = []
    for frame in frames:
        if some and (len(some) == max_count or some[0].shape != frame.shape):
            yield some
            some = []
        some.append(frame)
    if some:
        yield some


def _scenes(spec: InputSpec, size: tuple[float, float]) -> list[Frame]:
    """Return frames of this size in shares of the input: coloured slopes, with a spot on some.

    Without detail, so that a resize changes no more than their size; and of colours that are
    others when their order is.
    """
    height, width = (
        max(16, round(share * side))
        for share, side in zip(size, (spec.height, spec.width), strict=True)
    )
    rows = (np.arange(height) + 0.5)[:, None] / height
    columns = (np.arange(width) + 0.5)[None, :] / width
    scenes = []
    for number, colour in enumerate(((40, 90, 200), (210, 120, 30), (60, 180, 90))):
        planes = [
            level + 25.0 * np.sin(2.0 * np.pi * (rows * (1 + channel) + columns + number / 3.0))
            for channel, level in enumerate(colour)
        ]
        scene = np.stack(planes, 2)
        spot = np.exp(-(((rows - 0.3) / 0.1) ** 2) - ((columns - 0.65) / 0.15) ** 2)
        scene += (number > 0) * spot[:, :, None] * np.array([-60.0, 80.0, 50.0])
        scenes.append(np.clip(np.rint(scene), 0, 255).astype(np.uint8))
    return scenes
