"""``make bench``: the frame path in figures, as a table and as ``build/bench.json``.

Everything is measured on this machine, alone and in interleaved pairs.
"""

import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
from numpy.typing import NDArray

from edge.bundle.loading import Bundle, load_bundle
from edge.cli.benchmark import (
    latency_pair,
    paired,
    prepared_pieces,
    steady_latency,
    throughput_pair,
)
from edge.contract.verdict import StationIdentity, Verdict, payload
from edge.imaging.frame import Box
from edge.imaging.jpeg_integrity import jpeg_fault
from edge.inspection.detector import CompiledModel, RunPlan
from edge.inspection.heat_map import blend_heat_map
from edge.inspection.normalization import ScoreScale
from edge.journal.entries import Entry, RecordKind
from edge.station.model.tuning import BATCHES_OF_TILES, candidate_plans, measure
from edge.system.processor import pc_identity, usable_cores
from tests.bench import head_times, numbers, watched_folder
from tests.bench.bundles import make_bundles
from tests.bench.core_set import core_set_times
from tests.bench.outputs import CAMERA_LINE, REGISTER, output_figures
from tests.bench.publication import publication_figures
from tests.support.broker import Broker
from tests.support.page_load import VIEWERS, demo_station, measured, viewers
from tests.support.relaying import RelayedJournal
from training.data.rendered import render_part

PAIRS = 60
PAGE_ROUNDS = 9
PAGE_PARTS = 160
BUILD = Path("build")
FRAMES = BUILD / "bench" / "frames"


def main() -> int:
    cv2.setNumThreads(1)
    whole_path, tiled_path, int8_path = make_bundles(BUILD / "bench")
    whole, tiled = load_bundle(whole_path), load_bundle(tiled_path)
    details: dict[str, Any] = {"pc": pc_identity(), "pairs": PAIRS}
    print_line(f"{details['pc']}; ResNet-18 PatchCore, 4,096 vectors, 256×256; {PAIRS} pairs")
    figures: dict[str, float] = {}

    network = CompiledModel(whole, "CPU", RunPlan())
    for width, height in ((640, 480), (1600, 1200), (2448, 2048)):
        pair = latency_pair(network, part(width, height), PAIRS)
        details[f"untiled_{width}x{height}"] = pair.as_json()
        print_line(
            f"untiled {width}×{height}: bare {pair.bare_p50_ms:.2f} ms, frame to verdict "
            f"{pair.path_p50_ms:.2f} ms, ratio {pair.ratio_median:.3f} "
            f"(least {pair.ratio_min:.3f}), extra {pair.extra_median_ms:.2f} ms "
            f"(least {pair.extra_min_ms:.2f})"
        )
    figures["untiled_fp32_p50_ratio"] = details["untiled_640x480"]["ratio_median"]
    quick = CompiledModel(load_bundle(int8_path), "CPU", RunPlan())
    figures["untiled_int8_p50_extra_ms"] = int8_extra(quick, details)
    figures["int8_over_fp32"] = int8_ratio(quick, network, details)
    heads = head_times.head_times(BUILD / "bench", part(640, 480))
    details["heads_640x480"] = head_times.figures(heads)
    for precision, pair in heads.items():
        figures[f"head_{precision.lower()}_over_before"] = round(pair.ratio_median, 4)
        print_line(head_times.sentence(precision, pair))
    figures["jpeg_check_ms"] = jpeg_check(details)
    figures["untiled_1600x1200_extra_ms"] = details["untiled_1600x1200"]["extra_median_ms"]

    figures["tiled_2448x2048_ratio"] = tiles(tiled, details)
    figures["throughput_ratio"] = throughput(whole, details)
    figures["overlay_speedup"] = overlay(details)
    figures["p99_over_p50"] = steady(network, details)
    several_cameras(whole_path, details)
    figures["rss_growth_100k"] = memory_growth(details)
    figures["ready_s"], figures["rss_mib"] = start(whole_path, details)
    figures["page_p99_ratio"] = watched_page(details)
    figures["core_set_speedup"] = core_set(whole_path, details)
    publication = publication_figures()
    details["publication"] = asdict(publication)
    figures["publication_p99_ms"] = statistics.median(publication.p99_ms)
    print_line(str(publication))
    ways = output_figures()
    details["outputs"] = [asdict(one) for one in ways]
    for way in ways:
        print_line(str(way))
    figures["result_register_p99_ms"], figures["camera_line_p99_ms"] = (
        next(one.p99_ms for one in ways if one.what == what) for what in (REGISTER, CAMERA_LINE)
    )
    figures["page_numbers_cpu_ms"] = page_numbers(details)
    folder = details["watched_folder"] = asdict(watched_folder.measured())
    print_line(watched_folder.sentence(folder))
    figures["watched_folder_latency_ms"] = folder["latency_max_ms"]
    figures["watched_folder_idle_share"] = folder["idle_share"]

    result = {**figures, "details": details}
    BUILD.mkdir(exist_ok=True)
    (BUILD / "bench.json").write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    print_line(f"written to {BUILD / 'bench.json'}")
    return 0


