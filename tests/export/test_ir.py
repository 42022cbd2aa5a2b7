"""Tables that are stored in 16 bits give the numbers of 32."""

from collections.abc import Callable

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray
from openvino import opset13

from edge.inspection.openvino_core import openvino_core
from edge.teaching.ir import serialized
from export.ir import store_floats_in_half

Operation = Callable[[ov.Node, ov.Node], ov.Node]

SIDE = 64
# The largest error of one number in 16 bits, and some of the arithmetic's.
ROUNDING = 2.0**-10


def graph(table: NDArray[np.float32], operation: Operation) -> ov.Model:
    given = opset13.parameter([1, table.shape[-1]], ov.Type.f32)
    return ov.Model([operation(given, opset13.constant(table))], [given], "table")


def product(given: ov.Node, table: ov.Node) -> ov.Node:
    return opset13.matmul(given, table, transpose_a=False, transpose_b=True)


def in_half(model: ov.Model) -> ov.Model:
    store_floats_in_half(model)
    return openvino_core().read_model(*serialized(model))


def answer(model: ov.Model) -> NDArray[np.float32]:
    given = np.linspace(0.5, 1.0, model.inputs[0].shape[1], dtype=np.float32)[None]
    compiled = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(compiled(given)[0])


def formats(model: ov.Model) -> set[ov.Type]:
    operations = model.get_ordered_ops()
    constants = [one for one in operations if one.get_type_name() == "Constant"]
    return {one.get_element_type() for one in constants}


def drawn(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(5).standard_normal(shape, np.float32)


def with_one(value: float) -> NDArray[np.float32]:
    table = np.abs(drawn(1, SIDE * SIDE)) + np.float32(1.0)
    table[0, 7] = value
    return table


@pytest.mark.parametrize("operation", [opset13.multiply, opset13.divide])
@pytest.mark.parametrize("value", [1e-9, 3e-7, 7e4, np.inf])
def test_a_number_that_16_bits_have_no_room_for_stays_as_it_is(
    operation: Operation, value: float
) -> None:
    model = graph(with_one(value), operation)
    expected = answer(model.clone())
    assert answer(in_half(model)) == pytest.approx(expected, rel=ROUNDING)


def test_a_table_of_small_numbers_that_are_added_up_stays_as_it_is() -> None:
    model = graph(1e-7 * drawn(SIDE, SIDE), product)
    expected = answer(model.clone())
    assert answer(in_half(model)) == pytest.approx(expected, rel=ROUNDING)


def test_weights_of_which_some_are_near_zero_take_16_bits() -> None:
    table = drawn(SIDE, SIDE)
    table[::3] *= 1e-9  # channels of a backbone that never answer
    model = graph(table, product)
    expected = answer(model.clone())
    found = in_half(model)
    assert formats(found) == {ov.Type.f16}
    size = float(np.abs(expected).max())
    assert answer(found) == pytest.approx(expected, abs=ROUNDING * size)


@pytest.mark.parametrize("operation", [opset13.multiply, opset13.divide])
def test_ordinary_numbers_take_16_bits_whatever_reads_them(operation: Operation) -> None:
    found = in_half(graph(with_one(0.0 if operation is opset13.multiply else 1e-4), operation))
    assert formats(found) == {ov.Type.f16}
