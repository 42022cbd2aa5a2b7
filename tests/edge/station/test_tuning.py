"""Tuning: a real measurement of a real network; what was made elsewhere is ignored, and said so."""

import json
import logging
import platform
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from edge.bundle.input_spec import TileSpec
from edge.bundle.loading import Bundle, load_bundle
from edge.errors import ModelError, OutputNotWritable
from edge.imaging.frame import Frame
from edge.inspection.detector import CompiledModel, RunPlan
from edge.settings.camera import CameraSettings
from edge.settings.model import ModelSettings
from edge.settings.station import Settings
from edge.station.model.inspectors import make_inspectors, run_plan
from edge.station.model.tuning import (
    BATCHES_OF_TILES,
    Measured,
    Tuning,
    candidate_plans,
    default_plan,
    make_tuning,
    read_tuning,
    sound_batches,
    table,
    tune,
    tuning_path,
    write_tuning,
)
from edge.system.processor import processor_features, usable_cores
from tests.edge.conftest import EdgeRun
from tests.support.small_bundle import CELLS, SIDE, difference_model, good_image, write_bundle

TILES = TileSpec(height=SIDE, width=SIDE, overlap=0.25)


@pytest.fixture(scope="module")
def whole(bundle: Path) -> Bundle:
    return load_bundle(bundle)


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(write_bundle(tmp_path_factory.mktemp("tiled"), tile_plan=TILES))


def measured(
    batch: int = 1, streams: int = 1, latency_ms: float = 5.0, pictures_per_s: float = 100.0
) -> Measured:
    return Measured(
        batch=batch,
        streams=streams,
        threads=2,
        latency_ms=latency_ms,
        pictures_per_s=pictures_per_s,
    )


def tuning(bundle: Bundle, *measurements: Measured) -> Tuning:
    return make_tuning(bundle, "CPU", 2, measurements or (measured(),))


def written(path: Path, bundle: Bundle, **changes: Any) -> Path:
    """Write a tuning for this bundle with some keys changed."""
    content = json.loads(tuning(bundle).model_dump_json()) | changes
    path.write_text(json.dumps(content), "utf-8")
    return path


def settings(bundle: Bundle, objective: Literal["latency", "throughput"] = "latency") -> Settings:
    return Settings(
        camera=CameraSettings(uri="0"),
        model=ModelSettings(path=str(bundle.path), threads=2, objective=objective),
    )