def int8_extra(network: CompiledModel, details: dict[str, Any]) -> float:
    """Return what the path adds to the bare INT8 network, in milliseconds."""
    pair = latency_pair(network, part(640, 480), PAIRS)
    details["untiled_640x480_int8"] = pair.as_json()
    print_line(
        f"untiled 640×480, INT8: bare {pair.bare_p50_ms:.2f} ms, frame to verdict "
        f"{pair.path_p50_ms:.2f} ms, extra {pair.extra_median_ms:.2f} ms"
    )
    return round(pair.extra_median_ms, 4)


def int8_ratio(int8: CompiledModel, fp32: CompiledModel, details: dict[str, Any]) -> float:
    """Return the time of the bare INT8 network / that of the FP32 one."""
    prepared = prepared_pieces(part(640, 480), fp32.manifest)[0]
    requests = [network.new_request() for network in (fp32, int8)]
    for request in requests:
        np.copyto(request.get_tensor("pictures").data[0], prepared)
    pair = paired(requests[0].infer, requests[1].infer, PAIRS)
    details["int8_over_fp32"] = {
        "fp32_ms": round(pair.bare_p50_ms, 3),
        "int8_ms": round(pair.path_p50_ms, 3),
    }
    print_line(
        f"bare network: FP32 {pair.bare_p50_ms:.2f} ms, INT8 {pair.path_p50_ms:.2f} ms, "
        f"ratio {pair.ratio_median:.3f}"
    )
    return round(pair.ratio_median, 4)


def jpeg_check(details: dict[str, Any]) -> float:
    """Return how long a JPEG's check takes, of quality 75 and 640×480, in milliseconds."""
    noise = np.random.default_rng(0).normal(0, 3, (480, 640, 3))
    pixels = np.clip(part(640, 480) + noise, 0, 255).astype(np.uint8)
    details["jpeg_check_640x480"] = measured_ms = {}
    for quality in (75, 90, 95):
        encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].reshape(-1)
        pair = paired(
            partial(jpeg_fault, encoded), partial(cv2.imdecode, encoded, cv2.IMREAD_COLOR), PAIRS
        )
        measured_ms[quality] = round(pair.bare_p50_ms, 3)
        print_line(
            f"JPEG of {encoded.size / 1000:.0f} kB, 640×480: check {pair.bare_p50_ms:.2f} ms, "
            f"decoding {pair.path_p50_ms:.2f} ms"
        )
    return measured_ms[75]


def tiles(bundle: Bundle, details: dict[str, Any]) -> float:
    """Return frame time / (tiles × bare time per tile at its best batch and stream count)."""
    plans = [
        (measure(bundle, "CPU", plan, 3.0), plan)
        for plan in candidate_plans(usable_cores(), BATCHES_OF_TILES)
    ]
    best, plan = max(plans, key=lambda item: item[0].pictures_per_s)
    pixels = part(2448, 2048)
    pair = latency_pair(CompiledModel(bundle, "CPU", plan), pixels, 8)
    count = len(prepared_pieces(pixels, bundle.manifest))
    details["tiled_2448x2048"] = {
        **pair.as_json(),
        "tiles": count,
        "batch": plan.batch,
        "streams": plan.streams,
        "best_tiles_per_s": best.pictures_per_s,
    }
    print_line(
        f"tiled 2448×2048, {count} tiles, batch {plan.batch}, {plan.streams} streams: bare "
        f"{pair.bare_p50_ms:.0f} ms, frame to verdict {pair.path_p50_ms:.0f} ms, ratio "
        f"{pair.ratio_median:.3f} (least {pair.ratio_min:.3f})"
    )
    return round(pair.ratio_median, 4)


