"""The tests mirror the packages, their helpers are in one place, and each library has a reason."""

import configparser
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("edge", "training", "export")
# Of a folder of tests, beside its tests.
BESIDE_TESTS = ("__init__.py", "conftest.py")


@pytest.mark.parametrize("package", PACKAGES)
def test_the_folders_of_tests_are_those_of_the_code(package: str) -> None:
    folders = [
        path.relative_to(ROOT / "tests")
        for path in (ROOT / "tests" / package).rglob("*")
        if path.is_dir() and path.name != "__pycache__"
    ]
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_helpers_of_tests_are_in_tests_support(package: str) -> None:
    helpers = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests" / package).rglob("*.py")
        if not path.name.startswith("test_") and path.name not in BESIDE_TESTS
    ]
    assert helpers == []


def test_no_helper_is_a_test() -> None:
    assert list((ROOT / "tests" / "support").rglob("test_*.py")) == []


def test_types_are_checked_strictly_in_packages_and_tests() -> None:
    mypy = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["mypy"]
    assert mypy["strict"] is True
    assert {*PACKAGES, "tests"} <= set(mypy["packages"])


def test_every_library_has_its_reason_beside_it() -> None:
    settings = configparser.ConfigParser(comment_prefixes=(), inline_comment_prefixes=())
    settings.read(ROOT / "setup.cfg", "utf-8")
    wanted = {"install_requires": settings["options"]["install_requires"]}
    wanted |= dict(settings["options.extras_require"])
    without = []
    for extra, text in wanted.items():
        reason = ""
        for line in filter(None, map(str.strip, text.splitlines())):
            if line.startswith("#"):
                reason = line
            elif not reason and not line.startswith("inspection-station["):
                without.append(f"{extra}: {line}")
    assert without == []