def batchless(folder: Path) -> Bundle:
    """Write a tiled bundle whose graph runs one image at a time and no more."""
    images = ops.parameter([1, SIDE, SIDE, 3], np.uint8)
    as_float = ops.convert(images, np.float32)
    pool = [SIDE // CELLS, SIDE // CELLS]
    planes = ops.transpose(as_float, ops.constant(np.array([0, 3, 1, 2])))
    pooled = ops.max_pool(planes, pool, [1, 1], [0, 0], [0, 0], pool).output(0)
    cells = ops.reduce_max(pooled, ops.constant(np.array([1])), False)
    anomaly_map = ops.reshape(cells, ops.constant(np.array([1, CELLS, CELLS])), False)
    score = ops.reduce_max(anomaly_map, ops.constant(np.array([1, 2])), False)
    names = ("pictures", "anomaly_map", "score")
    for node, name in zip((images, anomaly_map, score), names, strict=True):
        node.output(0).set_names({name})
    model = ov.Model([ops.result(anomaly_map), ops.result(score)], [images], "batchless")
    return load_bundle(write_bundle(folder, tile_plan=TILES, model=model))


def by_rounds() -> Callable[[], float]:
    """Return a clock that goes on by 10 ms when it is looked at, whatever the machine does."""
    return count(0.0, 0.01).__next__


@pytest.mark.parametrize("threads", [1, 2])
def test_a_real_tune_measures_every_plan_and_is_read_back(
    tmp_path: Path, tiled: Bundle, threads: int
) -> None:
    path = tmp_path / "station.tuning.json"

    results = list(tune(tiled, "CPU", threads, limit_s=4.0, clock=by_rounds()))
    write_tuning(path, make_tuning(tiled, "CPU", threads, results))
    read = read_tuning(path, tiled, "CPU", threads)

    assert [result.plan for result in results] == candidate_plans(threads, BATCHES_OF_TILES)
    assert all(result.latency_ms > 0.0 and result.pictures_per_s > 0.0 for result in results)
    assert read is not None
    assert read.measured == tuple(results)
    assert read.best("throughput", tiled=True) in candidate_plans(threads, BATCHES_OF_TILES)


def test_an_untiled_model_is_measured_image_by_image(whole: Bundle) -> None:
    assert {result.batch for result in tune(whole, "CPU", 2, limit_s=0.1)} == {1}


def test_a_pc_too_slow_for_all_plans_leaves_the_last_ones_out_and_says_so(
    tiled: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    (only,) = tune(tiled, "CPU", 2, limit_s=0.0)

    assert only.plan == RunPlan(1, 1, 2)
    assert "time limit reached: 7 of 8 plans were not measured" in caplog.text


def test_a_model_that_runs_no_batches_is_tuned_without_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bundle = batchless(tmp_path)

    results = list(tune(bundle, "CPU", 2, limit_s=0.2, clock=by_rounds()))

    assert [result.plan for result in results] == [RunPlan(1, 1, 2), RunPlan(1, 2, 2)]
    assert "batches of 4 are left out" in caplog.text


def coupled(folder: Path) -> Bundle:
    """Write a tiled bundle whose graph mixes the images of a batch a little."""
    model = difference_model()
    for result in model.get_results():
        numbers = result.input_value(0)
        mean = ops.reduce_mean(numbers, ops.constant(np.array([0])), True)
        mixed = ops.add(ops.multiply(numbers, np.float32(0.8)), ops.multiply(mean, np.float32(0.2)))
        names = numbers.get_names()
        numbers.get_tensor().set_names(set())
        mixed.output(0).set_names(names)
        result.input(0).replace_source_output(mixed.output(0))
    model.validate_nodes_and_infer_types()
    return load_bundle(write_bundle(folder, tile_plan=TILES, model=model))


def test_a_batch_that_gives_other_numbers_than_single_tiles_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    results = list(tune(coupled(tmp_path), "CPU", 1, limit_s=0.2, clock=by_rounds()))
    assert [result.batch for result in results] == [1]
    assert "batches of 2 are left out: part: in a batch a score is off by" in caplog.text


@pytest.mark.parametrize(
    ("weights", "device", "features", "expected"),
    [
        ("int8", "CPU", {"avx", "avx2"}, (1,)),
        ("int8", "CPU", {"avx2", "avx_vnni"}, BATCHES_OF_TILES),
        ("int8", "GPU", {"avx2"}, BATCHES_OF_TILES),
        ("int8-weights", "CPU", {"avx2"}, BATCHES_OF_TILES),
        ("fp32", "CPU", set(), BATCHES_OF_TILES),
    ],
)
def test_int8_tiles_go_one_by_one_where_a_processor_cannot_add_up_integers(
    tmp_path: Path,
    tiled: Bundle,
    weights: str,
    device: str,
    features: set[str],
    expected: tuple[int, ...],
) -> None:
    precision = tiled.manifest.precision.model_copy(update={"weights": weights})
    manifest = tiled.manifest.model_copy(update={"precision": precision})
    batches = sound_batches(manifest, device, frozenset(features))
    assert batches == expected
    # Also by the file of a version that measured batches.
    made = tuning(tiled, measured(), measured(batch=4, pictures_per_s=900.0))
    assert made.best("throughput", True, batches).batch == max(b for b in batches if b <= 4)


def test_the_kernel_names_what_this_processor_can_do() -> None:
    assert {"fpu", "sse2"} <= processor_features() or platform.machine() != "x86_64"


def test_a_device_that_is_not_there_ends_the_tune(whole: Bundle) -> None:
    with pytest.raises(ModelError, match=r"for NPU9 .*Choose a device"):
        list(tune(whole, "NPU9", 2, limit_s=0.1))


@pytest.mark.parametrize(
    ("changes", "printed"),
    [
        ({"pc": "another processor, 64 cores"}, "made for another PC. Run edge-run --tune"),
        ({"model_sha256": "0" * 64}, "made for another model"),
        ({"runtime": "2019.1"}, "made for another OpenVINO"),
        ({"device": "GPU"}, "made for another device"),
        ({"threads": 7}, "made for another thread budget"),
        ({"measured": []}, "contains no measurement"),
        ({"measured": [measured(batch=4).model_dump()]}, "contains no measurement of single"),
        ({"schema_version": "tuning/9"}, "not a tuning file"),
        ({"measured": [measured().model_dump() | {"streams": 0}]}, "not a tuning file"),
        ({"measured": [measured().model_dump() | {"batch": 10**9}]}, "not a tuning file"),
        ({"measured": [measured().model_dump() | {"latency_ms": None}]}, "not a tuning file"),
        ({"remark": "mine"}, "not a tuning file"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_tuning_that_does_not_hold_here_is_ignored_and_reported(
    tmp_path: Path,
    whole: Bundle,
    caplog: pytest.LogCaptureFixture,
    changes: dict[str, Any],
    printed: str,
) -> None:
    path = written(tmp_path / "station.tuning.json", whole, **changes)

    assert read_tuning(path, whole, "CPU", 2) is None

    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"{path} is ignored: " in record.getMessage()
    assert printed in record.getMessage()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe\x00", b"{}" * 1000])
def test_garbage_is_ignored_and_reported(
    tmp_path: Path, whole: Bundle, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    path = tmp_path / "station.tuning.json"
    path.write_bytes(content)
    assert read_tuning(path, whole, "CPU", 2) is None
    assert "not a tuning file" in caplog.text


def test_a_folder_in_its_place_is_ignored_and_reported(
    tmp_path: Path, whole: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_tuning(tmp_path, whole, "CPU", 2) is None
    assert "is ignored" in caplog.text


def test_a_missing_file_is_not_reported(
    tmp_path: Path, whole: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_tuning(tmp_path / "none.json", whole, "CPU", 2) is None
    assert caplog.records == []


def test_a_tuning_that_cannot_be_written_is_reported(tmp_path: Path, whole: Bundle) -> None:
    with pytest.raises(OutputNotWritable, match="cannot be written"):
        write_tuning(tmp_path / "none" / "station.tuning.json", tuning(whole))


@pytest.mark.parametrize(
    ("objective", "tiles", "expected"),
    [
        # One frame alone: all threads on it, whatever the rate of several side by side.
        ("latency", False, RunPlan(1, 1, 2)),
        ("throughput", False, RunPlan(1, 2, 2)),
        # Tiles are done soonest where most are done a second.
        ("latency", True, RunPlan(4, 2, 2)),
        ("throughput", True, RunPlan(4, 2, 2)),
    ],
)
def test_the_best_plan_is_chosen_by_objective(
    whole: Bundle, objective: str, tiles: bool, expected: RunPlan
) -> None:
    made = tuning(
        whole,
        measured(streams=2, latency_ms=4.0, pictures_per_s=150.0),
        measured(streams=1, latency_ms=5.0, pictures_per_s=100.0),
        measured(batch=4, streams=2, latency_ms=20.0, pictures_per_s=180.0),
        measured(batch=4, streams=1, latency_ms=19.0, pictures_per_s=120.0),
    )
    assert made.best(objective, tiles) == expected


def test_without_a_tuning_the_default_is_sound() -> None:
    assert default_plan("latency", tiled=False, threads=3) == RunPlan(1, 1, 3)
    assert default_plan("throughput", tiled=False, threads=3) == RunPlan(1, 3, 3)
    assert default_plan("latency", tiled=True, threads=3) == RunPlan(1, 3, 3)
    assert default_plan("throughput", tiled=False, threads=0).streams == usable_cores()


@pytest.mark.parametrize("cores", [1, 2, 3, 4, 6, 16])
@pytest.mark.parametrize("tiles", [False, True])
def test_plans_worth_measuring_keep_to_the_budget(cores: int, tiles: bool) -> None:
    plans = candidate_plans(cores, BATCHES_OF_TILES if tiles else (1,))
    assert plans[0] == RunPlan(1, 1, cores)
    assert len(plans) == len(set(plans))
    assert {plan.streams for plan in plans} >= {1, cores}
    assert all(plan.streams <= cores and plan.threads == cores for plan in plans)
    assert {plan.batch for plan in plans} == (set(BATCHES_OF_TILES) if tiles else {1})


def test_a_station_runs_as_it_was_tuned(tmp_path: Path, tiled: Bundle) -> None:
    path = tmp_path / "station.tuning.json"
    best = measured(batch=4, streams=2, pictures_per_s=900.0)
    write_tuning(path, tuning(tiled, measured(), best))

    plan = run_plan(settings(tiled), tiled, path)
    (inspector,) = make_inspectors(CompiledModel(tiled, "CPU", plan), settings(tiled))

    assert plan == best.plan
    frame = Frame(pixels=good_image(1, 150, 250), number=1, captured_ns=0, captured_utc_ns=0)
    assert inspector.inspect(frame).decision.result.value == "OK"


def test_without_tiles_every_stream_gets_an_inspector(tmp_path: Path, whole: Bundle) -> None:
    chosen = settings(whole, "throughput")
    plan = run_plan(chosen, whole, tmp_path / "none.json")
    assert len(make_inspectors(CompiledModel(whole, "CPU", plan), chosen)) == plan.streams == 2


def test_the_file_lies_beside_the_settings_else_beside_the_model() -> None:
    model, config = Path("/models/bottle.xml"), Path("/etc/line/station.yaml")
    assert tuning_path(config, model) == Path("/etc/line/station.tuning.json")
    assert tuning_path(None, model) == Path("/models/bottle.tuning.json")


def test_the_table_has_one_heading_and_aligned_columns() -> None:
    lines = table([measured(), measured(8, 16, 123.456, 9876.54)]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[2].split() == ["8", "16", "2", "123.46", "9876.5"]
    assert "batch" not in table([measured()], heading=False)


def test_edge_run_reports_before_the_measurement_that_it_could_not_be_kept(
    tmp_path: Path, edge_run: EdgeRun
) -> None:
    model = write_bundle(tmp_path)
    model.with_name("part.tuning.json").mkdir()

    done = edge_run("--model", model, "--tune")  # no camera is opened, so none is needed

    assert done.returncode == 78
    assert "part.tuning.json: is a folder" in done.stderr
    assert done.stdout == ""
