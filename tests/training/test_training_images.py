"""Images in batches: the same ones, in the order the seed says, in bounded memory."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from edge.bundle.input_spec import TileSpec
from edge.imaging.frame import PixelFormat
from tests.support.small_training import batch, write_mvtec
from training.data.loading import first_sight
from training.data.open_data_set import open_splits
from training.data.samples import Sample
from training.errors import DataError
from training.training_images import TrainingImages
from training.transforms import RandomView, parse_transforms

SPEC = first_sight((48, 48))


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sample, ...]:
    folder = write_mvtec(tmp_path_factory.mktemp("pictures") / "parts", train=12)
    return open_splits(folder).fit


def epoch(images: TrainingImages, number: int = 0, size: int = 4, seed: int = 0) -> Tensor:
    return torch.cat(list(images.shuffled(number, size, seed)))


def fingerprints(images: Tensor) -> list[int]:
    return [int(value) for value in images.long().flatten(1).sum(1)]


def test_images_that_fit_into_memory_are_read_once(samples: tuple[Sample, ...]) -> None:
    images = TrainingImages(samples, SPEC)
    first = torch.cat(list(images.in_order(4)))
    images._samples = ()
    assert torch.equal(torch.cat(list(images.in_order(5))), first)
    assert sorted(fingerprints(epoch(images))) == sorted(fingerprints(first))
    assert images.formats == {PixelFormat.BGR8}


def test_more_images_than_memory_are_read_anew_in_the_same_batches(
    samples: tuple[Sample, ...],
) -> None:
    kept, read = TrainingImages(samples, SPEC), TrainingImages(samples, SPEC, kept_bytes=10_000)
    for number in (0, 1, 7):
        assert torch.equal(epoch(kept, number), epoch(read, number))
    assert read._kept is None


def test_seed_and_epoch_decide_the_order(samples: tuple[Sample, ...]) -> None:
    images = TrainingImages(samples, SPEC)
    first = epoch(images, 0, seed=1)
    assert torch.equal(first, epoch(TrainingImages(samples, SPEC), 0, seed=1))
    assert not torch.equal(first, epoch(images, 1, seed=1))
    assert not torch.equal(first, epoch(images, 0, seed=2))
    assert epoch(images, 0, seed=10**30).shape == first.shape


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_images_out_evenly(world: int) -> None:
    images = TrainingImages.prepared(batch(8))
    shares = [
        fingerprints(torch.cat(list(images.shuffled(0, 2, 0, (rank, world)))))
        for rank in range(world)
    ]
    together = [value for share in shares for value in share]
    assert {len(share) for share in shares} == {8 // world}
    assert len(set(together)) == len(together)


def test_fewer_images_than_processes_go_to_each_of_them() -> None:
    images = TrainingImages.prepared(batch(1))
    assert all(len(list(images.shuffled(0, 2, 0, (rank, 3)))) == 1 for rank in range(3))


def test_random_transforms_look_different_in_every_epoch(samples: tuple[Sample, ...]) -> None:
    transforms = parse_transforms([{"ColorJitter": {"brightness": 0.5}}], seed=0)
    views = [replace(sample, view=RandomView(transforms, 0)) for sample in samples[:3]]
    images = TrainingImages(views, SPEC)
    first, again, other = epoch(images, 0), epoch(images, 0), epoch(images, 1)
    assert torch.equal(first, again)
    assert not set(fingerprints(first)) & set(fingerprints(other))


def test_tiles_are_shuffled_like_images(samples: tuple[Sample, ...]) -> None:
    tiled = first_sight((48, 48), tile_plan=TileSpec(height=48, width=48, overlap=0.25))
    images = TrainingImages(samples[:2], tiled)
    assert len(epoch(images)) > len(images)


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.png"):
        epoch(TrainingImages([Sample(path=path, kind="good")], SPEC))
