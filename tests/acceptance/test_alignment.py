"""Real parts that are moved, turned and resized: found where they lie, or not at all."""

import pytest

from edge.bundle.input_spec import AlignMode
from tests.acceptance.shared_data import shared_data
from tests.bench.alignment import SETS, run
from tests.soak import times

COUNT = times(4, 250)


@pytest.mark.parametrize("scale", [0.0, 0.1])
@pytest.mark.parametrize("name", SETS)
def test_real_parts_are_found_where_they_lie_or_not_at_all(name: str, scale: float) -> None:
    root = shared_data(*SETS[name].split("/"))
    for own in (True, False):
        for mode in AlignMode:
            counted, _ = run(root, mode, COUNT, own=own, scale=scale)
            assert counted["wrong"] == 0
            # Bottles from above are round, and have no angle.
            if own and (name == "elpv" or (name == "bottle" and mode is AlignMode.SHIFT)):
                assert counted["right"] >= 0.8 * COUNT
