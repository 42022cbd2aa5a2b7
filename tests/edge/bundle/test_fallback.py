"""A bundle made for a processor with more instructions runs here in its validated fallback."""

import json
from pathlib import Path
from typing import Any

import pytest

from edge.bundle.loading import fallback_sentence, load_bundle
from edge.bundle.manifest import Manifest, manifest_here
from edge.errors import ModelError
from edge.inspection.detector import CompiledModel, Detector
from edge.inspection.self_test import golden_scores, self_test
from tests.edge.conftest import EdgeRun
from tests.support.broker import Broker
from tests.support.small_bundle import write_bundle, write_images
from tests.support.station_process import StationProcess

# As no processor calls any of its features.
NEVER = "bf32_of_tomorrow"


def made_for_another(folder: Path, fallback: bool = True) -> Path:
    """Write a bundle for bf16 on a processor that does not exist, perhaps with its f32 numbers."""
    path = write_bundle(folder)
    bundle = load_bundle(path)
    golden = golden_scores(Detector(CompiledModel(bundle)), bundle.manifest)
    document: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    precision = document["precision"]
    precision |= {"inference": "bf16", "cpu_features": [NEVER, "amx_of_tomorrow"]}
    if fallback:
        scores = [one.model_dump(mode="json") for one in golden]
        precision["fallback"] = {"gate": precision["gate"], "self_test": scores}
    # What bfloat16 gave is farther off than the self-test of f32 allows.
    document["self_test"] = [
        one.model_copy(update={"score": one.score + 5.0}).model_dump(mode="json") for one in golden
    ]
    path.with_suffix(".json").write_text(json.dumps(document))
    return path


def written(path: Path) -> Manifest:
    return Manifest.model_validate_json(path.with_suffix(".json").read_bytes())


@pytest.mark.parametrize(
    ("features", "inference"),
    [({NEVER}, "bf16"), ({"amx_of_tomorrow", "avx2"}, "bf16"), ({"avx2"}, "f32"), (set(), "f32")],
)
def test_one_of_the_features_is_enough_and_without_any_the_fallback_counts(
    features: set[str], inference: str, tmp_path: Path
) -> None:
    manifest = written(made_for_another(tmp_path))
    here = manifest_here(manifest, frozenset(features))
    assert here.precision.inference == inference
    assert (here == manifest) is (inference == "bf16")
    own = manifest_here(here, frozenset())
    assert own == here or inference == "bf16"  # a fallback needs nothing


def test_here_it_passes_by_the_numbers_of_the_fallback_and_says_so(tmp_path: Path) -> None:
    bundle = load_bundle(made_for_another(tmp_path))
    self_test(Detector(CompiledModel(bundle)), bundle.manifest)
    assert fallback_sentence(bundle) == (
        "part was made for fp32/bf16, which this processor cannot compute; it runs in "
        "fp32/f32, in which it was validated, too, only slower"
    )
    assert fallback_sentence(load_bundle(write_bundle(tmp_path, "other"))) is None


def test_without_a_fallback_it_does_not_run_and_names_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"validated only in bf16.*{NEVER}, amx_of_tomorrow"):
        CompiledModel(load_bundle(made_for_another(tmp_path, fallback=False)))


def test_log_verdicts_state_and_doctor_say_what_it_runs_in(
    tmp_path: Path, running_broker: Broker, edge_run: EdgeRun
) -> None:
    path = made_for_another(tmp_path)
    images = write_images(tmp_path / "in", good=1)
    line = StationProcess(
        tmp_path,
        running_broker,
        {"camera": {"uri": str(images), "rate_fps": 5, "loop": True}, "model": {"path": str(path)}},
    )
    with line:
        online = line.states("online")[-1]
        (verdict, *_) = running_broker.collect("verdict", lambda found: len(found) > 0)
        assert line.stop() == 0
    assert online["model"]["precision"] == "fp32/f32"
    assert online["model"]["made_for"] == "fp32/bf16"
    assert verdict["model"]["precision"] == "fp32/f32"
    assert "part was made for fp32/bf16, which this processor cannot compute" in line.log

    doctor = edge_run("--doctor", "--model", path).stdout
    assert "part was made for fp32/bf16" in doctor
    assert "4 reference images give the scores of the export" in doctor
