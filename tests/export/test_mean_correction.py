"""A quantized model gives features of the mean that they have in floating point, place by place."""

from functools import cache
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray

from edge.inspection.openvino_core import openvino_core
from export.accuracy_gate import map_correlation
from export.calibration_images import with_patches
from export.ir import read_layers, to_openvino
from export.quantization import Images, Quantizable, QuantizationRecipe, quantize
from export.variants import reference_graph
from tests.soak import times
from tests.support.once import to_onnx_once
from tests.support.small_training import SIDE, batch, fitted, fitted_once
from training.data.loading import first_sight
from training.models.anomaly_model import AnomalyModel

CALIBRATION = with_patches(batch(8).numpy(), first_sight((SIDE, SIDE)))
F32 = {"INFERENCE_PRECISION_HINT": "f32"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx")


@cache
def make_subject(algorithm: str, shared: Path, folder: Path) -> Quantizable:
    return as_subject(fitted_once(algorithm, shared), algorithm, shared=shared, folder=folder)


def as_subject(model: AnomalyModel, algorithm: str, *, shared: Path, folder: Path) -> Quantizable:
    onnx = folder / f"{algorithm}.onnx"
    to_onnx_once(model, SIDE, SIDE, onnx, shared=shared)
    _, _, graph = reference_graph(to_openvino(onnx), (SIDE, SIDE))
    return Quantizable(graph, read_layers(onnx), model.floating_point, model.mean_corrected)


@cache
def mean_corrected(algorithm: str, shared: Path, folder: Path) -> ov.Model:
    return quantize(make_subject(algorithm, shared, folder), CALIBRATION, QuantizationRecipe())


def mean_received(model: ov.Model, subject: Quantizable, name: str) -> NDArray[np.float64]:
    """Return the mean of what the model's own arithmetic receives of an operation."""
    copy = model.clone()
    leaving = next(one for one in copy.get_ordered_ops() if one.get_friendly_name() == name)
    received = next(
        consumer.get_node().output(0)
        if consumer.get_node().get_type_name() == "Subtract"
        else leaving.output(0)
        for consumer in leaving.output(0).get_target_inputs()
        if subject.leaves_corrected(consumer.get_node())
        and consumer.get_node().get_type_name() != "FakeQuantize"
    )
    part = ov.Model([received], copy.get_parameters())
    part.reshape([1, SIDE, SIDE, 3])
    compiled = openvino_core().compile_model(part, "CPU", F32)
    return np.mean([compiled(image[None])[0] for image in CALIBRATION], 0, np.float64)


def maps(model: ov.Model, images: Images) -> list[NDArray[np.float32]]:
    compiled = openvino_core().compile_model(model.clone(), "CPU", F32)
    return [compiled(image[None])["anomaly_map"][0] for image in images]


@pytest.mark.parametrize(
    "algorithm", ["patchcore", "supersimplenet", "dfm", "padim"][: times(2, 4)]
)
def test_features_have_the_mean_that_they_have_in_floating_point(
    algorithm: str, shared: Path, folder: Path
) -> None:
    subject = make_subject(algorithm, shared, folder)
    names = subject.corrected_outputs()
    leaving = {subject.layers[name].split(".")[-1] for name in names}
    assert leaving <= {"activation", "centring", "projection"}
    corrected = mean_corrected(algorithm, shared, folder)
    rounded = quantize(subject, CALIBRATION, QuantizationRecipe(mean_correction=False))
    for name in names:
        expected = mean_received(subject.model, subject, name)
        found = mean_received(corrected, subject, name)
        left = mean_received(rounded, subject, name)
        largest = float(np.abs(expected).max())
        assert np.abs(left - expected).max() > 0.005 * largest
        np.testing.assert_allclose(found, expected, atol=1e-4 * largest)


def test_layers_go_on_with_what_they_were_quantized_for(shared: Path, folder: Path) -> None:
    # Without a projection the bank is measured to features that the next layer reads, too.
    model = fitted("patchcore", variance=1.0)
    subject = as_subject(model, "patchcore-whole", shared=shared, folder=folder)
    corrected = quantize(subject, CALIBRATION, QuantizationRecipe())
    inside: list[str] = []
    by_name = {one.get_friendly_name(): one for one in corrected.get_ordered_ops()}
    for name in subject.corrected_outputs():
        readers = [one.get_node() for one in by_name[name].output(0).get_target_inputs()]
        subtracting = [one for one in readers if one.get_type_name() == "Subtract"]
        assert len(subtracting) == 1
        inside += [one.get_type_name() for one in readers if one not in subtracting]
    assert set(inside) <= {"FakeQuantize", "Convolution"} and inside


def test_a_model_without_features_to_correct_is_quantized_as_it_is(
    shared: Path, folder: Path
) -> None:
    subject = make_subject("ganomaly", shared, folder)
    assert subject.corrected_outputs() == []
    unseen = batch(2, first=300).numpy()
    with_means = maps(quantize(subject, CALIBRATION, QuantizationRecipe()), unseen)
    without = maps(
        quantize(subject, CALIBRATION, QuantizationRecipe(mean_correction=False)), unseen
    )
    for a, b in zip(with_means, without, strict=True):
        assert map_correlation(a, b) == pytest.approx(1.0, abs=1e-9)


def test_a_recipe_says_what_it_corrects() -> None:
    assert str(QuantizationRecipe()) == "INT8, biases and means corrected"
    assert (
        str(QuantizationRecipe(True, False, ("conv1",))) == "INT8, biases corrected, without conv1"
    )
    assert str(QuantizationRecipe(False, False)) == "INT8"
