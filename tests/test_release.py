"""What `make release`, `make lock` and `make licences` rest on, run without a network."""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import pytest

import edge
from tools.release import (
    ReleaseError,
    checksums,
    locked_hashes,
    main,
    normalized,
    release_notes,
    with_hashes,
)

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements-edge.txt"
# Of the lean edge; what links no source of its own to ours. Others are looked at before they come.
LICENCES = (
    "Apache", "MIT", "BSD", "0BSD", "PSF", "Python Software Foundation", "EPL-2.0 OR BSD",
)  # fmt: skip


def run(*arguments: object, cwd: Path = ROOT, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in arguments],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_lock_names_what_the_lean_edge_needs_at_the_versions_of_make() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    needed = re.findall(r"(?m)^([A-Za-z][\w.-]*)", settings["options"]["install_requires"])
    pinned = re.findall(r"(?m)^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text())
    locked = locked_hashes(LOCK.read_text())

    names = {name for name, _ in locked}
    assert {normalized(name) for name in needed} <= names, "run make lock"
    allowed = {(normalized(name), version) for name, version in pinned}
    assert set(locked) <= allowed, "run make lock, and pin what it adds in constraints.txt"
    assert all(hashes for hashes in locked.values())


def test_every_package_is_pinned_once_at_the_version_that_the_tests_run_with() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    extras = settings["options.extras_require"]
    long_ones = make_names([extras["s3"], extras["soak"]])  # which make soak installs
    needed = make_names([settings["options"]["install_requires"], *extras.values()])
    pinned = re.findall(r"(?m)^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text())
    assert len({normalized(name) for name, _ in pinned}) == len(pinned)
    assert needed <= {normalized(name) for name, _ in pinned}
    installed = {
        normalized(one.name): one.version.partition("+")[0] for one in metadata.distributions()
    }
    assert [
        (name, version)
        for name, version in pinned
        if normalized(name) in needed
        and installed.get(normalized(name), version if normalized(name) in long_ones else "none")
        != version
    ] == []


def make_names(requirements: list[str]) -> set[str]:
    """Return the packages that texts of requirements name."""
    return {
        normalized(name)
        for text in requirements
        for name in re.findall(r"(?m)^([A-Za-z][\w.-]*)", text)
        if name != "inspection-station"
    }


def test_the_changelog_has_notes_for_this_version() -> None:
    notes = release_notes((ROOT / "CHANGELOG.md").read_text(), edge.__version__)

    assert "### Added" in notes
    assert "## [" not in notes


@pytest.mark.parametrize(
    ("changelog", "cause"),
    [
        ("# Changelog\n\n## [1.0.0] - 2026-01-01\n\ntext\n", r"no section \[2\.0\.0\]"),
        ("## [2.0.0]\n\ntext\n", "has no date"),
        ("## [2.0.0] - 2026-01-01\n\n## [1.0.0] - 2025-01-01\n\ntext\n", "is empty"),
    ],
)
def test_a_version_without_notes_is_not_released(changelog: str, cause: str) -> None:
    with pytest.raises(ReleaseError, match=cause):
        release_notes(changelog, "2.0.0")


def test_the_bill_of_materials_has_the_hashes_of_the_lock_and_no_installers(tmp_path: Path) -> None:
    listed = tmp_path / "listed.txt"
    listed.write_text(
        re.sub(r"(?m)^ .*\n", "", LOCK.read_text()).replace(" \\", "") + "pip==23.2\n"
    )
    target = tmp_path / "sbom.cdx.json"
    run(cyclonedx(), "requirements", "--of", "JSON", "-o", target, listed)

    assert main(["sbom", "--dist", str(tmp_path)]) == 0

    document = json.loads(target.read_text())
    known = locked_hashes(LOCK.read_text())
    assert document["bomFormat"] == "CycloneDX"
    assert len(document["components"]) == len(known)
    for component in document["components"]:
        found = {
            entry["content"]
            for reference in component["externalReferences"]
            for entry in reference.get("hashes", ())
        }
        assert found == set(known[normalized(component["name"]), component["version"]])


def test_what_the_lock_does_not_name_is_not_released() -> None:
    component = {"name": "numpy", "version": "1.0", "bom-ref": "numpy"}
    with pytest.raises(ReleaseError, match=r"numpy 1\.0 is installed and not in .* make lock"):
        with_hashes({"components": [component]}, LOCK.read_text())


def test_the_wheel_holds_all_that_a_station_and_a_fit_need(tmp_path: Path) -> None:
    # Beside the checkout: setuptools writes into the folder that it builds from.
    sources = tmp_path / "sources"
    for name in ("edge", "training", "export"):
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path / "dist",
        cwd=sources)  # fmt: skip
    (wheel,) = (tmp_path / "dist").glob("*.whl")

    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert wheel.name == f"inspection_station-{edge.__version__}-py3-none-any.whl"
    data = [
        path.relative_to(ROOT)
        for folder in ("edge", "training", "export")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    ]
    assert [path for path in data if str(path) not in names] == []
    assert not [name for name in names if name.startswith(("tests/", "tools/"))]

    (tmp_path / "dist" / "SHA256SUMS").write_text(checksums(tmp_path / "dist"))
    run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=tmp_path / "dist")


def test_the_licences_of_the_lean_edge_are_known_ones() -> None:
    names = [name for name, _ in locked_hashes(LOCK.read_text())]
    listed = run(sys.executable, "-m", "piplicenses", "--format", "json", "--packages", *names)

    found = {normalized(one["Name"]): one["License"] for one in json.loads(listed)}
    assert set(found) == set(names)
    assert {n: lic for n, lic in found.items() if not lic.startswith(LICENCES)} == {}


def test_every_library_of_another_licence_is_named_where_who_hands_it_on_reads() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    wanted = "\n".join(
        [settings["options"]["install_requires"], *settings["options.extras_require"].values()]
    )
    names = sorted(set(re.findall(r"(?m)^([A-Za-z][\w.-]*)", wanted)) - {"inspection-station"})
    listed = run(sys.executable, "-m", "piplicenses", "--format", "json", "--packages", *names)
    reported = (ROOT / "SECURITY.md").read_text().lower()

    found = {one["Name"]: one["License"] for one in json.loads(listed)}
    other = {name for name, licence in found.items() if not licence.startswith(LICENCES)}
    copyleft = {name for name in other if re.search("GPL|GNU|MPL|Mozilla", found[name])}
    assert {"gpiod", "psycopg", "asyncua"} <= copyleft
    assert {name for name in copyleft if name.lower() not in reported} == set()


def test_the_hooks_before_a_commit_run_without_a_network(tmp_path: Path) -> None:
    pre_commit = [sys.executable, "-m", "pre_commit"]
    environment = {"PRE_COMMIT_HOME": str(tmp_path), "https_proxy": "http://127.0.0.1:9"}
    run(*pre_commit, "validate-config", environment=environment)
    if not (ROOT / ".git").exists() or not (ROOT / ".venv" / "bin" / "ruff").exists():
        pytest.skip("the hooks run in a clone with .venv, as make test makes it")

    for hook in ("ruff-format", "ruff-check"):
        run(*pre_commit, "run", hook, "--files", "tools/release.py", environment=environment)


def cyclonedx() -> Path:
    return Path(sys.executable).parent / "cyclonedx-py"