def throughput(bundle: Bundle, details: dict[str, Any]) -> float:
    """Return the station's sustained rate / the bare network's best rate, MQTT on."""
    plans = [
        (measure(bundle, "CPU", plan, 4.0), plan) for plan in candidate_plans(usable_cores(), (1,))
    ]
    _, plan = max(plans, key=lambda item: item[0].pictures_per_s)
    folder = BUILD / "bench" / "broker"
    folder.mkdir(exist_ok=True)
    broker = Broker(folder.absolute())
    broker.start()
    shutil.rmtree(BUILD / "bench" / "journal", ignore_errors=True)
    station = RelayedJournal(BUILD / "bench" / "journal", broker.url).start()
    identity = StationIdentity(
        simulated=True,
        trigger_source="free_run",
        model_name="whole",
        model_version="1",
        model_sha256=bundle.sha256,
        precision="fp32/f32",
        device="CPU",
        runtime="openvino",
        config_sha256="0" * 64,
    )

    def record(verdict: Verdict) -> None:
        content = payload(verdict, identity, session=None)
        station.writer.submit(
            Entry(RecordKind.VERDICT, content, verdict.inspection.decision.result.value)
        )

    images = [part(640, 480, number) for number in range(8)]
    rate = throughput_pair(CompiledModel(bundle, "CPU", plan), images, record, count=100, pairs=7)
    assert station.writer.flush(10.0)
    delivery = station.publisher.wait_until_delivered(10.0)
    station.close()
    broker.stop()
    details["throughput"] = {
        **rate.as_json(),
        "streams": plan.streams,
        "verdicts_acknowledged": delivery.acknowledged,
    }
    print_line(
        f"sustained, journal and MQTT on, {plan.streams} streams: bare {rate.bare_per_s:.1f}/s, "
        f"station {rate.path_per_s:.1f}/s, ratio {rate.ratio_median:.3f} "
        f"(best {rate.ratio_max:.3f})"
    )
    return round(rate.ratio_median, 4)


def several_cameras(bundle: Path, details: dict[str, Any]) -> None:
    """Measure one station with all cores, and one station a core side by side."""
    count = usable_cores()
    rates: dict[str, list[float]] = {"one": [], "several": []}
    for _ in range(3):
        rates["one"].append(sum(stations(bundle, 1, count)))
        rates["several"].append(sum(stations(bundle, count, 1)))
    one, several = (statistics.median(rates[name]) for name in ("one", "several"))
    details["cameras"] = {"count": count, "one_per_s": one, "several_per_s": several}
    print_line(
        f"one camera {one:.1f}/s on {count} threads; {count} cameras, a process with 1 thread "
        f"each, {several:.1f}/s together"
    )


