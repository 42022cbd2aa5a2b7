"""A quantized model deviates from its means as little as the model it was made from."""

from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray

from export.calibration_pictures import with_patches
from export.ir import layers_of, to_onnx, to_openvino
from export.quantization import Pictures, Quantizable, Recipe, quantize
from export.variants import reference_graph
from tests.small_training import SIDE, batch, fitted
from training.data.loading import first_sight

CALIBRATION = with_patches(batch(8).numpy(), first_sight((SIDE, SIDE)))


def subject_of(algorithm: str, folder: Path, **settings: str) -> Quantizable:
    model = fitted(algorithm, **settings)
    onnx = folder / "model.onnx"
    to_onnx(model, SIDE, SIDE, onnx)
    _, _, graph = reference_graph(to_openvino(onnx), (SIDE, SIDE))
    return Quantizable(graph, layers_of(onnx), model.floating_point, model.centred_by)


def mean_deviation(model: ov.Model, name: str, pictures: Pictures) -> NDArray[np.float64]:
    copy = model.clone()
    deviation = next(one for one in copy.get_ordered_ops() if one.get_friendly_name() == name)
    part = ov.Model([deviation.output(0)], copy.get_parameters())
    part.reshape([1, SIDE, SIDE, 3])
    compiled = ov.Core().compile_model(part, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.mean([compiled(picture[None])[0] for picture in pictures], 0, np.float64)


@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [
        ("padim", {"covariance": "low_rank"}),
        ("padim", {"covariance": "full"}),
        ("padim", {"covariance": "diagonal"}),
        ("dfm", {}),
        ("dfkde", {}),
    ],
)
def test_behind_rounded_layers_means_are_taken_anew(
    algorithm: str, settings: dict[str, str], tmp_path: Path
) -> None:
    subject = subject_of(algorithm, tmp_path, **settings)
    (name,) = subject.centrings()
    expected = mean_deviation(subject.model, name, CALIBRATION)
    found = mean_deviation(quantize(subject, CALIBRATION, Recipe()), name, CALIBRATION)
    rounded = Quantizable(subject.model, subject.layers, subject.floating)
    left = mean_deviation(quantize(rounded, CALIBRATION, Recipe()), name, CALIBRATION)
    assert np.abs(left - expected).max() > 0.01 * np.abs(left).max()
    np.testing.assert_allclose(found, expected, atol=1e-4 * float(np.abs(left).max()))
