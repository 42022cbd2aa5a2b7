"""Bundles of somebody hostile: whatever they do, the station goes on or says why it does not."""

import os
import sys
from pathlib import Path

import pytest

from edge.bundle.loading import load_bundle
from edge.errors import BundleDamaged, ModelError
from edge.inspection.detector import RunPlan
from edge.inspection.graph_trial import GraphCrashed, try_model
from edge.inspection.inspector import Inspector
from edge.station.model.store import Change, ModelStore, load_model
from tests.attacks.crashing_model import crashing_model
from tests.edge.conftest import EdgeRun, edge_run
from tests.edge.station.test_model_swap import one_inspector
from tests.support.small_bundle import difference_model, write_bundle, write_images

__all__ = ["edge_run"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where passed trials of this test are remembered."""
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def crashing(tmp_path: Path) -> Path:
    return write_bundle(tmp_path, "crashing", model=crashing_model())


def test_a_graph_that_crashes_is_refused_and_the_running_model_goes_on(
    tmp_path: Path, crashing: Path
) -> None:
    store = ModelStore(
        first=load_model(write_bundle(tmp_path), one_inspector),
        load=lambda path: load_model(path, one_inspector),
    )
    outcome = store.exchange(crashing)
    assert outcome.change is Change.REFUSED
    assert "crashing.xml: the process that tried the graph crashed (SIGSEGV" in outcome.detail
    assert isinstance(store.current.inspectors[0], Inspector)
    assert store.exchange(tmp_path / "part.xml").change is Change.EXCHANGED


@pytest.mark.parametrize("mode", ["--once", "--doctor"])
def test_a_graph_that_crashes_is_reported_by_the_command(
    tmp_path: Path, crashing: Path, edge_run: EdgeRun, mode: str
) -> None:
    frames = write_images(tmp_path / "frames")
    done = edge_run("--camera", frames, "--model", crashing, mode)
    assert done.returncode == 78 or (mode == "--doctor" and done.returncode > 0)
    assert "crashed (SIGSEGV" in done.stdout + done.stderr


def test_what_has_passed_is_not_tried_again_under_any_name(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = load_bundle(write_bundle(tmp_path))
    try_model(bundle)
    monkeypatch.setattr(sys, "executable", "/bin/false")  # any further trial fails
    try_model(bundle)
    (tmp_path / "copy").mkdir()
    for suffix in (".xml", ".bin", ".json"):
        (tmp_path / "copy" / f"b{suffix}").write_bytes((tmp_path / f"part{suffix}").read_bytes())
    try_model(load_bundle(tmp_path / "copy" / "b.xml"))
    with pytest.raises(GraphCrashed, match="exit code 1"):
        try_model(bundle, plan=RunPlan(streams=2))
    other = write_bundle(tmp_path, "other", model=difference_model(faulty=1.0))
    with pytest.raises(GraphCrashed):
        try_model(load_bundle(other))


def test_where_nothing_can_be_remembered_a_model_is_tried_and_used(
    tmp_path: Path, cache: Path
) -> None:
    cache.write_text("no folder")
    try_model(load_bundle(write_bundle(tmp_path)))


def test_a_trial_that_does_not_end_is_ended(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(ModelError, match="did not end in time"):
        try_model(load_bundle(write_bundle(tmp_path)), limit_s=0.0)


def test_files_that_change_between_loading_and_trial_are_not_believed(
    tmp_path: Path, cache: Path
) -> None:
    bundle = load_bundle(write_bundle(tmp_path))
    write_bundle(tmp_path, model=difference_model(faulty=1.0))
    with pytest.raises(BundleDamaged, match="was changed while being loaded"):
        try_model(bundle)


def test_a_fifo_among_the_files_keeps_no_station_waiting(tmp_path: Path, edge_run: EdgeRun) -> None:
    path = write_bundle(tmp_path)
    path.with_suffix(".bin").unlink()
    os.mkfifo(path.with_suffix(".bin"))
    done = edge_run("--camera", write_images(tmp_path / "f"), "--model", path, "--once")
    assert (done.returncode, "Not a regular file" in done.stderr) == (78, True)
