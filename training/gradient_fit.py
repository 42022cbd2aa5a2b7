"""Fit of trained models: one loop on Lightning Fabric for one processor, one GPU or many machines.

Started by itself it runs on one device; started by ``torchrun`` it uses all of its processes.
Everything random follows from the seed and the number of the epoch, so that a fit that was killed
goes on from the end of an epoch to the very same weights.
"""

import io
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from edge.atomic_files import write_whole
from edge.wording import counted
from training.errors import SettingError, TrainingDiverged
from training.load_fault import load_fault
from training.models.trained_model import Loss, MarkedImages, MixedModel, TrainedModel
from training.out_of_memory import naming_settings
from training.state_file import StateFile
from training.tensor_hash import tensors_sha256
from training.training_images import TrainingImages, stream_seed

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")

# Random numbers of validation come from here: every epoch is judged by the same draw.
_VALIDATION_SEED = 7

# Which defective images stand beside which good ones is drawn from a stream of its own.
_MARKED_STREAM = 1

# What a state file holds beside its identity.
_STATE = ("epoch", "best_loss", "since_best", "best", "model", "optimizers")

OnEpoch = Callable[[int, Mapping[str, float]], None]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _State:
    """What an epoch begins with."""

    epoch: int = 0
    best_loss: float = float("inf")
    since_best: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)


def fit_trained(
    model: TrainedModel,
    images: TrainingImages,
    held_out: TrainingImages,
    device: torch.device,
    *,
    seed: int,
    marked: MarkedImages | None = None,
    marked_held_out: MarkedImages | None = None,
    state_file: StateFile | None = None,
    on_epoch: OnEpoch | None = None,
) -> None:
    """Train a model and keep the weights of the epoch with the lowest validation loss.

    Args:
        images: good ones to learn from.
        held_out: good images that tell when to stop; never test images.
        marked: defective images that a ``MixedModel`` learns: as many in each step as good ones.
        marked_held_out: those that tell when to stop, too; None where the learned ones have to.
        state_file: where to keep what a killed fit can go on from.
        on_epoch: called with the number of each finished epoch and its figures.

    Raises:
        DataError: an image cannot be used; names the file.
        TrainingDiverged: a loss is not finite.
        OutOfMemory: names the settings to lower.
        SettingError: no such precision, or a rate that no optimizer takes.
    """
    settings = model.settings
    fabric = _launch(device, settings.precision)
    log.info(
        "training %s on %s, %d of them defective, %d more decide when to stop; needs about "
        "%d MiB beside the network and its activations",
        type(model).__name__,
        counted(len(images) + len(marked or ()), "image"),
        len(marked or ()),
        len(held_out) + len(marked_held_out or ()),
        model.fit_memory_bytes() / 2**20,
    )
    model.to(fabric.device)
    for parameter in model.trainable():
        parameter.requires_grad_(True)
    with naming_settings(
        f"--set batch_size={max(1, settings.batch_size // 2)} (now {settings.batch_size}) or "
        "--image-size; on a GPU --set precision=bf16-mixed also helps"
    ):
        _Training(
            fabric=fabric,
            model=model,
            images=images,
            validation=held_out,
            seed=seed,
            marked=marked,
            marked_held_out=marked_held_out,
            state_file=state_file,
            on_epoch=on_epoch,
        ).run()
    model.eval().requires_grad_(False)


