"""The exchange of models under a running inspector: whatever is damaged, the old one goes on."""

import hashlib
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from edge.bundle.loading import load_bundle
from edge.bundle.manifest import Manifest
from edge.errors import BundleError
from edge.imaging.frame import Frame
from edge.inspection.decision import Reason, Result
from edge.inspection.detector import CompiledModel, Detector
from edge.inspection.inspector import Inspector
from edge.inspection.self_test import golden_scores
from edge.station.model.store import Change, LoadedModel, ModelStore, load_model
from tests.soak import times
from tests.support.small_bundle import (
    CELLS,
    SIDE,
    defective_image,
    difference_model,
    good_image,
    write_bundle,
)

GENEROUS_S = 60.0

SCORED = (Reason.SCORE_BELOW, Reason.SCORE_ABOVE, Reason.NEAR_THRESHOLD)


def one_inspector(network: CompiledModel) -> Sequence[Inspector]:
    return [Inspector(Detector(network), network.manifest)]


def load(path: Path) -> LoadedModel:
    return load_model(path, one_inspector)


def rewrite(path: Path, **parts: object) -> Path:
    """Change parts of a manifest as an exporter with a defect would: the hashes are right."""
    content = json.loads(path.with_suffix(".json").read_bytes())
    for name, value in parts.items():
        content[name] = content[name] | value if isinstance(value, dict) else value
    for suffix in ("xml", "bin"):
        file = path.with_suffix(f".{suffix}").read_bytes()
        content["identity"][f"{suffix}_sha256"] = hashlib.sha256(file).hexdigest()
        content["identity"][f"{suffix}_bytes"] = len(file)
    path.with_suffix(".json").write_text(json.dumps(content), "utf-8")
    return path


def with_self_test(path: Path) -> Path:
    bundle = load_bundle(path)
    scores = golden_scores(Detector(CompiledModel(bundle)), bundle.manifest)
    return rewrite(path, self_test=[score.model_dump() for score in scores])


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load(with_self_test(write_bundle(tmp_path_factory.mktemp("1"))))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of another model, with another threshold, that stays whole."""
    path = write_bundle(tmp_path_factory.mktemp("2"), "part")
    content = json.loads(path.with_suffix(".json").read_bytes())["threshold"]
    with_self_test(rewrite(path, threshold=content | {"image": 30.0, "interval": None}))
    return path.parent


@pytest.fixture
def new(whole: Path, tmp_path: Path) -> Path:
    """A copy of another model that a test may damage."""
    return Path(shutil.copytree(whole, tmp_path / "2")) / "part.xml"


def fresh(folder: Path) -> Path:
    folder.mkdir()
    return folder


class Line:
    """A thread that inspects good and defective images in turn, as a station's does."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store
        self._counted = threading.Condition()
        self.thresholds: list[float] = []
        self.wrong: list[str] = []
        self._ended = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def wait_for_parts(self, count: int) -> None:
        """Wait until so many more parts are decided."""
        with self._counted:
            target = len(self.thresholds) + count
            assert self._counted.wait_for(lambda: len(self.thresholds) >= target, GENEROUS_S)

    def end(self) -> None:
        self._ended = True
        self._thread.join(GENEROUS_S)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        number = 0
        while not self._ended:
            number += 1
            defective = number % 2 == 0
            pixels = defective_image(number % 7) if defective else good_image(number % 7)
            model = self._store.current
            inspection = model.inspectors[0].inspect(
                Frame(pixels=pixels, number=number, captured_ns=0, captured_utc_ns=0)
            )
            self._store.part_decided(model.bundle.sha256, inspection.decision.reason)
            expected = Result.NOK if defective else Result.OK
            with self._counted:
                self.thresholds.append(inspection.threshold)
                if inspection.decision.result is not expected:
                    self.wrong.append(f"{number}: {inspection.decision}")
                self._counted.notify_all()


@pytest.fixture
def store(first: LoadedModel) -> ModelStore:
    return ModelStore(first=first, load=load)


@pytest.fixture
def line(store: ModelStore) -> Iterator[Line]:
    one = Line(store)
    one.wait_for_parts(2)
    yield one
    one.end()


def test_a_whole_model_takes_over_between_two_parts(
    store: ModelStore, line: Line, new: Path, first: LoadedModel
) -> None:
    outcome = store.exchange(new)
    line.wait_for_parts(4)
    line.end()

    assert outcome.change is Change.EXCHANGED
    assert store.current.bundle.path == new
    assert line.wrong == []
    taken_over = line.thresholds.index(30.0)
    assert set(line.thresholds[:taken_over]) == {20.0}
    assert set(line.thresholds[taken_over:]) == {30.0}
    event = outcome.event()
    assert event.kind == "model_exchanged"
    assert event.data["before_sha256"] == first.bundle.sha256
    assert event.data["now_sha256"] == store.current.bundle.sha256
    assert (event.data["before_threshold"], event.data["now_threshold"]) == (20.0, 30.0)


