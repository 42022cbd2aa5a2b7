"""A tiny bundle with a real IR: the anomaly map is the difference from mid-grey.

``write_bundle`` makes the model, ``good_image`` and ``defective_image`` what it was "trained"
on. Everything is deterministic, so that tests can name scores.
"""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from edge.bundle.input_spec import InputSpec, TileSpec
from edge.bundle.manifest import (
    Extent,
    GateReport,
    Identity,
    Manifest,
    MapScore,
    Normalization,
    OutputSpec,
    Precision,
    ScoreStatistics,
    Threshold,
    ThresholdMethod,
)
from edge.bundle.training_record import SplitMetrics, Training
from edge.imaging.frame import PixelFormat

SIDE = 64
CELLS = 16
GREY = 128.0
IMAGE_THRESHOLD = 20.0


def good_image(number: int = 0, height: int = 120, width: int = 160) -> NDArray[np.uint8]:
    """Return ``(H, W, 3) uint8``: mid-grey with slight noise; raw score about 2."""
    noise = np.random.default_rng(number).integers(-8, 9, (height, width, 3))
    return np.asarray(GREY + noise, np.uint8)


def defective_image(number: int = 0, height: int = 120, width: int = 160) -> NDArray[np.uint8]:
    """Return a good image with one bright blob; raw score about 110."""
    pixels = good_image(number, height, width)
    centre = (width * 3 // 4, height // 4)
    cv2.circle(pixels, centre, min(height, width) // 10, (240, 240, 240), -1)
    return pixels


def write_bundle(
    folder: Path,
    name: str = "part",
    tile_plan: TileSpec | None = None,
    model: ov.Model | None = None,
) -> Path:
    """Write ``NAME.xml``, ``NAME.bin`` and ``NAME.json`` and return the path of the ``.xml``.

    Args:
        tile_plan: pieces the frame is inspected in; None inspects it whole.
        model: another graph with the same ports.
    """
    path = folder / f"{name}.xml"
    ov.save_model(model or difference_model(), path, compress_to_fp16=False)
    manifest = Manifest(
        identity=Identity(
            name=name,
            algorithm="difference",
            backbone="none",
            weights_licence="Apache-2.0",
            created=datetime(2026, 1, 1, tzinfo=UTC),
            made_with={"openvino": ov.__version__},
            xml_sha256=_sha256(path),
            bin_sha256=_sha256(path.with_suffix(".bin")),
            xml_bytes=path.stat().st_size,
            bin_bytes=path.with_suffix(".bin").stat().st_size,
        ),
        input=InputSpec(
            height=SIDE, width=SIDE, pixel_formats=(PixelFormat.BGR8,), tile_plan=tile_plan
        ),
        output=OutputSpec(
            map_height=CELLS, map_width=CELLS, image_score=True, map_score=MapScore(cells=1)
        ),
        normalization=Normalization(
            image=Extent(min=0.0, max=100.0), map=Extent(min=0.0, max=100.0)
        ),
        threshold=Threshold(
            image=IMAGE_THRESHOLD,
            pixel=IMAGE_THRESHOLD,
            method=ThresholdMethod.MANUAL,
            good_count=2,
            defective_count=2,
            interval=(15.0, 25.0),
        ),
        statistics=ScoreStatistics(probabilities=(0.0, 0.5, 1.0), scores=(1.0, 2.0, 3.0)),
        precision=Precision(
            weights="fp32",
            inference="f32",
            gate=GateReport(
                images=4,
                largest_score_difference=0.0,
                smallest_map_correlation=1.0,
                verdict_flips=0.0,
                auroc_before=1.0,
                auroc_after=1.0,
            ),
        ),
        training=Training(
            dataset="grey",
            dataset_fingerprint="0" * 64,
            fit_count=2,
            validation_good_count=2,
            validation_defective_count=2,
            seed=0,
            hyperparameters={},
            metrics={"validation": SplitMetrics(good_count=2, defective_count=2, image_auroc=1.0)},
        ),
    )
    path.with_suffix(".json").write_text(manifest.model_dump_json(indent=2), "utf-8")
    return path


def write_images(folder: Path, good: int = 1, defective: int = 0) -> Path:
    """Write ``good_1.png`` … and ``spot_1.png`` … into a new folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, good + 1):
        cv2.imwrite(str(folder / f"good_{number}.png"), good_image(number))
    for number in range(1, defective + 1):
        cv2.imwrite(str(folder / f"spot_{number}.png"), defective_image(number))
    return folder


def difference_model(faulty: float | None = None) -> ov.Model:
    """Build the graph.

    Args:
        faulty: score of an image with a white sample (255); None for the one it deserves.
    """
    images = ops.parameter([1, SIDE, SIDE, 3], np.uint8)
    mean = ops.constant(np.full((1, 1, 1, 3), GREY, np.float32))
    difference = ops.abs(ops.subtract(ops.convert(images, np.float32), mean))
    planes = ops.transpose(difference, ops.constant(np.array([0, 3, 1, 2])))
    pool = [SIDE // CELLS, SIDE // CELLS]
    pooled = ops.avg_pool(planes, pool, [0, 0], [0, 0], pool, exclude_pad=False)
    anomaly_map = ops.reduce_mean(pooled, ops.constant(np.array([1])), False)
    score = ops.reduce_max(anomaly_map, ops.constant(np.array([1, 2])), False)
    if faulty is not None:
        axes = ops.constant(np.array([1, 2, 3]))
        brightest = ops.reduce_max(ops.convert(images, np.float32), axes, False)
        white = ops.equal(brightest, ops.constant(np.float32(255.0)))
        score = ops.select(white, ops.constant(np.float32(faulty)), score)
    images.output(0).set_names({"pictures"})
    anomaly_map.output(0).set_names({"anomaly_map"})
    score.output(0).set_names({"score"})
    results = [ops.result(anomaly_map.output(0)), ops.result(score.output(0))]
    model = ov.Model(results, [images], "difference")
    # Automatic names count up through the process; with these the file is always the same.
    for number, operation in enumerate(model.get_ordered_ops()):
        operation.set_friendly_name(f"{operation.get_type_name()}_{number}")
    return model


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
