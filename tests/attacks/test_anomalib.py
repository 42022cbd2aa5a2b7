"""Foreign models and metadata that lie, given to the import: refused in a sentence each."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from export.anomalib import import_model
from export.anomalib_source import read_source
from export.errors import ImportRefused
from tests.export.test_anomalib import redness, write_first_generation
from tests.soak import times

DEEP: Any = []
for _ in range(500):
    DEEP = [DEEP]
VALUES: list[Any] = [
    *(None, True, -1, 0, 10**400, 1e308, float("nan"), float("inf"), "1.5", "x" * 10**5),
    *([], {}, [1, 2, 3], [[2.0]], {"a": 1}, DEEP),
]


def normalize(**changes: Any) -> dict[str, Any]:
    return {"transform": [{"__class_fullname__": "Normalize"} | changes]}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"image_threshold": "1.5"}, "image_threshold is '1.5', a number is expected"),
        ({"image_threshold": True}, "image_threshold is True"),
        ({"image_threshold": 10**400}, "image_threshold is 1000"),
        ({"image_threshold": 1e300}, "image_threshold is 1e"),
        ({"image_threshold": 1e9}, "far from all observed scores"),
        ({"pixel_threshold": "x" * 10**6}, "pixel_threshold is 'xxx"),
        ({"min": [1, 2]}, r"min is \[1, 2\]"),
        (normalize(mean=[1, 2]), "mean is"),
        (normalize(mean="abc"), "mean is 'abc', three numbers are expected"),
        (normalize(std=[0.0, 0.1, 0.1]), "deviations above 0 are expected"),
        (normalize(std=5), "std is 5"),
    ],
)
def test_metadata_that_lies_is_named(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    model = write_first_generation(tmp_path, **changes)
    with pytest.raises(ImportRefused, match=named) as raised:
        list(import_model(model, tmp_path / "part.xml"))
    assert len(str(raised.value)) < 1000
    assert not (tmp_path / "part.xml").exists()


@pytest.mark.parametrize(
    "content", [b"", b"{" * 10**6, b'{"a":' * 10**5, b"\xff", b"[1]", b"9" * 9999]
)
def test_metadata_that_is_none_is_named(tmp_path: Path, content: bytes) -> None:
    model = write_first_generation(tmp_path)
    (tmp_path / "metadata.json").write_bytes(content)
    with pytest.raises(ImportRefused, match=r"metadata\.json"):
        read_source(model, None)


def test_whatever_metadata_says_it_is_read_or_refused(tmp_path: Path) -> None:
    """Values at every depth of real metadata are changed at random."""
    model = write_first_generation(tmp_path)
    file = tmp_path / "metadata.json"
    whole = file.read_text()
    for seed in range(times(200, 20_000)):
        source = random.Random(seed)
        content = place = json.loads(whole)
        while True:
            key = source.choice(sorted(place) if isinstance(place, dict) else range(len(place)))
            if isinstance(place[key], dict | list) and source.random() < 0.8:
                place = place[key]
                continue
            place[key] = source.choice(VALUES)
            break
        file.write_text(json.dumps(content))
        try:
            found = read_source(model, None)
        except ImportRefused:
            continue
        assert np.isfinite([found.image, found.pixel, *found.norm[0], *found.norm[1]]).all()


@pytest.mark.parametrize("shape", [[1, 3, 100_000, 100_000], [10**6, 3, 32, 32], None])
def test_an_input_of_absurd_size_is_refused(tmp_path: Path, shape: list[int] | None) -> None:
    model = write_first_generation(tmp_path)
    images = ops.parameter(shape or ov.PartialShape.dynamic(), np.float32, name="input")
    same = ops.result(ops.relu(images))
    ov.save_model(ov.Model([same], [images], "huge"), model, compress_to_fp16=False)
    with pytest.raises(ImportRefused, match=r"model\.xml: (takes|its inputs are)"):
        list(import_model(model, tmp_path / "part.xml"))


def test_a_graph_that_crashes_openvino_is_refused(tmp_path: Path) -> None:
    model = write_first_generation(tmp_path)
    images = ops.parameter([1, 3, 32, 32], np.float32, name="input")
    # It reads far beyond the end of a tensor.
    far = ops.add(ops.convert(images, "i32"), ops.constant(np.int32(500_000_000)))
    places = ops.transpose(far, ops.constant(np.array([0, 2, 3, 1])))
    nowhere = ops.gather_nd(images, places)
    total = ops.reduce_max(nowhere, ops.constant(np.arange(4)), False)
    raw = ops.add(redness(images), ops.reshape(total, ops.constant([1, 1, 1, 1]), False))
    graph = ov.Model([ops.result(raw)], [images], "crashing")
    ov.save_model(graph, model, compress_to_fp16=False)
    done = subprocess.run(
        [sys.executable, "-m", "export.cli", "--from-anomalib", model, "-o", tmp_path / "part.xml"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 78, done.stderr
    assert "model.xml: OpenVINO crashed while reading it (SIGSEGV)" in done.stderr
    assert not (tmp_path / "part.xml").exists()
