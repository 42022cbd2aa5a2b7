"""Every export carries its self-test, and a bundle of an earlier version can be given one."""

import json
import shutil
from pathlib import Path

from edge.bundle.loading import load_bundle
from edge.inspection.detector import CompiledModel, Detector
from edge.inspection.self_test import self_test
from export.self_test import main

USAGE = 78


def test_an_exported_bundle_passes_its_own_self_test(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    assert [golden.image for golden in loaded.manifest.self_test] == [
        "ramp",
        "squares",
        "noise",
        "spot",
    ]
    self_test(Detector(CompiledModel(loaded)), loaded.manifest)


def test_a_bundle_without_a_self_test_is_given_the_one_that_its_export_would_have(
    bundle: Path, tmp_path: Path
) -> None:
    older = tmp_path / "older"
    shutil.copytree(bundle.parent, older)
    manifest = older / bundle.with_suffix(".json").name
    content = json.loads(manifest.read_bytes())
    del content["self_test"]
    manifest.write_text(json.dumps(content), "utf-8")

    assert main([str(older / bundle.name)]) == 0
    for file in bundle.parent.iterdir():
        assert (older / file.name).read_bytes() == file.read_bytes()


def test_what_is_no_bundle_is_named(tmp_path: Path) -> None:
    assert main([str(tmp_path / "nothing.xml")]) == USAGE
