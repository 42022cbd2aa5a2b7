"""The files of a release beside wheel and sdist: ``python -m tools.release notes|sbom|hashes``."""

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CHANGELOG = ROOT / "CHANGELOG.md"
LOCK = ROOT / "requirements-edge.txt"
# What a venv brings along, and no part of the product.
_INSTALLERS = frozenset({"pip", "setuptools", "wheel"})


class ReleaseError(Exception):
    """A release cannot be made; the message names cause and next step."""


def release_notes(changelog: str, version: str) -> str:
    """Return the section of a version.

    Raises:
        ReleaseError: there is none, or it has no date or no text.
    """
    sections = re.split(r"(?m)^## ", changelog)
    for section in sections:
        title, _, body = section.partition("\n")
        if not title.startswith(f"[{version}]"):
            continue
        if not re.fullmatch(r"\[[^]]+\] - \d{4}-\d{2}-\d{2}", title.strip()):
            raise ReleaseError(f"CHANGELOG.md: the section {version} has no date. Write it.")
        if not body.strip():
            raise ReleaseError(f"CHANGELOG.md: the section {version} is empty. Fill it.")
        return body.strip() + "\n"
    raise ReleaseError(f"CHANGELOG.md has no section [{version}]. Write one, with its date.")


def locked_hashes(lock: str) -> dict[tuple[str, str], list[str]]:
    """Return the SHA-256 of every file by normalized name and version.

    Args:
        lock: a requirements file with hashes.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for entry in lock.replace("\\\n", " ").splitlines():
        if pinned := re.match(r"([A-Za-z0-9._-]+)==(\S+)", entry):
            name = normalized(pinned[1])
            found[name, pinned[2]] = re.findall(r"--hash=sha256:([0-9a-f]{64})", entry)
    return found


def normalized(name: str) -> str:
    """Return a package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def with_hashes(document: dict[str, Any], lock: str) -> dict[str, Any]:
    """Return a CycloneDX document with the lock's hashes, and without pip and setuptools.

    Raises:
        ReleaseError: something is installed that the lock does not name, or in another version.
    """
    known = locked_hashes(lock)
    removed = {c["bom-ref"] for c in document["components"] if c["name"] in _INSTALLERS}
    components = []
    for component in document["components"]:
        if component["bom-ref"] in removed:
            continue
        name, version = normalized(component["name"]), component["version"]
        if name == "inspection-station":
            components.append(component)
            continue
        if not known.get((name, version)):
            raise ReleaseError(
                f"{name} {version} is installed and not in {LOCK.name}. Run make lock, and make "
                "the lean edge anew."
            )
        files = [
            {
                "type": "distribution",
                "url": f"https://pypi.org/project/{name}/{version}/#files",
                "hashes": [{"alg": "SHA-256", "content": digest}],
            }
            for digest in known[name, version]
        ]
        references = component.get("externalReferences", [])
        components.append({**component, "externalReferences": references + files})
    dependencies = [
        {**one, "dependsOn": [ref for ref in one.get("dependsOn", []) if ref not in removed]}
        for one in document.get("dependencies", [])
        if one["ref"] not in removed
    ]
    return {**document, "components": components, "dependencies": dependencies}


def checksums(folder: Path) -> str:
    """Return lines for ``sha256sum --check``, one for each file of a folder but themselves."""
    files = sorted(path for path in folder.iterdir() if path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    return "".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write one of the files into ``dist/``; return the exit code."""
    parser = argparse.ArgumentParser("tools.release", description=__doc__)
    parser.add_argument("what", choices=["notes", "sbom", "hashes"])
    parser.add_argument("--version", help="of the notes")
    parser.add_argument("--dist", type=Path, default=ROOT / "dist")
    options = parser.parse_args(arguments)
    dist: Path = options.dist
    try:
        if options.what == "notes":
            notes = release_notes(CHANGELOG.read_text("utf-8"), options.version or "")
            (dist / "NOTES.md").write_text(notes, "utf-8")
        elif options.what == "sbom":
            path = dist / "sbom.cdx.json"
            document = with_hashes(json.loads(path.read_text("utf-8")), LOCK.read_text("utf-8"))
            path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
        else:
            (dist / "SHA256SUMS").write_text(checksums(dist), "utf-8")
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
