"""The detector: real IRs on OpenVINO; whatever is not what the manifest says is refused."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from edge.bundle.loading import Bundle, load_bundle
from edge.errors import BundleDamaged, ModelError, StationError
from edge.inspection.detector import CompiledModel, Detector, RunPlan
from edge.inspection.preprocessing import prepare
from tests.support.detecting import predict_one
from tests.support.small_bundle import CELLS, SIDE, defective_image, good_image, write_bundle


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_bundle(tmp_path)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(write_bundle(tmp_path_factory.mktemp("bundle")))


@pytest.fixture(scope="module")
def detector(bundle: Bundle) -> Detector:
    return Detector(CompiledModel(bundle))


def prepared(bundle: Bundle, pixels: np.ndarray) -> np.ndarray:
    return prepare(pixels, bundle.manifest.input)


def expected_map(image: np.ndarray) -> np.ndarray:
    """Return what the graph of the small bundle computes, in plain numpy."""
    cell = SIDE // CELLS
    difference = np.abs(image.astype(np.float32) - 128.0)
    return difference.reshape(CELLS, cell, CELLS, cell, 3).mean(axis=(1, 3, 4))


def rewritten(path: Path, **sections: dict[str, Any]) -> Bundle:
    """Change sections of the manifest, make its hashes right again, and load the bundle."""
    manifest = path.with_suffix(".json")
    content = json.loads(manifest.read_text("utf-8"))
    for section, changes in sections.items():
        content[section].update(changes)
    for suffix in ("xml", "bin"):
        file = path.with_suffix(f".{suffix}").read_bytes()
        content["identity"][f"{suffix}_sha256"] = hashlib.sha256(file).hexdigest()
        content["identity"][f"{suffix}_bytes"] = len(file)
    manifest.write_text(json.dumps(content), "utf-8")
    return load_bundle(path)


def with_graph(path: Path, model: ov.Model, **sections: dict[str, Any]) -> Bundle:
    ov.save_model(model, path, compress_to_fp16=False)
    return rewritten(path, **sections)


def graph(
    sides: list[int] | None = None,
    input_type: type = np.uint8,
    output_type: type = np.float32,
    score: float | None = 1.0,
    names: tuple[str, ...] = ("pictures", "anomaly_map", "score"),
) -> ov.Model:
    """Build a graph whose map is a sum of its input's channels, and whose score is constant."""
    images = ops.parameter(sides or [1, CELLS, CELLS, 3], input_type)
    as_float = ops.convert(images, np.float32)
    anomaly_map = ops.convert(
        ops.reduce_sum(as_float, ops.constant(np.array([3])), False), output_type
    )
    results = [ops.result(anomaly_map)]
    if score is not None:
        zero = ops.multiply(
            ops.reduce_max(as_float, ops.constant(np.array([1, 2, 3])), False),
            ops.constant(np.float32(0.0)),
        )
        results.append(ops.result(ops.add(zero, ops.constant(np.float32(score)))))
    ports = [images.output(0), *(result.input_value(0) for result in results)]
    for port, name in zip(ports, names, strict=False):
        port.set_names({name} if name else set())
    return ov.Model(results, [images], "graph")


SMALL_INPUT = {"height": CELLS, "width": CELLS}


def test_the_map_and_score_are_what_the_graph_computes(bundle: Bundle, detector: Detector) -> None:
    image = prepared(bundle, defective_image())
    prediction = predict_one(detector, image)
    assert prediction.anomaly_map.dtype == np.float32
    assert prediction.anomaly_map == pytest.approx(expected_map(image), abs=1e-3)
    assert prediction.score == pytest.approx(expected_map(image).max(), abs=1e-3)


def test_the_order_of_images_changes_nothing(bundle: Bundle, detector: Detector) -> None:
    images = [prepared(bundle, good_image(n)) for n in range(3)]
    forward = [predict_one(detector, image).score for image in images]
    backward = [predict_one(detector, image).score for image in reversed(images)]
    assert forward == backward[::-1]
    assert len(set(forward)) == 3


def test_a_map_stays_its_callers_own(bundle: Bundle, detector: Detector) -> None:
    first = predict_one(detector, prepared(bundle, good_image())).anomaly_map
    before = first.copy()
    predict_one(detector, prepared(bundle, defective_image()))
    assert np.array_equal(first, before)


def test_an_image_is_not_changed(bundle: Bundle, detector: Detector) -> None:
    image = prepared(bundle, good_image())
    image.flags.writeable = False
    predict_one(detector, image)


