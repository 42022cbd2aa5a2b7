"""The frame path measured beside the bare network, in one interleaved run.

Machines drift and stall, so each measurement is a pair: the bare network, then the whole path, on
the same compiled model. Ratios are taken within pairs; their minimum and median are reported.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.loading import Bundle
from edge.bundle.manifest import Manifest
from edge.cameras.files.pacing import Pace
from edge.cameras.interface import EndOfFrames
from edge.contract.verdict import Verdict
from edge.imaging.frame import Frame, Pixels
from edge.inspection.detector import CompiledModel, Detector, RunPlan
from edge.inspection.frame_prediction import view_frame
from edge.inspection.inspector import Inspector
from edge.station.pipeline.latency import Quantiles
from edge.station.pipeline.mailbox import EveryMailbox
from edge.station.pipeline.pipeline import Station
from edge.station.pipeline.sinks import Sink
from edge.station.pipeline.work import InspectionSetup, QueuedFrame
from edge.station.threads import Failures
from edge.system.processor import pc_identity, usable_cores
from edge.wording import counted

# How long the station works for one measurement of its throughput.
THROUGHPUT_MS = 2000.0

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """The whole path against the bare network, over ``pairs`` interleaved pairs.

    Attributes:
        bare_p50_ms, path_p50_ms: medians.
        ratio_min, ratio_median: path / bare within pairs.
        extra_min_ms, extra_median_ms: path − bare within pairs.
    """

    pairs: int
    bare_p50_ms: float
    path_p50_ms: float
    ratio_min: float
    ratio_median: float
    extra_min_ms: float
    extra_median_ms: float

    def as_json(self) -> dict[str, float]:
        return {key: round(value, 4) for key, value in asdict(self).items()}


def paired(
    bare: Callable[[], Any], path: Callable[[], Any], pairs: int, warm_up: int = 5
) -> Paired:
    """Time two functions in turn."""
    for _ in range(warm_up):
        bare()
        path()
    bare_ms, path_ms = [], []
    for _ in range(pairs):
        bare_ms.append(_milliseconds(bare))
        path_ms.append(_milliseconds(path))
    ratios = [p / b for b, p in zip(bare_ms, path_ms, strict=True)]
    extras = [p - b for b, p in zip(bare_ms, path_ms, strict=True)]
    return Paired(
        pairs=pairs,
        bare_p50_ms=statistics.median(bare_ms),
        path_p50_ms=statistics.median(path_ms),
        ratio_min=min(ratios),
        ratio_median=statistics.median(ratios),
        extra_min_ms=min(extras),
        extra_median_ms=statistics.median(extras),
    )


def latency_pair(network: CompiledModel, pixels: Pixels, pairs: int) -> Paired:
    """Measure one frame: frame in → verdict decided, beside the bare network on prepared input.

    Without tiles the bare network is its request alone, with the input already in place. With tiles
    it runs as many images as the frame has tiles, on all its streams.
    """
    manifest, plan = network.manifest, network.plan
    frame = Frame(
        pixels=pixels, number=0, captured_ns=time.monotonic_ns(), captured_utc_ns=time.time_ns()
    )
    prepared = prepared_pieces(pixels, manifest)
    if manifest.input.tile_plan is None:
        request = network.new_request()
        np.copyto(request.get_tensor("pictures").data[0], prepared[0])
        inspector = Inspector(Detector(network), manifest)
        return paired(request.infer, lambda: inspector.inspect(frame), pairs)
    detector = Detector(network, plan.streams)
    inspector = Inspector(Detector(network, plan.streams), manifest)
    detector.predict_all(len(prepared), lambda index, out: np.copyto(out, prepared[index]))
    return paired(
        lambda: detector.predict_all(len(prepared), _keep),
        lambda: inspector.inspect(frame),
        pairs,
        warm_up=1,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """Images a second of the whole station against the bare network, interleaved."""

    pairs: int
    bare_per_s: float
    path_per_s: float
    ratio_max: float
    ratio_median: float

    def as_json(self) -> dict[str, float]:
        return {key: round(value, 4) for key, value in asdict(self).items()}


def throughput_pair(
    network: CompiledModel,
    images: Sequence[Pixels],
    record: Callable[[Verdict], None],
    count: int,
    *,
    pairs: int,
) -> Throughput:
    """Measure the sustained rate of a station whose camera is never the limit.

    Args:
        network: compiled for throughput; without tiles.
        images: frames that are shown over and over.
        record: what the verdicts' sink does with each.
        count: frames of one measurement.
    """
    streams = network.plan.streams
    detector = Detector(network, streams)
    prepared = prepared_pieces(images[0], network.manifest)[0]
    detector.predict_all(4 * streams, lambda _, out: np.copyto(out, prepared))
    line = InspectionSetup(
        tuple(Inspector(Detector(network), network.manifest) for _ in range(streams))
    )

    def run_path() -> None:
        failures = Failures()
        sink = Sink(
            name="verdicts", deliver=record, bound=64, wait_for_room=True, failures=failures
        )
        camera = MemoryCamera(images, count)
        mailbox: EveryMailbox[QueuedFrame] = EveryMailbox(streams + 1, room_limit_s=None)
        Station(camera=camera, mailbox=mailbox, line=line, sinks=[sink], failures=failures).run()

    measured = paired(lambda: detector.predict_all(count, _keep), run_path, pairs, warm_up=1)
    return Throughput(
        pairs=pairs,
        bare_per_s=1e3 * count / measured.bare_p50_ms,
        path_per_s=1e3 * count / measured.path_p50_ms,
        ratio_max=1.0 / measured.ratio_min,
        ratio_median=1.0 / measured.ratio_median,
    )


def steady_latency(
    network: CompiledModel, images: Sequence[Pixels], rate_fps: float, count: int
) -> Quantiles:
    """Run a station at a steady rate and return the quantiles of the total."""
    failures = Failures()
    inspector = Inspector(Detector(network), network.manifest)
    camera = MemoryCamera(images, count, Pace(rate_fps))
    mailbox: EveryMailbox[QueuedFrame] = EveryMailbox(2, room_limit_s=None)
    return (
        Station(
            camera=camera,
            mailbox=mailbox,
            line=InspectionSetup((inspector,)),
            sinks=[],
            failures=failures,
        )
        .run()
        .latency["total"]
    )


def _keep(index: int, out: Image) -> None:
    """Leave the input as the last frame left it: the network alone."""


def prepared_pieces(pixels: Pixels, manifest: Manifest) -> list[Image]:
    """Return the model inputs of a frame: one, or one for each tile."""
    spec = manifest.input
    view = view_frame(pixels, spec)
    prepared = [np.empty((spec.height, spec.width, 3), np.uint8) for _ in view.pieces.boxes]
    for index, out in enumerate(prepared):
        view.fill(index, out)
    return prepared


class MemoryCamera:
    """Frames from memory, as fast as they are taken: a camera that is never the limit."""

    identity = "images in memory"
    simulated = True
    can_wait = True

    def __init__(self, images: Sequence[Pixels], count: int, pace: Pace | None = None) -> None:
        self._images = cycle(images)
        self._pace = pace or Pace(None)
        self._left = count
        self._number = 0

    def read(self, timeout_s: float) -> Frame | None:
        if self._number == self._left:
            raise EndOfFrames
        if not self._pace.due(timeout_s):
            return None
        self._number += 1
        return Frame(
            pixels=next(self._images),
            number=self._number,
            captured_ns=time.monotonic_ns(),
            captured_utc_ns=time.time_ns(),
        )

    def close(self) -> None:
        """Nothing is held open."""


def _milliseconds(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    function()
    return (time.perf_counter() - started) * 1e3


def benchmark(
    bundle: Bundle, device: str, plan: RunPlan, images: Sequence[Pixels], *, pairs: int
) -> dict[str, Any]:
    """Measure a user's own model on the user's own frames; the result is ready for JSON."""
    network = CompiledModel(bundle, device, plan)
    latency = latency_pair(network, images[0], pairs)
    rows, columns = images[0].shape[:2]
    result: dict[str, Any] = {
        "model": bundle.manifest.identity.name,
        "pc": pc_identity(),
        "frame": f"{columns}×{rows}",
        "plan": asdict(plan),
        "latency": latency.as_json(),
    }
    if bundle.manifest.input.tile_plan is None:
        cores = plan.threads or usable_cores()
        busy = CompiledModel(bundle, device, RunPlan(streams=cores, threads=plan.threads))
        count = max(4 * cores, round(THROUGHPUT_MS / latency.path_p50_ms))
        rate = throughput_pair(busy, images, lambda verdict: None, count, pairs=5)
        result["throughput"] = rate.as_json()
    else:
        result["tiles"] = len(prepared_pieces(images[0], bundle.manifest))
    return result


def benchmark_table(result: dict[str, Any]) -> str:
    """Return a benchmark as lines of text."""
    latency = result["latency"]
    lines = [
        f"{result['model']}, {result['frame']}, {result['pc']}, "
        f"{counted(latency['pairs'], 'pair')}",
        f"latency     bare network {latency['bare_p50_ms']:8.2f} ms   frame to verdict "
        f"{latency['path_p50_ms']:8.2f} ms   ratio {latency['ratio_median']:.3f} "
        f"(least {latency['ratio_min']:.3f}), extra {latency['extra_median_ms']:.2f} ms",
    ]
    if (rate := result.get("throughput")) is not None:
        lines.append(
            f"throughput  bare network {rate['bare_per_s']:8.1f} /s   station          "
            f"{rate['path_per_s']:8.1f} /s   ratio {rate['ratio_median']:.3f} "
            f"(best {rate['ratio_max']:.3f})"
        )
    else:
        lines.append(f"tiles       {result['tiles']}")
    return "\n".join(lines)
