"""Tuning: which batch, streams and threads serve this model best on this PC.

The result is kept in a file beside the station's settings. It names the PC, the model and the
runtime it was measured with; on another PC or for another model it is ignored with a line in the
log.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.atomic_files import read_regular, write_whole
from edge.bundle.loading import Bundle
from edge.bundle.manifest import Manifest
from edge.errors import ModelError
from edge.inspection.detector import CompiledModel, Detector, RunPlan
from edge.inspection.predictor import RawPredictions
from edge.inspection.self_test import batch_fault, golden_images
from edge.system.processor import pc_identity, processor_features, usable_cores

BATCHES_OF_TILES = (1, 2, 4, 8)
# Instructions that add up products of 8-bit numbers. Without them OpenVINO (2026.4.1, AVX2) gave
# wrong numbers in about one of thirty batches of an INT8 graph: too rarely to be found at a start.
_INTEGER_SUMS = frozenset({"avx_vnni", "avx512_vnni", "avx512vnni"})
# The whole measurement stays under a minute.
TOTAL_LIMIT_S = 45.0

log = logging.getLogger(__name__)


class Measured(BaseModel):
    """One plan and what it reached.

    Attributes:
        batch, streams, threads: the plan.
        latency_ms: median time of one request.
        pictures_per_s: with all streams busy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    batch: int = Field(ge=1, le=64)
    streams: int = Field(ge=1, le=1024)
    threads: int = Field(ge=1, le=1024)
    latency_ms: float = Field(ge=0.0)
    pictures_per_s: float = Field(ge=0.0)

    @property
    def plan(self) -> RunPlan:
        return RunPlan(self.batch, self.streams, self.threads)


