"""Prepared images for training: in batches, in an order that a seed decides."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from edge.bundle.input_spec import InputSpec
from edge.imaging.frame import PixelFormat
from training.data.loading import prepared_batches
from training.data.samples import Sample

# Images are kept in memory up to here; more of them are read anew in every epoch.
_KEPT_BYTES = 2**30


class TrainingImages:
    """Images or tiles of samples, read once where they fit into memory.

    Attributes:
        formats: pixel formats that were met, complete after the first pass.
    """

    def __init__(
        self, samples: Sequence[Sample], spec: InputSpec, kept_bytes: int = _KEPT_BYTES
    ) -> None:
        """Name the images; nothing is read yet.

        Args:
            samples: good images.
            kept_bytes: bound of the memory that prepared images take.
        """
        self.formats: set[PixelFormat] = set()
        self._samples = samples
        self._spec = spec
        # Those with random transforms look different in every epoch.
        self._may_keep = not any(sample.view for sample in samples)
        self._kept_bytes = kept_bytes
        self._kept: Tensor | None = None

    @classmethod
    def prepared(cls, images: Tensor) -> "TrainingImages":
        """Take ``(N, H, W, 3) uint8`` images that are prepared and in memory already."""
        height, width = images.shape[1:3]
        made = cls((), InputSpec(height=height, width=width, pixel_formats=(PixelFormat.BGR8,)))
        made.formats = {PixelFormat.BGR8}
        made._kept = images
        return made

    def __len__(self) -> int:
        """Return the number of samples, or of prepared images."""
        return len(self._samples) or (0 if self._kept is None else len(self._kept))

    def in_order(self, batch_size: int) -> Iterator[Tensor]:
        """Yield ``(N, H, W, 3) uint8`` batches in the order of the samples."""
        if self._kept is not None:
            yield from self._kept.split(batch_size)
            return
        collected: list[Tensor] | None = [] if self._may_keep else None
        room = self._kept_bytes
        for batch in prepared_batches(self._samples, self._spec, batch_size, self.formats):
            room -= batch.numel()
            if room < 0:
                collected = None
            if collected is not None:
                collected.append(batch)
            yield batch
        if collected is not None:
            self._kept = torch.cat(collected)
        self._may_keep = collected is not None

    def shuffled(
        self, epoch: int, batch_size: int, seed: int, share: tuple[int, int] = (0, 1)
    ) -> Iterator[Tensor]:
        """Yield the batches of one epoch; the same arguments give the same batches.

        Args:
            share: number of this process and of all processes; each gets other images.

        Raises:
            DataError: an image cannot be used; names the file.
        """
        if self._kept is None and self._may_keep:
            for _ in self.in_order(batch_size):
                pass
        total = len(self._samples) if self._kept is None else len(self._kept)
        random = torch.Generator().manual_seed(stream_seed(seed, epoch))
        order = torch.randperm(total, generator=random)
        rank, world = share
        # Every process gets as many; what is left over has its turn in another epoch.
        own = order[rank::world][: max(1, total // world)] if total >= world else order
        if self._kept is not None:
            for few in own.split(batch_size):
                yield self._kept[few]
            return
        samples = [self._samples[int(index)] for index in own]
        views = [
            replace(s, view=replace(s.view, number=s.view.number * 100_003 + epoch))
            if s.view is not None
            else s
            for s in samples
        ]
        yield from prepared_batches(views, self._spec, batch_size, self.formats)


def stream_seed(*numbers: int) -> int:
    """Return a seed for a stream of random numbers of its own, whatever the numbers' size."""
    text = " ".join(map(str, numbers))
    return int.from_bytes(hashlib.sha256(text.encode(errors="surrogateescape")).digest()[:7])
