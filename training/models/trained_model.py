"""What trained models have in common: losses in their own file, the loop elsewhere."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from training.models.anomaly_model import AnomalyModel


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedSettings:
    """Hyperparameters of every trained model.

    Attributes:
        epochs: passes over the images at most.
        batch_size: images of one step; together, when several processes train.
        learning_rate: at the start.
        patience: epochs without a better validation loss after which training stops.
        precision: of the arithmetic: ``32-true``, ``bf16-mixed`` or ``16-mixed``.
    """

    epochs: int = 100
    batch_size: int = 16
    learning_rate: float = 1e-3
    patience: int = 10
    precision: str = "32-true"

    @property
    def learns_defects(self) -> bool:
        """Whether defective images are learned beside the good ones, by a ``MixedModel``."""
        return False


class Loss(NamedTuple):
    """One step to take.

    Attributes:
        value: scalar to minimise.
        optimizer: which of the model's ``optimizers()`` takes the step.
    """

    value: Tensor
    optimizer: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class MarkedImages:
    """Defective images, and where they are defective as far as somebody marked it.

    Attributes:
        images: ``(N, H, W, 3) uint8``, prepared.
        masks: ``(N, 1, h, w) float32`` of 0 and 1 on the model's grid; of an image that is known to
            be defective, but not where, all 0.
    """

    images: Tensor
    masks: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, rows: Sequence[int], device: torch.device) -> "MarkedImages":
        """Return some of the images on a device; one may be among them several times."""
        index = torch.tensor(rows)
        return MarkedImages(self.images[index].to(device), self.masks[index].to(device))


class TrainedModel(AnomalyModel):
    """A model that learns by gradients; everything but its backbone is trained.

    The loop calls ``begin`` once, ``losses`` for every batch, ``finish`` once at the end.
    """

    settings: TrainedSettings

    def begin(self, images: Iterable[Tensor]) -> None:
        """Measure once, before training, what it needs to know of the good images.

        Args:
            images: batches of ``(N, H, W, 3) uint8``; read only as far as they are needed.
        """

    @abstractmethod
    def optimizers(self) -> Sequence[Optimizer]:
        """Return the optimizers of all that is trained."""

    @abstractmethod
    def losses(self, images: Tensor, random: Generator) -> Iterator[Loss]:
        """Yield the steps of one batch.

        Each loss is stepped on before the next one is asked for. In evaluation mode the same
        losses, without steps, are what validation adds up.

        Args:
            images: ``(N, H, W, 3) uint8`` good images.
            random: on the CPU; every random choice is drawn from it.
        """

    def validation_loss(self, images: Tensor, random: Generator) -> Tensor:
        """Return what must fall on images that were not trained on, a scalar.

        Args:
            images: ``(N, H, W, 3) uint8`` good images.
            random: as in ``losses``.
        """
        return torch.stack([loss.value for loss in self.losses(images, random)]).mean()

    def rate_factor(self, progress: float) -> float:
        """Return the share of the learning rate that is left.

        Args:
            progress: share of all epochs that is done, from 0 to 1.
        """
        return 1.0

    def finish(self, images: Iterable[Tensor]) -> None:
        """Measure the constants of inference, which no image's own neighbours may change.

        Args:
            images: batches of good images that were not trained on.
        """

    def trainable(self) -> list[nn.Parameter]:
        """Return all parameters but the backbone's."""
        frozen = set() if self.extractor is None else {id(p) for p in self.extractor.parameters()}
        return [p for p in self.parameters() if id(p) not in frozen]

    def train(self, mode: bool = True) -> Self:
        """Switch the mode of all but the backbone, whose statistics stay as they are."""
        super().train(mode)
        if self.extractor is not None:
            self.extractor.eval()
        return self

    def fit_memory_bytes(self) -> int:
        """Return gradients, Adam's two moments and the best state so far."""
        return 4 * 4 * sum(parameter.numel() for parameter in self.trainable())


class MixedModel(TrainedModel):
    """A trained model that can learn marked defects beside good images.

    Its settings say whether it does (``learns_defects``); without it it is a ``TrainedModel``.
    """

    @abstractmethod
    def mixed_losses(
        self, images: Tensor, marked: MarkedImages, random: Generator
    ) -> Iterator[Loss]:
        """Yield the steps of one batch of good images and as many defective ones.

        Args:
            images: ``(N, H, W, 3) uint8`` good images.
            marked: defective ones, those that nobody marked among them.
            random: as in ``losses``.
        """

    def mixed_validation_loss(
        self, images: Tensor, marked: MarkedImages, random: Generator
    ) -> Tensor:
        """Return what must fall on good and defective images, a scalar."""
        return torch.stack([x.value for x in self.mixed_losses(images, marked, random)]).mean()
