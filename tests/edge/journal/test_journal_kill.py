"""What was told of is on the disk, whenever the process is killed."""

from pathlib import Path

import pytest

from tests.soak import seeds
from tests.support.journal_process import check_kills


@pytest.mark.parametrize("seed", seeds(4, 20))
def test_announced_entries_survive_kills_at_random_moments(seed: int, tmp_path: Path) -> None:
    assert check_kills(tmp_path, seed) > 0
