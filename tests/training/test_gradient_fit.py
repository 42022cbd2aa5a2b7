"""The training loop: it stops, resumes, diverges and shares out as promised."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Generator, Tensor, nn
from torch.optim import SGD, Optimizer

from tests.soak import times
from tests.support.broker import free_port
from tests.support.small_training import batch, predict_scores, spotted, unfitted
from training.errors import OutOfMemory, SettingError, TrainingDiverged
from training.gradient_fit import OnEpoch, fit_trained
from training.models.anomaly_model import Prediction
from training.models.trained_model import Loss, TrainedModel, TrainedSettings
from training.out_of_memory import naming_settings
from training.state_file import StateFile
from training.training_images import TrainingImages

# With dropout, with statistics of batches, and with two optimizers.
RESUMABLE = ("efficientad", "stfpm", "ganomaly")


class Killed(Exception):
    """Stands for the power going off."""


def train(model: TrainedModel, state_file: StateFile | None = None, count: int = 5) -> TrainedModel:
    fit_trained(
        model,
        TrainingImages.prepared(batch(count)),
        TrainingImages.prepared(batch(2, first=50)),
        torch.device("cpu"),
        seed=3,
        state_file=state_file,
    )
    return model


def trained(algorithm: str, **settings: Any) -> TrainedModel:
    model = unfitted(algorithm, **settings)
    assert isinstance(model, TrainedModel)
    return model


def kill_in_epoch(model: TrainedModel, number: int) -> None:
    """Let the power go off in the middle of an epoch."""
    original, epochs = model.train, 0

    def counted(mode: bool = True) -> TrainedModel:
        nonlocal epochs
        epochs += mode
        if epochs == number:
            raise Killed
        return original(mode)

    model.train = counted  # type: ignore[method-assign]


@pytest.mark.parametrize("algorithm", RESUMABLE)
def test_a_killed_fit_goes_on_to_the_very_same_weights(algorithm: str, tmp_path: Path) -> None:
    expected = train(trained(algorithm, epochs=3)).state_dict()
    state_file = StateFile(tmp_path / "part.training", "these images", between_s=0.0)
    killed = trained(algorithm, epochs=3)
    kill_in_epoch(killed, 2)
    with pytest.raises(Killed):
        train(killed, state_file)

    resumed = trained(algorithm, epochs=3)
    kill_in_epoch(resumed, 3)  # it has only two epochs to go
    found = train(resumed, state_file).state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_finished_fit_is_not_trained_again(tmp_path: Path) -> None:
    state_file = StateFile(tmp_path / "part.training", "these images", between_s=1e9)
    train(trained("stfpm", epochs=2), state_file)
    again = trained("stfpm", epochs=2)
    kill_in_epoch(again, 1)
    train(again, state_file)


@pytest.mark.parametrize("change", ["other data", "other settings", "other weights", "damaged"])
def test_a_state_of_another_fit_starts_anew_and_says_so(
    change: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state_file = StateFile(tmp_path / "part.training", "these images", between_s=0.0)
    train(trained("stfpm", epochs=1), state_file)
    rate = 0.3 if change == "other settings" else 0.4
    if change == "other data":
        state_file = replace(state_file, identity="other images")
    if change == "damaged":
        state_file.path.write_bytes(state_file.path.read_bytes()[:1000])
    first, second = (trained("stfpm", epochs=1, learning_rate=rate) for _ in range(2))
    if change == "other weights":
        for model in (first, second):
            assert model.extractor is not None
            next(model.extractor.parameters()).data.mul_(1.5)
    expected, found = train(first).state_dict(), train(second, state_file).state_dict()

    assert "training starts again" in caplog.text
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainSettings(TrainedSettings):
    epochs: int = 10
    batch_size: int = 2
    learning_rate: float = 1.0


class Plain(TrainedModel):
    """One number that follows the validation losses it is given, one for each epoch."""

    extractor = None
    needs_backbone = False

    def __init__(self, validation: Sequence[float], settings: PlainSettings) -> None:
        super().__init__()
        self.settings = settings
        self.grid = (1, 1)
        self.validation = list(validation)
        self.epoch = nn.Parameter(torch.zeros(()))
        self.seen: list[Tensor] = []

    def optimizers(self) -> Sequence[Optimizer]:
        return [SGD([self.epoch], self.settings.learning_rate)]

    def losses(self, images: Tensor, random: Generator) -> Iterator[Loss]:
        self.seen.append(images)
        yield Loss(-self.epoch)

    def validation_loss(self, images: Tensor, random: Generator) -> Tensor:
        return torch.tensor(self.validation.pop(0))

    def forward(self, images: Tensor) -> Prediction:
        score = self.epoch.expand(len(images))
        return Prediction(score, score[:, None, None])


def train_plain(model: Plain, count: int = 2, on_epoch: OnEpoch | None = None) -> None:
    images = TrainingImages.prepared(batch(count))
    one = TrainingImages.prepared(batch(1, first=50))
    fit_trained(model, images, one, torch.device("cpu"), seed=0, on_epoch=on_epoch)


def test_training_stops_when_validation_does_not_improve_and_keeps_the_best_epoch() -> None:
    model = Plain([3.0, 1.0, 2.0, 2.0, 2.0, 0.0], PlainSettings(patience=3))
    train_plain(model)
    assert model.epoch.item() == 2.0  # one step in each epoch; the second was the best
    assert model.validation == [0.0]


def test_every_epoch_is_reported_with_both_losses() -> None:
    reported: list[tuple[int, Mapping[str, float]]] = []
    train_plain(
        Plain([3.0, 1.0], PlainSettings(epochs=2)), on_epoch=lambda *news: reported.append(news)
    )
    assert reported == [
        (1, {"loss/train": 0.0, "loss/validation": 3.0}),
        (2, {"loss/train": -1.0, "loss/validation": 1.0}),
    ]


def test_every_image_is_seen_once_in_an_epoch_and_in_another_order_in_the_next() -> None:
    model = Plain([2.0, 1.0], PlainSettings(epochs=2, batch_size=4))
    train_plain(model, count=8)
    epochs = [torch.cat(model.seen[:2]), torch.cat(model.seen[2:])]
    brightness = [[int(p.sum()) for p in images.long()] for images in epochs]
    assert (
        sorted(brightness[0])
        == sorted(brightness[1])
        == sorted(int(p.sum()) for p in batch(8).long())
    )
    assert brightness[0] != brightness[1]


class Diverging(Plain):
    def losses(self, images: Tensor, random: Generator) -> Iterator[Loss]:
        yield Loss(self.epoch * float("nan"))


class Greedy(Plain):
    def losses(self, images: Tensor, random: Generator) -> Iterator[Loss]:
        yield Loss(torch.zeros(2**50) @ self.epoch)


def test_a_loss_that_is_not_finite_ends_the_fit_and_names_the_learning_rate() -> None:
    with pytest.raises(TrainingDiverged, match=r"loss is nan in epoch 1.*learning_rate=0\.1 \(now"):
        train_plain(Diverging([], PlainSettings()))


def test_running_out_of_memory_names_the_settings_to_lower() -> None:
    with pytest.raises(OutOfMemory, match=r"batch_size=1 \(now 2\) or --image-size"):
        train_plain(Greedy([], PlainSettings()))


def test_other_errors_keep_their_names() -> None:
    with pytest.raises(RuntimeError, match="shapes"), naming_settings("nothing"):
        raise RuntimeError("shapes do not fit")


def test_an_unknown_precision_is_refused_with_those_that_exist() -> None:
    with pytest.raises(SettingError, match=r"'half'. There are: 32-true, bf16-mixed, 16-mixed"):
        train(trained("stfpm", precision="half"))


def test_a_rate_that_no_optimizer_takes_is_refused() -> None:
    with pytest.raises(SettingError, match=r"Invalid learning rate: -1\.0\. Correct it with --set"):
        train(trained("stfpm", learning_rate=-1.0))


@pytest.mark.parametrize("algorithm", ["stfpm", "supersimplenet"][: times(1, 2)])
def test_mixed_precision_learns_about_the_same(algorithm: str) -> None:
    exact = train(trained(algorithm, epochs=3), count=7)
    mixed = train(trained(algorithm, epochs=3, precision="bf16-mixed"), count=7)
    images = torch.cat([batch(2), spotted(2)])
    precise, rounded = predict_scores(exact, images), predict_scores(mixed, images)
    assert not torch.equal(precise, rounded)
    assert torch.allclose(precise, rounded, rtol=0.3, atol=0.1)


SHARED_TRAINING = [sys.executable, "-m", "tests.support.shared_training"]
ROOT = Path(__file__).resolve().parents[2]


def assert_one_model_came_of_it(folder: Path) -> None:
    first, second = (load_file(folder / f"{name}.safetensors") for name in ("first", "second"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    untrained = unfitted("supersimplenet").state_dict()
    moved = [name for name in first if not torch.equal(first[name], untrained[name])]
    assert any(name.startswith("adaptor") for name in moved)
    assert not any(name.startswith("extractor") for name in moved)


def test_two_processes_train_one_model(tmp_path: Path) -> None:
    """With what torchrun tells its processes."""
    variables = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none"}
    variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [
        subprocess.Popen(
            [*SHARED_TRAINING, str(tmp_path)],
            cwd=ROOT,
            env={**os.environ, **variables, "RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in ("0", "1")
    ]
    assert [process.wait(240) for process in processes] == [0, 0]
    assert_one_model_came_of_it(tmp_path)


@pytest.mark.skipif(not times(0, 1), reason="make soak runs it: three starts of torch")
def test_torchrun_trains_one_model_with_two_processes(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, "-m", "tests.support.shared_training", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert_one_model_came_of_it(tmp_path)
