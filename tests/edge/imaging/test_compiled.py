"""Compiled kernels: kept where it is allowed, and never a reason not to start."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import edge

USE_A_KERNEL = """
import logging
logging.basicConfig(format="%(levelname)s %(message)s")
import numpy as np
import edge
from edge.imaging.two_kernels import first, last
pixels = np.arange(7, 19, dtype=np.uint8).reshape(3, 4)
assert (first(pixels), last(pixels)) == (7, 18)
print(edge.__path__[0])
"""

# Those of the product take seconds to compile each, and are made by the same decorator.
TWO_KERNELS = """
from edge.imaging.kernels import READ_BYTES_2D, kernel

@kernel((READ_BYTES_2D,))
def first(pixels):
    return pixels[0, 0]

@kernel((READ_BYTES_2D,))
def last(pixels):
    return pixels[-1, -1]
"""

Start = Callable[..., str]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package, with two kernels more, that was never started."""
    copy = tmp_path / "site" / "edge"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(edge.__file__).parent, copy, ignore=ignored)
    (copy / "imaging" / "two_kernels.py").write_text(TWO_KERNELS)
    return copy


@pytest.fixture
def start(package: Path, tmp_path: Path) -> Start:
    """Start a process that uses kernels, and return what it logged."""
    work = tmp_path / "work"
    work.mkdir()

    def run(**environment: object) -> str:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
        inherited.pop("CACHE_DIRECTORY", None)
        done = subprocess.run(
            [sys.executable, "-B", "-c", USE_A_KERNEL],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=work,
            env=inherited
            | {"PYTHONPATH": str(package.parent), "HOME": str(tmp_path / "home")}
            | {key: str(value) for key, value in environment.items()},
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str(package)
        assert list(work.iterdir()) == []
        return done.stderr

    return run


def kept(folder: Path) -> dict[Path, int]:
    """Return the compiled kernels below a folder, and when each was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.nbc")}


def nowhere_to_write(package: Path, home: Path) -> None:
    """Put files where folders would be: not even root can write there."""
    for folder in [package, *(path for path in package.rglob("*") if path.is_dir())]:
        (folder / "__pycache__").touch()
    home.touch()


def test_a_second_start_compiles_nothing(start: Start, package: Path) -> None:
    assert start() == ""
    first = kept(package)

    assert start() == ""

    assert len(first) >= 2
    assert kept(package) == first


def test_a_service_keeps_its_kernels_in_its_cache_folder(
    start: Start, package: Path, tmp_path: Path
) -> None:
    nowhere_to_write(package, tmp_path / "home")
    cache, second = tmp_path / "cache", tmp_path / "second"

    assert start(CACHE_DIRECTORY=f"{cache}:{second}") == ""

    assert len(kept(cache / "kernels")) >= 2
    assert not second.exists()


def test_the_users_own_cache_folder_goes_first(start: Start, package: Path, tmp_path: Path) -> None:
    assert start(CACHE_DIRECTORY=tmp_path / "systemd", NUMBA_CACHE_DIR=tmp_path / "own") == ""
    assert kept(tmp_path / "own")
    assert not (tmp_path / "systemd").exists()


def test_without_any_folder_it_starts_and_says_so_once(
    start: Start, package: Path, tmp_path: Path
) -> None:
    nowhere_to_write(package, tmp_path / "home")

    printed = start(CACHE_DIRECTORY="")

    assert printed.count("WARNING") == 1
    assert "compiled kernels cannot be kept" in printed
    assert "Set NUMBA_CACHE_DIR" in printed


def test_a_cache_cut_by_a_power_failure_is_no_reason_not_to_start(
    start: Start, package: Path
) -> None:
    start()
    for suffix in ("nbc", "nbi"):
        for path in package.rglob(f"*.{suffix}"):
            path.write_bytes(path.read_bytes()[:7])
        assert start().count("WARNING") <= 1