class _Training:
    """One training from its first or latest epoch to the finished model."""

    def __init__(
        self,
        *,
        fabric: "Fabric",
        model: TrainedModel,
        images: TrainingImages,
        validation: TrainingImages,
        seed: int,
        marked: MarkedImages | None,
        marked_held_out: MarkedImages | None,
        state_file: StateFile | None,
        on_epoch: OnEpoch | None,
    ) -> None:
        self.fabric, self.model, self.seed = fabric, model, seed
        self.images, self.validation = images, validation
        self.marked, self.marked_held_out = marked, marked_held_out or marked
        self.settings = model.settings
        # Batches are shared out, so that more processes mean less time and not another result.
        # Half of one is defective, where such images are learned.
        shares = fabric.world_size * (1 if marked is None else 2)
        self.batch_size = max(1, self.settings.batch_size // shares)
        try:
            self.optimizers = list(model.optimizers())
        except ValueError as error:
            raise SettingError(f"{error}. Correct it with --set.") from error
        self.rates = [[g["lr"] for g in o.param_groups] for o in self.optimizers]
        self.wrapped: list[Any] = [fabric.setup_optimizers(o) for o in self.optimizers]
        self.state_file, self.on_epoch = state_file, on_epoch
        # Backbone, weights and what was drawn at the start: all that the training begins with.
        self.begun_with = _digest(model) if state_file is not None else ""
        self.state = _State()
        self.written = time.monotonic()

    def run(self) -> None:
        """Train to the end, then measure the constants of inference."""
        resumed = self._resume()
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            if not resumed:
                self.model.eval().begin(self._on_device(self.images))
        done = self.state.epoch
        with tqdm(total=self.settings.epochs, initial=done, desc="train", unit="epoch") as bar:
            while not self._over():
                loss = self._epoch(self.state.epoch)
                held_out = self._judge()
                self._keep()
                if self.on_epoch is not None:
                    figures = {"loss/train": loss, "loss/validation": held_out}
                    self.on_epoch(self.state.epoch, figures)
                bar.set_postfix(loss=f"{loss:.4g}", validation=f"{held_out:.4g}", refresh=False)
                bar.update()
        if self.state.best:
            self.model.load_state_dict(self.state.best)
        with torch.no_grad():
            self.model.eval().finish(self._on_device(self.validation))

    def _over(self) -> bool:
        stopped = self.state.since_best >= self.settings.patience
        return stopped or self.state.epoch >= self.settings.epochs

    def _epoch(self, epoch: int) -> float:
        """Take one pass over the images; returns the mean loss."""
        fabric, model = self.fabric, self.model
        self._set_rates(epoch)
        model.train()
        total, steps = 0.0, 0
        with torch.random.fork_rng(devices=[]):
            # Of a process of its own: dropout and noise must not repeat what the others draw.
            own_seed = stream_seed(self.seed, epoch, fabric.global_rank)
            torch.manual_seed(own_seed)
            random = torch.Generator().manual_seed(own_seed)
            share = (fabric.global_rank, fabric.world_size)
            batches = self.images.shuffled(epoch, self.batch_size, self.seed, share)
            marked_seed = stream_seed(self.seed, epoch, fabric.global_rank, _MARKED_STREAM)
            drawn = _endless(len(self.marked or ()), marked_seed)
            for batch in self._in_step(batches):
                losses = self._losses(batch.to(fabric.device), drawn, random)
                while True:
                    with fabric.autocast():
                        loss = next(losses, None)
                    if loss is None:
                        break
                    total += self._step(loss.value, loss.optimizer, epoch)
                    steps += 1
        self._average_statistics()
        return total / max(steps, 1)

    def _losses(
        self, images: Tensor, drawn: Iterator[int], random: torch.Generator
    ) -> Iterator[Loss]:
        """Return the steps of a batch, with as many defective images where such are learned."""
        if self.marked is None:
            return self.model.losses(images, random)
        assert isinstance(self.model, MixedModel)
        marked = self.marked.rows([*islice(drawn, len(images))], images.device)
        return self.model.mixed_losses(images, marked, random)

    def _step(self, value: Tensor, optimizer: int, epoch: int) -> float:
        loss = float(value.detach())
        if not torch.isfinite(value.detach()):
            raise TrainingDiverged(
                f"the loss is {loss} in epoch {epoch + 1}: training diverged. Lower "
                f"--set learning_rate={self.settings.learning_rate / 10:g} "
                f"(now {self.settings.learning_rate:g})"
                + (
                    f", or take --set precision=32-true (now {self.settings.precision})."
                    if self.settings.precision != "32-true"
                    else ", and look for broken images."
                )
            )
        for each in self.optimizers:
            each.zero_grad(set_to_none=True)
        self.fabric.backward(value)
        average_gradients(self.fabric, self.optimizers[optimizer])
        self.wrapped[optimizer].step()
        return loss

    def _judge(self) -> float:
        """Compare with the best epoch by the validation loss, alike in every process."""
        model, state = self.model.eval(), self.state
        total, count = 0.0, 0
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(_VALIDATION_SEED)
            random = torch.Generator().manual_seed(_VALIDATION_SEED)
            drawn = cycle(range(len(self.marked_held_out or ())))
            for batch in self._on_device(self.validation):
                total += float(self._validation_loss(batch, drawn, random)) * len(batch)
                count += len(batch)
        held_out = float(self.fabric.broadcast(total / max(count, 1)))
        state.epoch += 1
        state.since_best += 1
        if held_out < state.best_loss:
            state.best_loss, state.since_best = held_out, 0
            state.best = {name: t.detach().clone() for name, t in model.state_dict().items()}
        return held_out

    def _validation_loss(
        self, images: Tensor, drawn: Iterator[int], random: torch.Generator
    ) -> Tensor:
        if self.marked_held_out is None:
            return self.model.validation_loss(images, random)
        assert isinstance(self.model, MixedModel)
        marked = self.marked_held_out.rows([*islice(drawn, len(images))], images.device)
        return self.model.mixed_validation_loss(images, marked, random)

    def _set_rates(self, epoch: int) -> None:
        factor = self.model.rate_factor(epoch / self.settings.epochs)
        for optimizer, rates in zip(self.optimizers, self.rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor

    def _on_device(self, images: TrainingImages) -> Iterator[Tensor]:
        for batch in images.in_order(self.batch_size):
            yield batch.to(self.fabric.device)

    def _in_step(self, batches: Iterator[Tensor]) -> Iterator[Tensor]:
        """End with the process that ends first: the others would wait for its gradients."""
        while True:
            batch = next(batches, None)
            if self.fabric.world_size > 1:
                going = torch.tensor(float(batch is not None), device=self.fabric.device)
                if float(_reduced(self.fabric, going, "sum")) < self.fabric.world_size:
                    return
            if batch is None:
                return
            yield batch

    def _average_statistics(self) -> None:
        """Give batch norm the same running statistics in every process."""
        if self.fabric.world_size > 1:
            for buffer in self.model.buffers():
                if buffer.is_floating_point() and buffer.numel():
                    buffer.copy_(_reduced(self.fabric, buffer, "mean"))

    def _identity(self) -> str:
        assert self.state_file is not None
        return (
            f"{type(self.model).__name__} {self.settings} begun with {self.begun_with} "
            f"seed {self.seed} on {self.fabric.world_size} × {self.fabric.device.type} with torch "
            f"{torch.__version__} {self.state_file.identity}"
        )

    def _keep(self) -> None:
        """Write the state, so that a killed fit can go on from here."""
        if self.state_file is None or not self.fabric.is_global_zero:
            return
        if time.monotonic() - self.written < self.state_file.between_s and not self._over():
            return
        state = {
            "identity": self._identity(),
            "epoch": self.state.epoch,
            "best_loss": self.state.best_loss,
            "since_best": self.state.since_best,
            "best": self.state.best,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        content = io.BytesIO()
        torch.save(state, content)
        write_whole(self.state_file.path, content.getvalue())
        self.written = time.monotonic()

    def _resume(self) -> bool:
        """Take up the state of a killed fit; False where there is none that belongs to this one."""
        found = self._read_state() if self.fabric.is_global_zero else None
        found = self.fabric.broadcast(found)
        if found is None:
            return False
        self.model.load_state_dict(found["model"])
        for optimizer, state in zip(self.optimizers, found["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.state = _State(
            found["epoch"], found["best_loss"], found["since_best"], dict(found["best"])
        )
        for _ in self._on_device(self.images):
            pass  # names the formats, and what cannot be read any more
        log.info("continuing after epoch %d of %d", self.state.epoch, self.settings.epochs)
        return True

    def _read_state(self) -> dict[str, Any] | None:
        if self.state_file is None or not self.state_file.path.is_file():
            return None
        path = self.state_file.path
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
            belongs = found["identity"] == self._identity()
            state = {name: found[name] for name in _STATE}
        except Exception as error:  # a damaged file fails in any way it likes
            log.warning(
                "%s: damaged (%s), training starts again from the beginning",
                path,
                load_fault(error),
            )
            return None
        if not belongs:
            log.warning(
                "%s: belongs to a fit of other data, weights or settings, or of another "
                "version; training starts again from the beginning",
                path,
            )
            return None
        return state


def _endless(count: int, seed: int) -> Iterator[int]:
    """Yield the numbers below a count again and again, each time in another order."""
    random = torch.Generator().manual_seed(seed)
    while count:
        yield from torch.randperm(count, generator=random).tolist()


def _digest(model: TrainedModel) -> str:
    return tensors_sha256({name: t.detach().cpu() for name, t in model.state_dict().items()})


def average_gradients(fabric: "Fabric", optimizer: torch.optim.Optimizer) -> None:
    """Give every process the mean gradient of all, in one message.

    By hand and not by a wrapper around the model: a model may then compute several losses in one
    step, and each of them as it likes.
    """
    if fabric.world_size == 1:
        return
    gradients = [
        parameter.grad
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter.grad is not None
    ]
    joined = _reduced(fabric, torch.cat([gradient.flatten() for gradient in gradients]), "mean")
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, mean in zip(gradients, joined.split(sizes), strict=True):
        gradient.copy_(mean.view_as(gradient))


def is_first_process() -> bool:
    """Tell whether this process, of those that ``torchrun`` started, is the one that writes."""
    return os.environ.get("RANK", "0") == "0"


def _reduced(fabric: "Fabric", tensor: Tensor, operation: str) -> Tensor:
    reduced = fabric.all_reduce(tensor.clone(), reduce_op=operation)
    assert isinstance(reduced, Tensor)
    return reduced


def _launch(device: torch.device, precision: str) -> "Fabric":
    """Start Fabric on one device, or on those that ``torchrun`` gave to its processes."""
    if precision not in _PRECISIONS:
        raise SettingError(f"precision: found {precision!r}. There are: {', '.join(_PRECISIONS)}.")
    # lightning-fabric takes a second to load, and statistical models do without.
    from lightning_fabric import Fabric

    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    fabric = Fabric(
        accelerator=device.type,
        devices=local,
        num_nodes=max(1, world // local),
        strategy="ddp" if world > 1 else "auto",
        precision=precision,  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric
