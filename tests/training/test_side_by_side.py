"""Images are scored side by side: in order, alone, and by threads that do not wait for another."""

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from tests.support.small_training import good_image, write
from training.data.loading import first_sight
from training.data.samples import GOOD, Sample
from training.errors import DataError
from training.evaluation import TorchPredictor, score_samples
from training.models.anomaly_model import Prediction

SPEC = first_sight((32, 32))
GENEROUS_S = 120


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Meeting(nn.Module):
    """A model that goes on only when a second image is in work, too; its score is the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.both = threading.Barrier(2)
        self.threads: list[int] = []

    def forward(self, images: Tensor) -> Prediction:
        self.both.wait(GENEROUS_S)
        self.threads.append(torch.get_num_threads())
        mean = images.float().mean((1, 2, 3))
        return Prediction(mean, mean[:, None, None].expand(-1, 2, 2))


def test_two_images_are_in_work_and_each_has_one_thread(
    two_threads: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("images")
    images = [good_image(number) // (1 + number % 3) for number in range(8)]
    samples = [
        Sample(path=write(folder / f"{number}.png", pixels), kind=GOOD)
        for number, pixels in enumerate(images)
    ]
    model = Meeting()
    predictor = TorchPredictor(model, SPEC, torch.device("cpu"))

    scored = score_samples(predictor, samples, SPEC, "score")

    assert [item.sample for item in scored] == samples
    means = [float(pixels.mean()) for pixels in images]
    assert [item.score for item in scored] == pytest.approx(means, abs=2.0)
    assert model.threads == [1] * 8
    assert torch.get_num_threads() == 2


def test_the_first_image_that_fails_is_named_and_threads_are_given_back(
    two_threads: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("images")
    paths = [write(folder / f"{number}.png", good_image(number)) for number in range(8)]
    for path in (paths[3], paths[5]):
        path.write_bytes(b"no image")
    model = Meeting()
    model.both = threading.Barrier(1)
    predictor = TorchPredictor(model, SPEC, torch.device("cpu"))
    with pytest.raises(DataError, match=r"3\.png"):
        score_samples(predictor, [Sample(path=path, kind=GOOD) for path in paths], SPEC, "score")
    assert torch.get_num_threads() == 2
