"""The small backbone, the task it is trained on, and the demo's frames."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from edge.imaging.image_files import read_image
from training import demo
from training.components.small_backbone import CLASSES, SmallBackbone
from training.data.pasted_defects import KINDS, paste_flaw
from training.data.rendered import Defect
from training.small_backbone_training import balance_stages, train_small_backbone


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("layer", "stride", "channels"), [(1, 4, 32), (2, 8, 64), (3, 16, 128)])
def test_stages_have_strides_4_8_and_16(layer: int, stride: int, channels: int) -> None:
    backbone = SmallBackbone().eval()
    shapes: dict[str, tuple[int, ...]] = {}
    getattr(backbone, f"layer{layer}").register_forward_hook(
        lambda _module, _inputs, output: shapes.update(seen=tuple(output.shape))
    )
    with torch.inference_mode():
        logits = backbone(torch.zeros(2, 3, 160, 224))

    assert shapes["seen"] == (2, channels, 160 // stride, 224 // stride)
    assert logits.shape == (2, CLASSES, 10, 14)


def test_any_image_size_is_taken() -> None:
    with torch.inference_mode():
        assert SmallBackbone().eval()(torch.zeros(1, 3, 77, 131)).shape == (1, CLASSES, 5, 9)


def test_weights_fit_into_the_demo_bundle() -> None:
    assert sum(parameter.numel() for parameter in SmallBackbone().parameters()) <= 350_000


def test_classes_are_the_kinds_of_flaws() -> None:
    assert CLASSES == KINDS


@pytest.mark.parametrize("kind", range(1, KINDS))
def test_flaw_is_local_and_visible(kind: int) -> None:
    random = np.random.default_rng(kind)
    texture = random.integers(60, 200, (12, 12, 3)).astype(np.uint8)
    image = np.kron(texture, np.ones((8, 8, 1), np.uint8))
    before = image.copy()

    flawed = paste_flaw(image, kind, random)

    assert flawed.shape == image.shape
    assert flawed.dtype == np.uint8
    assert (image == before).all()
    assert 0.001 < (flawed != image).any(axis=2).mean() < 0.5


def test_kind_0_is_no_flaw() -> None:
    image = np.full((96, 96, 3), 90, np.uint8)
    assert (paste_flaw(image, 0, np.random.default_rng(0)) == image).all()


def test_training_twice_gives_identical_weights_keeps_the_global_seed_and_reports_steps() -> None:
    torch.manual_seed(7)
    state = torch.get_rng_state()
    seen: list[tuple[int, int]] = []
    first, second = (
        train_small_backbone(
            3, images=6, epochs=2, progress=lambda step, steps, _loss: seen.append((step, steps))
        )
        for _ in range(2)
    )

    assert seen == 2 * [(1, 2), (2, 2)]
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    assert not first.training
    assert torch.equal(torch.get_rng_state(), state)


def test_balancing_stages_changes_their_scale_and_no_answer() -> None:
    torch.manual_seed(0)
    backbone = SmallBackbone().eval()
    images = torch.randn(4, 3, 96, 96)
    with torch.inference_mode():
        before = backbone(images)
    balance_stages(backbone, images)

    with torch.inference_mode():
        after = backbone(images)
        maps = backbone.stem(images)
        for stage in (backbone.layer1, backbone.layer2, backbone.layer3):
            maps = stage(maps)
            centred = maps - maps.mean(dim=(0, 2, 3), keepdim=True)
            assert centred.square().sum(dim=1).mean().item() == pytest.approx(1.0, rel=1e-3)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def test_command_writes_weights_that_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = SmallBackbone().eval()
    monkeypatch.setattr(demo, "train_small_backbone", lambda *_args, **_options: backbone)
    path = tmp_path / "small.safetensors"

    assert demo.main(["backbone", "-o", str(path)]) == 0

    SmallBackbone().load_state_dict(load_file(path))
    assert path.stat().st_size < 1_400_000
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_demo_frames_name_what_they_show(tmp_path: Path) -> None:
    paths = demo.write_demo_frames(tmp_path / "frames")

    kinds = {path.stem.split("_", 1)[1] for path in paths}
    assert kinds == {"good", *Defect}
    assert sum(path.stat().st_size for path in paths) < 1_500_000
    assert read_image(paths[0]).shape == (480, 640, 3)


def test_unwritable_output_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")

    assert demo.main(["frames", "-o", str(blocked / "frames")]) == 78
    assert "frames: cannot be written" in capsys.readouterr().err
