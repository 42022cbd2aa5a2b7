"""Which precision is the fastest on this PC, of those that pass the gate."""

from collections.abc import Mapping

from edge.bundle.manifest import ComparedPrecision
from edge.bundle.manifest_types import plain_text
from export.errors import GateFailed
from export.latency import Latency, measure_latency
from export.variants import ExportPrecision, Variant, VariantBuilder

# Of which the fastest may be asked for, the most exact one first.
COMPARED = (ExportPrecision.FP32, ExportPrecision.BF16, ExportPrecision.INT8)

# Of each precision what was made, or why it was not.
Made = dict[ExportPrecision, Variant | str]


def measure_latencies(builder: VariantBuilder, made: Made) -> dict[ExportPrecision, Latency]:
    """Measure what was made.

    Raises:
        GateFailed: FP32, which all are compared with, is not among it.
    """
    base = made[ExportPrecision.FP32]
    if isinstance(base, str):
        raise GateFailed(base)
    graphs = {name: one for name, one in made.items() if isinstance(one, Variant)}
    return measure_latency(graphs, builder.evidence.images[0])


def compared(
    made: Made, latencies: Mapping[ExportPrecision, Latency]
) -> tuple[ComparedPrecision, ...]:
    """Return what a manifest keeps of the comparison."""
    rows = []
    for precision in COMPARED:
        refused, latency = made[precision], latencies.get(precision)
        rows.append(
            ComparedPrecision(
                name=precision.value,
                milliseconds=latency.milliseconds if latency else None,
                relative=latency.relative if latency else None,
                refused=plain_text(refused) if isinstance(refused, str) else None,
            )
        )
    return tuple(rows)
