"""Where the real images and weights lie; none of them is part of the project."""

import os
from pathlib import Path

import pytest

BESIDE_THE_REPOSITORY = Path(__file__).resolve().parents[3] / "shared" / "data"


def shared_data(*parts: str) -> Path:
    """Return a path in the shared data, or skip and name what is missing.

    ``INSPECTION_DATA`` names another folder than ``../shared/data`` beside the repository.
    """
    root = Path(os.environ.get("INSPECTION_DATA", BESIDE_THE_REPOSITORY))
    path = root.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{path} is missing; INSPECTION_DATA names the folder of real images")
    return path