def test_two_detectors_do_not_share_tensors(bundle: Bundle, detector: Detector) -> None:
    other = Detector(CompiledModel(bundle, plan=RunPlan(threads=1)))
    score = predict_one(detector, prepared(bundle, defective_image())).score
    predict_one(other, prepared(bundle, good_image()))
    assert predict_one(detector, prepared(bundle, defective_image())).score == score


def test_the_files_may_vanish_after_loading(path: Path) -> None:
    bundle = load_bundle(path)
    for suffix in (".xml", ".bin", ".json"):
        path.with_suffix(suffix).unlink()
    assert predict_one(Detector(CompiledModel(bundle)), prepared(bundle, good_image())).score > 0.0


@pytest.mark.parametrize(
    ("section", "changes"),
    [
        ("input", {"height": SIDE * 2}),
        ("input", {"width": SIDE + 1}),
        ("output", {"map_height": CELLS + 1}),
        ("output", {"map_width": 1}),
        ("output", {"image_score": False}),
    ],
)
def test_shapes_that_are_not_the_graphs_are_refused(
    path: Path, section: str, changes: dict[str, Any]
) -> None:
    bundle = rewritten(path, **{section: changes})
    with pytest.raises(BundleDamaged, match=r"part\.xml: the graph has .*manifest says .*again"):
        Detector(CompiledModel(bundle))


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (graph(input_type=np.float32), "pictures f32"),
        (graph(output_type=np.float64), "anomaly_map f64"),
        (graph(sides=[-1, CELLS, CELLS, 3]), r"pictures u8 \[\?,16,16,3\]"),
        (graph(sides=[2, CELLS, CELLS, 3]), r"score f32 \[2\]"),
        (graph(score=None), "pictures u8"),
        (graph(names=("images", "anomaly_map", "score")), "pictures u8"),
        (graph(names=("pictures", "anomaly_map", "")), r"Result_\d+ f32"),
    ],
    ids=["float input", "double map", "dynamic", "batch of 2", "no score", "other name", "no name"],
)
def test_a_graph_with_other_ports_is_refused(path: Path, model: ov.Model, named: str) -> None:
    with pytest.raises(BundleDamaged, match=named):
        Detector(CompiledModel(with_graph(path, model, input=SMALL_INPUT)))


def test_without_an_image_score_the_largest_map_value_is_it(path: Path) -> None:
    model = graph(score=None)
    bundle = with_graph(path, model, input=SMALL_INPUT, output={"image_score": False})
    image = np.zeros((CELLS, CELLS, 3), np.uint8)
    image[3, 4] = 50
    assert predict_one(Detector(CompiledModel(bundle)), image).score == 150.0


@pytest.mark.parametrize("suffix", [".xml", ".bin"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_cut_file_that_its_manifest_vouches_for_is_an_error_not_a_crash(
    path: Path, suffix: str, share: float
) -> None:
    file = path.with_suffix(suffix)
    whole = file.read_bytes()
    # A manifest that names an empty .xml is refused for it already.
    file.write_bytes(whole[: max(int(share * len(whole)), 1)])
    with pytest.raises(ModelError, match=r"part\.xml: OpenVINO .* cannot read it .*Export"):
        Detector(CompiledModel(rewritten(path)))


def test_a_device_that_is_not_there_is_named_with_the_next_step(bundle: Bundle) -> None:
    with pytest.raises(StationError, match=r"for NPU9 .*Choose a device"):
        Detector(CompiledModel(bundle, device="NPU9"))


def test_a_graph_that_mixes_the_images_of_a_batch_is_refused(path: Path) -> None:
    """One score for all of them would let a defect pass as its neighbour."""
    images = ops.parameter([1, CELLS, CELLS, 3], np.uint8)
    as_float = ops.convert(images, np.float32)
    anomaly_map = ops.reduce_sum(as_float, ops.constant(np.array([3])), False)
    score = ops.reduce_mean(anomaly_map, ops.constant(np.array([0, 1, 2])), True)
    flat = ops.reshape(score, ops.constant(np.array([1])), False)
    names = ("pictures", "anomaly_map", "score")
    for node, name in zip((images, anomaly_map, flat), names, strict=True):
        node.output(0).set_names({name})
    model = ov.Model([ops.result(anomaly_map), ops.result(flat)], [images], "mixed")
    bundle = with_graph(path, model, input=SMALL_INPUT)

    Detector(CompiledModel(bundle))
    with pytest.raises(ModelError, match=r"batches of 2 make it .*score f32 \[1\]"):
        Detector(CompiledModel(bundle, plan=RunPlan(batch=2)))
