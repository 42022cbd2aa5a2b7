"""What the search of a memory bank has to find, written out."""

import numpy as np
from numpy.typing import NDArray


def nearest_of_groups(
    patches: NDArray[np.float64], bank: NDArray[np.float64], count: int
) -> NDArray[np.int64]:
    """Return the nearest vectors of a bank, of each of its 64 groups only the nearest: indices."""
    size = max(len(bank), count)
    group = max(1, size // max(64, count))
    filling = np.repeat(bank[-1:], -size % group + size - len(bank), 0)
    padded = np.concatenate([bank, filling])
    squared = np.square(patches[:, None] - padded[None]).sum(2)
    members = squared.reshape(len(patches), len(padded) // group, group)
    lowest = members.min(2).argsort(1)[:, :count]
    found: NDArray[np.int64] = lowest * group + np.take_along_axis(members.argmin(2), lowest, 1)
    return found.clip(max=len(bank) - 1)
