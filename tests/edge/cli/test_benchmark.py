"""The benchmark runs on a user's own model and frames; its figures are never judged here."""

import json
from pathlib import Path

import pytest

from edge.bundle.input_spec import TileSpec
from edge.bundle.loading import load_bundle
from edge.cameras.interface import EndOfFrames
from edge.cli import benchmark as measuring
from edge.cli.benchmark import MemoryCamera, latency_pair, paired, prepared_pieces
from edge.cli.main import main
from edge.imaging.image_files import write_image
from edge.inspection.detector import CompiledModel, RunPlan
from tests.support.small_bundle import good_image, write_bundle


def benchmark(camera: Path, model: Path) -> int:
    """Return its exit code; nothing is judged here, so a moment is measured enough."""
    return main(["--benchmark", "--camera", str(camera), "--model", str(model)])


@pytest.fixture(autouse=True)
def a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "THROUGHPUT_MS", 20.0)


def test_the_figures_lie_beside_the_model_and_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_bundle(tmp_path)
    write_image(tmp_path / "good.png", good_image())

    assert benchmark(tmp_path / "good.png", model) == 0
    result = json.loads((tmp_path / "part.benchmark.json").read_text())
    assert result["frame"] == "160×120"
    assert result["latency"]["pairs"] == 60
    assert result["latency"]["path_p50_ms"] > 0
    assert result["throughput"]["path_per_s"] > 0
    assert "frame to verdict" in capsys.readouterr().out


def test_a_tiled_model_is_measured_on_all_its_tiles(tmp_path: Path) -> None:
    bundle = load_bundle(
        write_bundle(tmp_path, tile_plan=TileSpec(height=64, width=64, overlap=0.0))
    )
    pixels = good_image()
    assert len(prepared_pieces(pixels, bundle.manifest)) == 6
    pair = latency_pair(CompiledModel(bundle, plan=RunPlan(batch=4, streams=2)), pixels, pairs=3)
    assert pair.pairs == 3
    assert pair.ratio_min <= pair.ratio_median


def test_a_result_that_cannot_be_written_is_reported_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_bundle(tmp_path)
    (tmp_path / "part.benchmark.json").mkdir()

    assert benchmark(tmp_path / "nowhere", model) == 78  # not even the camera was looked at

    assert "part.benchmark.json: is a folder" in capsys.readouterr().err


def test_a_camera_that_is_absent_is_no_benchmark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark(tmp_path / "nowhere", write_bundle(tmp_path)) == 78

    assert "no such file or folder" in capsys.readouterr().err
    assert not (tmp_path / "part.benchmark.json").exists()


def test_pairs_are_taken_in_turn() -> None:
    calls: list[str] = []
    paired(lambda: calls.append("bare"), lambda: calls.append("path"), pairs=3, warm_up=1)
    assert calls == ["bare", "path"] * 4


def test_images_in_memory_come_round_and_end() -> None:
    camera = MemoryCamera([good_image(0), good_image(1)], count=3)
    frames = [camera.read(1.0) for _ in range(3)]
    assert [frame.number for frame in frames if frame] == [1, 2, 3]
    with pytest.raises(EndOfFrames):
        camera.read(1.0)
