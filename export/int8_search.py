"""The search for the fastest INT8 model within budget: which layers stay in floating point."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import openvino as ov

from edge.wording import counted
from export.accuracy_gate import Accuracy, AccuracyBudget
from export.errors import QuantizationRefused
from export.quantization import Images, Quantizable, QuantizationRecipe, layer_group, quantize

# Quantizing and judging once takes seconds; the whole export may take minutes.
_MAX_ATTEMPTS = 12

# Gives what a candidate changes, and a sentence for each reason not to take it.
Judge = Callable[[ov.Model], tuple[Accuracy, list[str]]]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One row of the table of what was tried."""

    recipe: QuantizationRecipe
    accuracy: Accuracy
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QuantizationResult:
    """The quantized model, how it was made, and everything that was tried on the way."""

    model: ov.Model
    recipe: QuantizationRecipe
    attempts: tuple[Attempt, ...]

    @property
    def accuracy(self) -> Accuracy:
        return self.attempts[-1].accuracy


def search(
    subject: Quantizable, calibration: Images, judge: Judge, budget: AccuracyBudget
) -> QuantizationResult:
    """Return the first candidate within budget; those that are likely faster are tried first.

    All layers, then the same with means corrected, which takes a few per cent of the time; then all
    but one group, the cheapest group first; then all but those that helped most, one more each
    time.

    Raises:
        QuantizationRefused: none is; its details name the layers to blame and what was tried.
        ConversionFailed: NNCF cannot quantize the graph.
    """
    attempts: list[Attempt] = []

    def attempt(recipe: QuantizationRecipe) -> ov.Model | None:
        model = quantize(subject, calibration, recipe)
        accuracy, faults = judge(model)
        attempts.append(Attempt(recipe, accuracy, tuple(faults)))
        log.debug("%s: %s", recipe, "; ".join(faults) or "within budget")
        log.info("INT8, recipe %d: %s", len(attempts), "refused" if faults else "within budget")
        return None if faults else model

    def excess(row: Attempt) -> float:
        return row.accuracy.excess(budget)

    has_means = bool(subject.corrected_outputs())
    for recipe in [
        QuantizationRecipe(True, False),
        *[QuantizationRecipe()] * has_means,
        QuantizationRecipe(False, False),
    ]:
        model = attempt(recipe)
        if model is not None:
            return QuantizationResult(model, attempts[-1].recipe, tuple(attempts))
    whole = min(attempts, key=excess)
    groups = groups_by_cost(subject)
    alone: list[Attempt] = []
    for group in groups[: _MAX_ATTEMPTS - 5] if len(groups) > 1 else []:
        model = attempt(replace(whole.recipe, floating=(group,)))
        if model is not None:
            return QuantizationResult(model, attempts[-1].recipe, tuple(attempts))
        alone.append(attempts[-1])
    helping = [row.recipe.floating[0] for row in sorted(alone, key=excess)]
    for count in range(2, min(len(groups), len(helping) + 1)):
        if len(attempts) == _MAX_ATTEMPTS:
            break
        model = attempt(replace(whole.recipe, floating=tuple(sorted(helping[:count]))))
        if model is not None:
            return QuantizationResult(model, attempts[-1].recipe, tuple(attempts))
    blamed = [row for row in alone if excess(row) < excess(whole)] or alone
    names = [row.recipe.floating[0] for row in sorted(blamed, key=excess)][:3] or groups
    raise QuantizationRefused(
        "; ".join(whole.faults),
        f"Mainly responsible are the layers {', '.join(names)}; tried: "
        f"{counted(len(attempts), 'recipe')}\n"
        + "\n".join(f"- {row.recipe}: {'; '.join(row.faults)}" for row in attempts),
    )


def groups_by_cost(subject: Quantizable) -> list[str]:
    """Return the layer groups, the one with the fewest multiplications first."""
    cost = dict.fromkeys(subject.groups(), 0)
    for operation in subject.model.get_ordered_ops():
        if subject.is_weighty(operation):
            group = layer_group(subject.layer(operation))
            cost[group] += _multiplications(operation)
    return sorted(cost, key=lambda group: cost[group])


def _multiplications(operation: ov.Node) -> int:
    outputs = int(np.prod([int(size) for size in operation.get_output_shape(0)]))
    weights = [int(size) for size in operation.get_input_shape(1)]
    if operation.get_type_name() == "MatMul":
        return outputs * int(operation.get_input_shape(0)[-1])
    return outputs * int(np.prod(weights[1:]))