def test_thresholds_are_exchanged_between_two_parts_again_and_again(
    store: ModelStore, line: Line, first: LoadedModel
) -> None:
    for number in range(1, 11):
        criteria = replace(store.current.criteria, threshold=20.0 + number)
        inspectors = tuple(one.deciding_by(criteria) for one in store.current.inspectors)
        outcome = store.exchange_decision(LoadedModel(first.bundle, inspectors), store.current)
        assert outcome.change is Change.DECISION
        line.wait_for_parts(2)
    line.end()

    assert line.wrong == []
    assert line.thresholds == sorted(line.thresholds)
    assert set(line.thresholds) == {20.0 + number for number in range(11)}


def cut(suffix: str, share: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        file = path.with_suffix(suffix)
        file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])

    return damage


def flipped(suffix: str, share: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        file = path.with_suffix(suffix)
        content = bytearray(file.read_bytes())
        content[int(share * len(content))] ^= 0x10
        file.write_bytes(content)

    return damage


def zero_tail(suffix: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        file = path.with_suffix(suffix)
        content = file.read_bytes()
        half = len(content) // 2
        file.write_bytes(content[:half] + bytes(len(content) - half))

    return damage


def missing(suffix: str) -> Callable[[Path], None]:
    return lambda path: path.with_suffix(suffix).unlink()


def other_bundle(suffix: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        other = write_bundle(fresh(path.parent / "other"), model=difference_model(faulty=1.0))
        path.with_suffix(suffix).write_bytes(other.with_suffix(suffix).read_bytes())

    return damage


def manifest_says(**parts: object) -> Callable[[Path], None]:
    return lambda path: void(rewrite(path, **parts))


def void(_: object) -> None: ...


def graph_of_other_numbers(path: Path) -> None:
    """A graph of the right shapes that computes something else, with hashes that match it."""
    ov.save_model(doubled(), path, compress_to_fp16=False)
    rewrite(path)


def graph_without_numbers(path: Path) -> None:
    ov.save_model(constant(float("nan")), path, compress_to_fp16=False)
    rewrite(path, self_test=[])


def graph_that_gives_zero(path: Path) -> None:
    """What zeroed weights would make of it: every part would look perfect."""
    ov.save_model(constant(0.0), path, compress_to_fp16=False)
    rewrite(path)


def doubled() -> ov.Model:
    model = difference_model()
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Constant" and list(node.output(0).shape) == [1, 1, 1, 3]:
            half = ops.constant(np.full((1, 1, 1, 3), 64.0, np.float32))
            for target in node.output(0).get_target_inputs():
                target.replace_source_output(half.output(0))
    return model


def constant(value: float) -> ov.Model:
    images = ops.parameter([1, SIDE, SIDE, 3], np.uint8)
    sums = ops.reduce_sum(ops.convert(images, np.float32), ops.constant(np.array([1, 2, 3])), False)
    nothing = ops.multiply(sums, ops.constant(np.float32(0.0)))
    score = ops.add(nothing, ops.constant(np.float32(value)))
    cells = ops.constant(np.zeros((1, CELLS, CELLS), np.float32))
    anomaly_map = ops.add(cells, ops.reshape(score, ops.constant(np.array([1, 1, 1])), False))
    images.output(0).set_names({"pictures"})
    anomaly_map.output(0).set_names({"anomaly_map"})
    score.output(0).set_names({"score"})
    return ov.Model([ops.result(anomaly_map), ops.result(score)], [images], "constant")


DAMAGE: dict[str, Callable[[Path], None]] = {
    **{f"{suffix} missing": missing(suffix) for suffix in (".xml", ".bin", ".json")},
    **{f"{suffix} empty": cut(suffix, 0.0) for suffix in (".xml", ".bin", ".json")},
    **{f"{suffix} cut": cut(suffix, 0.7) for suffix in (".xml", ".bin", ".json")},
    **{f"{suffix} zero tail": zero_tail(suffix) for suffix in (".xml", ".bin", ".json")},
    **{
        f"{suffix} bit flipped at {share}": flipped(suffix, share)
        for suffix in (".xml", ".bin")
        for share in (0.0, 0.5, 0.99)
    },
    "graph of another bundle": other_bundle(".xml"),
    "manifest of another bundle": other_bundle(".json"),
    "manifest of another schema": manifest_says(schema_version="bundle/9"),
    "other input size": manifest_says(input={"height": SIDE * 2}),
    "other map size": manifest_says(output={"map_width": CELLS + 1}),
    "score promised that is not there": lambda path: void(
        (ov.save_model(difference_without_score(), path, compress_to_fp16=False), rewrite(path))
    ),
    "graph of other numbers": graph_of_other_numbers,
    "graph that gives zero": graph_that_gives_zero,
    "graph without numbers": graph_without_numbers,
    "golden image unknown": manifest_says(
        self_test=[{"picture": "moon", "score": 1.0, "map_peak": 1.0, "tolerance": 1.0}]
    ),
}


def difference_without_score() -> ov.Model:
    model = difference_model()
    score = next(r for r in model.get_results() if "score" in r.output(0).names)
    model.remove_result(score)
    return model


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_model_gives_no_verdict_and_the_old_one_goes_on(
    store: ModelStore, line: Line, new: Path, first: LoadedModel, damage: Callable[[Path], None]
) -> None:
    damage(new)
    outcome = store.exchange(new)
    line.wait_for_parts(4)
    line.end()

    assert outcome.change is Change.REFUSED
    assert not outcome.changed
    assert store.current is first
    assert set(line.thresholds) == {20.0}
    assert line.wrong == []
    assert outcome.event().data["path"] == str(new)
    assert "stays active" in outcome.detail


def test_a_path_that_is_no_bundle_is_refused(store: ModelStore, tmp_path: Path) -> None:
    assert store.exchange(tmp_path / "nowhere.xml").change is Change.REFUSED
    assert store.exchange(tmp_path).change is Change.REFUSED


# Loads and runs bundles while the test overwrites them in place, until both ends were seen often.
LOADING = """
import sys, time
from pathlib import Path
import numpy as np
from edge.errors import StationError
from edge.inspection.detector import CompiledModel, Detector
from edge.bundle.loading import load_bundle
from tests.support.detecting import predict_one
path, loaded, refused, end = Path(sys.argv[1]), 0, 0, time.monotonic() + 25
print("loading", flush=True)
while min(loaded, refused) < int(sys.argv[2]) and time.monotonic() < end:
    try:
        bundle = load_bundle(path)
        time.sleep(0.001)  # the files change between reading and compiling
        detector = Detector(CompiledModel(bundle))
        score = predict_one(detector, np.full((64, 64, 3), 138, np.uint8)).score
        assert abs(score - 10.0) < 1e-3, score
        loaded += 1
    except StationError:
        refused += 1
print(loaded, refused)
"""


def test_files_overwritten_in_place_while_they_are_loaded_kill_no_process(tmp_path: Path) -> None:
    path = write_bundle(tmp_path)
    whole = {suffix: path.with_suffix(suffix).read_bytes() for suffix in (".xml", ".bin")}
    process = subprocess.Popen(
        [sys.executable, "-c", LOADING, str(path), str(times(8, 20))],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"
    turns = 0
    while process.poll() is None:
        suffix = (".xml", ".bin")[turns % 2]
        with path.with_suffix(suffix).open("r+b") as file:
            file.truncate(turns % 5)
            file.write(bytes(len(whole[suffix])))
            file.flush()
            file.seek(0)
            file.write(whole[suffix])
        turns += 1
        time.sleep(0.01)  # whole files for a moment
    reported = process.stdout.read()
    process.stdout.close()
    assert process.returncode == 0, process.returncode
    loaded, refused = map(int, reported.split())
    assert loaded > 0
    assert refused > 0


def test_a_model_that_fails_at_its_first_parts_gives_way_to_the_one_before(
    store: ModelStore, tmp_path: Path, first: LoadedModel
) -> None:
    # It passes its self-test and gives no number for white, which golden images do not have.
    failing = write_bundle(fresh(tmp_path / "3"), model=difference_model(faulty=float("nan")))
    assert store.exchange(failing).change is Change.EXCHANGED
    white = good_image()
    white[40:60, 40:60] = 255
    outcomes = [inspected(store, white) for _ in range(3)]

    assert outcomes[:2] == [None, None]
    assert outcomes[2] is not None
    assert outcomes[2].change is Change.ROLLED_BACK
    assert outcomes[2].event().severity == "alarm"
    assert store.current is first


def test_a_part_with_a_number_in_between_keeps_the_new_model(
    store: ModelStore, tmp_path: Path, first: LoadedModel
) -> None:
    failing = write_bundle(fresh(tmp_path / "3"), model=difference_model(faulty=float("nan")))
    store.exchange(failing)
    white = good_image()
    white[40:60, 40:60] = 255
    for pixels in (white, white, good_image(), white, white):
        assert inspected(store, pixels) is None
    assert store.current is not first


@pytest.mark.parametrize(
    "between",
    [reason for reason in Reason if reason not in SCORED and reason is not Reason.MODEL_ERROR],
)
def test_a_part_that_the_model_never_judged_does_not_excuse_its_failures(
    store: ModelStore, new: Path, first: LoadedModel, between: Reason
) -> None:
    store.exchange(new)
    sha256 = store.current.bundle.sha256
    for reason in (Reason.MODEL_ERROR, between, Reason.MODEL_ERROR, between):
        assert store.part_decided(sha256, reason) is None
    outcome = store.part_decided(sha256, Reason.MODEL_ERROR)
    assert outcome is not None
    assert store.current is first


def test_failures_of_the_model_before_do_not_count_against_the_new_one(
    store: ModelStore, new: Path, first: LoadedModel
) -> None:
    store.exchange(new)
    for _ in range(10):
        assert store.part_decided(first.bundle.sha256, Reason.MODEL_ERROR) is None
    assert store.current is not first


def test_the_only_model_stays_however_often_it_fails(store: ModelStore, first: LoadedModel) -> None:
    for _ in range(10):
        assert store.part_decided(first.bundle.sha256, Reason.MODEL_ERROR) is None
    assert store.current is first


def inspected(store: ModelStore, pixels: np.ndarray):  # type: ignore[no-untyped-def]
    model = store.current
    inspection = model.inspectors[0].inspect(
        Frame(pixels=pixels, number=1, captured_ns=0, captured_utc_ns=0)
    )
    return store.part_decided(model.bundle.sha256, inspection.decision.reason)


def test_a_rollback_by_hand_brings_the_model_before_back_once(
    store: ModelStore, new: Path, first: LoadedModel
) -> None:
    store.exchange(new)
    outcome = store.rollback("asked for")
    assert (outcome.change, store.current) == (Change.ROLLED_BACK, first)
    again = store.rollback("asked for")
    assert (again.change, store.current) == (Change.NOTHING_BEFORE, first)
    assert "Load one by its path" in again.detail


def test_two_exchanges_at_once_are_one(first: LoadedModel, new: Path) -> None:
    loading, go_on = threading.Event(), threading.Event()

    def slow(path: Path) -> LoadedModel:
        loading.set()
        assert go_on.wait(GENEROUS_S)
        return load(path)

    store = ModelStore(first=first, load=slow)
    thread = threading.Thread(target=store.exchange, args=(new,))
    thread.start()
    assert loading.wait(GENEROUS_S)
    assert store.exchange(new).change is Change.BUSY
    assert store.current is first
    go_on.set()
    thread.join(GENEROUS_S)
    assert store.current is not first


def test_a_model_that_cannot_take_the_cameras_images_is_refused(
    first: LoadedModel, new: Path
) -> None:
    grey = Frame(
        pixels=np.full((120, 160), 128, np.uint8), number=1, captured_ns=0, captured_utc_ns=0
    )
    store = ModelStore(first=first, load=load, trial=lambda: grey)
    outcome = store.exchange(new)
    assert outcome.change is Change.REFUSED
    assert "cannot inspect this camera's images" in outcome.detail
    assert store.current is first


def test_a_model_with_fewer_inspectors_than_threads_is_refused(
    first: LoadedModel, new: Path
) -> None:
    two = LoadedModel(first.bundle, first.inspectors * 2)
    outcome = ModelStore(first=two, load=load).exchange(new)
    assert outcome.change is Change.REFUSED
    assert "2 threads" in outcome.detail


def test_a_station_that_does_not_take_the_model_keeps_the_old_one(
    first: LoadedModel, new: Path
) -> None:
    def refuse(_: LoadedModel) -> None:
        raise ValueError("no room")

    store = ModelStore(first=first, load=load, on_change=refuse)
    assert store.exchange(new).change is Change.REFUSED
    assert store.current is first


def test_a_path_through_a_symbolic_link_is_resolved_once(
    store: ModelStore, tmp_path: Path, new: Path, first: LoadedModel
) -> None:
    current = tmp_path / "current"
    current.symlink_to(new.parent.name)
    assert store.exchange(current / new.name).changed
    assert store.current.bundle.path == new
    current.unlink()
    current.symlink_to(first.bundle.path.parent)
    assert store.current.bundle.path == new


def test_the_manifest_of_the_current_model_is_the_one_that_decides(
    store: ModelStore, new: Path
) -> None:
    store.exchange(new)
    manifest: Manifest = store.current.bundle.manifest
    assert store.current.criteria.threshold == manifest.threshold.image == 30.0


def test_loading_says_what_is_wrong_in_the_terms_of_the_bundle(new: Path) -> None:
    flipped(".bin", 0.5)(new)
    with pytest.raises(BundleError, match="SHA-256"):
        load(new)