class Tuning(BaseModel):
    """All plans that were measured, and for what they hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal["tuning/1"] = "tuning/1"
    pc: str
    model_sha256: str
    runtime: str
    device: str
    threads: int
    measured: tuple[Measured, ...]

    def best(
        self, objective: str, tiled: bool, batches: tuple[int, ...] = BATCHES_OF_TILES
    ) -> RunPlan:
        """Return the plan for an objective.

        Tiles of one frame are done soonest when the most tiles are done a second, so for them both
        objectives are the same.

        Args:
            batches: that may be used.
        """
        if objective == "latency" and not tiled:
            # A frame alone is soonest done when all threads work on it.
            whole = [m for m in self.measured if m.batch == 1]
            return min(whole, key=lambda m: (m.streams, m.latency_ms)).plan
        usable = [m for m in self.measured if m.batch == 1 or (tiled and m.batch in batches)]
        return max(usable, key=lambda m: m.pictures_per_s).plan


def default_plan(objective: str, tiled: bool, threads: int) -> RunPlan:
    """Return a sound plan for a PC that was not tuned."""
    cores = threads or usable_cores()
    if objective == "latency" and not tiled:
        return RunPlan(threads=threads)
    return RunPlan(streams=cores, threads=threads)


def sound_batches(manifest: Manifest, device: str, features: frozenset[str]) -> tuple[int, ...]:
    """Return the batches whose numbers can be relied on.

    Args:
        features: of the processor, as the kernel names them.
    """
    if manifest.input.tile_plan is None:
        return (1,)
    integers = manifest.precision.weights == "int8"
    if integers and device == "CPU" and not features & _INTEGER_SUMS:
        return (1,)
    return BATCHES_OF_TILES


def candidate_plans(cores: int, batches: tuple[int, ...]) -> list[RunPlan]:
    """Return the plans worth measuring: streams that divide the threads, batches for tiles."""
    streams = sorted({1, cores} | {2**power for power in range(1, 7) if 2**power < cores})
    return [RunPlan(batch, count, cores) for count in streams for batch in batches]


def tune(
    bundle: Bundle,
    device: str,
    threads: int,
    limit_s: float = TOTAL_LIMIT_S,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Measured]:
    """Measure plan after plan; yields each as it is done.

    A batch that ever gives other numbers than single images do is left out.

    Args:
        threads: the station's thread budget; 0 takes all cores this process may use.
        limit_s: for all plans together; a PC too slow for them leaves the last ones out.
        clock: what the limit is measured by.

    Raises:
        ModelError: the model cannot be used here, not even image by image.
    """
    cores = threads or usable_cores()
    batches = sound_batches(bundle.manifest, device, processor_features())
    if batches == (1,) and bundle.manifest.input.tile_plan is not None:
        log.info("INT8 tiles run one by one: this processor has no INT8 instructions")
    plans = candidate_plans(cores, batches)
    end = clock() + limit_s
    for number, plan in enumerate(plans):
        left_s = end - clock()
        if number > 0 and left_s <= 0.0:
            log.warning(
                "time limit reached: %d of %d plans were not measured",
                len(plans) - number,
                len(plans),
            )
            return
        try:
            yield measure(bundle, device, plan, left_s / (len(plans) - number), clock=clock)
        except ModelError as error:
            if plan.batch == 1:
                raise
            log.info("batches of %d are left out: %s", plan.batch, error)


def measure(
    bundle: Bundle,
    device: str,
    plan: RunPlan,
    limit_s: float,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Measured:
    """Measure one plan on prepared images for at most ``limit_s``, compilation included.

    Raises:
        ModelError: the model cannot be used here, or gives other numbers in a batch.
    """
    deadline = clock() + limit_s
    manifest = bundle.manifest
    network = CompiledModel(bundle, device, plan)
    known = list(golden_images(manifest.input.height, manifest.input.width).values())

    def fill(index: int, out: NDArray[np.uint8]) -> None:
        np.copyto(out, known[index % len(known)])

    alone = None
    if plan.batch > 1:
        one_by_one = RunPlan(threads=plan.threads)
        alone = Detector(CompiledModel(bundle, device, one_by_one)).predict_all(len(known), fill)

    detector = Detector(network, plan.streams)
    # One round is two requests for every stream: none waits for the others at its end.
    images = 2 * plan.batch * plan.streams
    _demand_alike(alone, detector.predict_all(images, fill), manifest)
    single = Detector(network)
    latencies: list[float] = []
    rates: list[float] = []
    while not rates or clock() < deadline:
        started = time.perf_counter()
        found = single.predict_all(plan.batch, fill)
        latencies.append(time.perf_counter() - started)
        _demand_alike(alone, found, manifest)
        started = time.perf_counter()
        found = detector.predict_all(images, fill)
        rates.append(images / (time.perf_counter() - started))
        _demand_alike(alone, found, manifest)
    return Measured(
        batch=plan.batch,
        streams=plan.streams,
        threads=plan.threads,
        latency_ms=round(float(np.median(latencies)) * 1e3, 3),
        pictures_per_s=round(float(np.median(rates)), 2),
    )


def _demand_alike(alone: RawPredictions | None, found: RawPredictions, manifest: Manifest) -> None:
    """Demand of images in a batch, the known ones in turn, the numbers that they get alone."""
    if alone is None:
        return
    places = np.arange(len(found.scores)) % len(alone.scores)
    expected = RawPredictions(alone.scores[places], alone.anomaly_maps[places])
    fault = batch_fault(expected, found, manifest)
    if fault is not None:
        raise ModelError(f"{manifest.identity.name}: in a batch {fault}. Run it tile by tile.")


def make_tuning(bundle: Bundle, device: str, threads: int, measured: Iterable[Measured]) -> Tuning:
    return Tuning(
        pc=pc_identity(),
        model_sha256=bundle.sha256,
        runtime=ov.__version__,
        device=device,
        threads=threads,
        measured=tuple(measured),
    )


def write_tuning(path: Path, tuning: Tuning) -> None:
    """Write a tuning whole or not at all.

    Raises:
        OutputNotWritable: folder or disk refused it.
    """
    write_whole(path, tuning.model_dump_json(indent=2).encode() + b"\n")


def read_tuning(path: Path, bundle: Bundle, device: str, threads: int) -> Tuning | None:
    """Return the tuning of a file if it holds for this PC, model, runtime and thread budget."""
    try:
        tuning = Tuning.model_validate_json(read_regular(path))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        log.warning("%s is ignored: not a tuning file (%s)", path, type(error).__name__)
        return None
    for what, found, here in (
        ("another PC", tuning.pc, pc_identity()),
        ("another model", tuning.model_sha256, bundle.sha256),
        ("another OpenVINO", tuning.runtime, ov.__version__),
        ("another device", tuning.device, device),
        ("another thread budget", tuning.threads, threads),
    ):
        if found != here:
            log.warning("%s is ignored: it was made for %s. Run edge-run --tune again.", path, what)
            return None
    if not any(m.batch == 1 for m in tuning.measured):
        log.warning("%s is ignored: it contains no measurement of single images", path)
        return None
    return tuning


def tuning_path(config: Path | None, model: Path) -> Path:
    """Return where a station's tuning lies."""
    return beside(config, model, "tuning")


def beside(config: Path | None, model: Path, what: str) -> Path:
    """Return a file of measurements beside the station's settings, else beside the model."""
    owner = config or model
    return owner.with_name(f"{owner.stem}.{what}.json")


def table(measured: Iterable[Measured], heading: bool = True) -> str:
    """Return the measurements as lines of text."""
    lines = ["batch  streams  threads  latency ms    images/s"] if heading else []
    lines += [
        f"{m.batch:5d}  {m.streams:7d}  {m.threads:7d}  "
        f"{m.latency_ms:10.2f}  {m.pictures_per_s:10.1f}"
        for m in measured
    ]
    return "\n".join(lines)