def stations(bundle: Path, count: int, threads: int) -> list[float]:
    """Run stations side by side for five seconds each and return their rates."""
    command = [sys.executable, "-m", "tests.bench.one_camera", str(bundle), str(threads), "5"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    return [float(process.communicate(timeout=120)[0]) for process in running]


def overlay(details: dict[str, Any]) -> float:
    """Return how many times faster the heat map is than OpenCV's three steps, 1920×1080."""
    frame = part(1920, 1080)
    random = np.random.default_rng(0)
    anomaly_map = cv2.GaussianBlur(random.random((32, 32), np.float32), (0, 0), 2.0)
    anomaly_map = (anomaly_map - anomaly_map.min()) / np.ptp(anomaly_map)
    canvas = frame.copy()

    def opencv() -> None:
        shown = cv2.resize(anomaly_map, (1920, 1080), interpolation=cv2.INTER_LINEAR)
        heat = cv2.applyColorMap((shown * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
        cv2.addWeighted(frame, 0.6, heat, 0.4, 0)

    def ours() -> None:
        blend_heat_map(canvas, Box(0, 0, 1920, 1080), anomaly_map, ScoreScale(0.5, 1.0))

    pair = paired(ours, opencv, PAIRS)
    details["overlay_1920x1080"] = {
        "ours_ms": round(pair.bare_p50_ms, 3),
        "opencv_ms": round(pair.path_p50_ms, 3),
    }
    print_line(
        f"overlay 1920×1080: {pair.bare_p50_ms:.2f} ms, OpenCV {pair.path_p50_ms:.2f} ms, "
        f"{pair.ratio_median:.2f} times faster"
    )
    return round(pair.ratio_median, 4)


def steady(network: CompiledModel, details: dict[str, Any]) -> float:
    """Return p99 / p50 of the total at 10 frames/s: the median of blocks, for machines stall."""
    blocks = [steady_latency(network, [part(640, 480)], 10.0, 150) for _ in range(5)]
    ratios = [block.p99_ms / block.p50_ms for block in blocks]
    details["steady_10_fps"] = {
        "frames_per_block": 150,
        "p50_ms": [round(block.p50_ms, 2) for block in blocks],
        "p99_ms": [round(block.p99_ms, 2) for block in blocks],
    }
    print_line(
        f"steady 10 frames/s, 5 blocks of 150: p99/p50 {statistics.median(ratios):.2f} "
        f"(least {min(ratios):.2f}, most {max(ratios):.2f})"
    )
    return round(statistics.median(ratios), 4)


def memory_growth(details: dict[str, Any]) -> float:
    """Return the growth of resident memory between 1,000 and 100,000 frames, as a share."""
    output = subprocess.run(
        [sys.executable, "-m", "tests.bench.memory"], check=True, capture_output=True, text=True
    ).stdout
    after = {
        int(frames): int(rss) for frames, rss in (line.split() for line in output.splitlines())
    }
    growth = after[100_000] / after[1_000] - 1.0
    details["rss_kib_by_frames"] = after
    print_line(
        f"100,000 frames: resident {after[1_000] / 1024:.1f} → {after[100_000] / 1024:.1f} MiB"
    )
    return round(growth, 4)


def start(bundle: Path, details: dict[str, Any]) -> tuple[float, float]:
    """Return seconds from process start to READY (median of 5, warm) and resident MiB then."""
    FRAMES.mkdir(parents=True, exist_ok=True)
    for number in range(3):
        cv2.imwrite(str(FRAMES / f"{number}.png"), part(640, 480, number))
    seconds, resident = [], []
    for _ in range(6):
        started = time.monotonic()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "edge.cli.main", "--camera", str(FRAMES)),
                *("--model", str(bundle), "--rate", "2"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        wait_for(lambda line: "inspecting" in line, process.stderr)
        seconds.append(time.monotonic() - started)
        time.sleep(1.0)
        resident.append(psutil.Process(process.pid).memory_info().rss / 2**20)
        process.terminate()
        process.communicate(timeout=30)
    ready_s, rss_mib = statistics.median(seconds[1:]), max(resident)
    details["ready_s"] = [round(value, 3) for value in seconds]
    print_line(f"ready after {ready_s:.2f} s, resident {rss_mib:.0f} MiB")
    return round(ready_s, 3), round(rss_mib, 1)


def watched_page(details: dict[str, Any]) -> float:
    """Return p99 of the verdict path with twenty viewers and a scrape a second / without."""
    folder = (BUILD / "bench" / "page").absolute()
    shutil.rmtree(folder, ignore_errors=True)
    rounds = []
    with demo_station(folder) as station:
        measured(station, 40)
        for _ in range(PAGE_ROUNDS):
            alone, _ = measured(station, PAGE_PARTS)
            with viewers(station):
                watched, _ = measured(station, PAGE_PARTS)
            rounds.append((alone, watched))
    ratio = statistics.median(watched / alone for alone, watched in rounds)
    details["page"] = {
        "parts_per_block": PAGE_PARTS,
        "alone_p99_ms": [round(alone, 2) for alone, _ in rounds],
        "watched_p99_ms": [round(watched, 2) for _, watched in rounds],
    }
    print_line(
        f"page with {VIEWERS} viewers, p99 of {PAGE_PARTS} parts at 20/s: "
        f"{statistics.median(a for a, _ in rounds):.1f} ms alone, "
        f"{statistics.median(w for _, w in rounds):.1f} ms watched, ratio {ratio:.3f}"
    )
    return round(ratio, 4)


def page_numbers(details: dict[str, Any]) -> float:
    """Return the processor time of the page's dearest answer over a long journal, in ms."""
    found = numbers.measured()
    details["page_numbers"] = asdict(found)
    print_line(
        f"page's numbers over {found.rows:,} rows: first answer {found.first_ms:.0f} ms, longest "
        f"{found.longest_ms:.0f} ms ({found.longest_cpu_ms:.0f} ms of the processor), "
        f"{found.later_ms:.0f} ms after {numbers.GROWTH} more rows"
    )
    return round(found.longest_cpu_ms, 1)


def core_set(bundle: Path, details: dict[str, Any]) -> float:
    """Return how many times faster the core-set is picked than by the textbook's loop."""
    result = core_set_times(bundle.with_suffix(".safetensors"), BUILD / "bench" / "parts")
    details["core_set"] = asdict(result)
    print_line(
        f"core-set of {result.picks} from {result.vectors} patch vectors: {result.ours_s:.1f} s, "
        f"one by one {result.textbook_s:.1f} s, {result.speedup:.1f} times faster, "
        f"{result.same} picks the same"
    )
    return round(result.speedup, 4)


def wait_for(holds: Callable[[str], bool], lines: Any) -> None:
    for line in lines:
        if holds(line):
            return
    raise RuntimeError("edge-run ended before it was ready")


def part(width: int, height: int, number: int = 0) -> NDArray[np.uint8]:
    return render_part(np.random.default_rng(number), width=width, height=height).pixels


def print_line(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
