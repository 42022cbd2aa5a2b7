"""CIFAR-10 one-class (Krizhevsky, 2009): one category is good, the nine others are defects.

data_batch_1.bin … data_batch_5.bin, test_batch.bin, batches.meta.txt    the binary version
data_batch_1 … data_batch_5, test_batch                                  the Python version

The Python version is a pickle, which can run any program when it is loaded the usual way. Here only
the list of bytes and numbers that CIFAR-10 consists of is let through.
"""

import io
import pickle
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from training.data.layout_files import demanded_file, unknown_category
from training.data.samples import GOOD, Sample, Splits
from training.data.shares import VALIDATION_SHARE
from training.errors import DataError

CATEGORIES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE
_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_TEST = ("test_batch",)


class CIFAR10:
    """One category against the others."""

    held_out_share = VALIDATION_SHARE
    stray_masks: tuple[Path, ...] = ()
    places: tuple[Path, ...] = ()  # its files are all named
    other_files: tuple[Path, ...] = ()

    def __init__(self, root: Path, category: str | None) -> None:
        """Read the labels.

        Raises:
            DataError: a batch is missing or damaged, or no category is chosen.
        """
        if category not in CATEGORIES:
            raise DataError(unknown_category(root, category, CATEGORIES))
        self.name = f"cifar10-{category}"
        suffix = ".bin" if (root / f"{_TRAIN[0]}.bin").is_file() else ""
        paths = {
            name: demanded_file(root / f"{name}{suffix}", "images of CIFAR-10")
            for name in (*_TRAIN, *_TEST)
        }
        self.train = [
            sample
            for name in _TRAIN
            for sample in _samples(paths[name], category)
            if not sample.is_defective
        ]
        self.test = [sample for name in _TEST for sample in _samples(paths[name], category)]

    @staticmethod
    def matches(root: Path) -> bool:
        return any((root / f"{_TRAIN[0]}{suffix}").is_file() for suffix in ("", ".bin"))

    def split(self, seed: int) -> Splits:
        return Splits(name=self.name, fit=tuple(self.train), validation=(), test=tuple(self.test))

    def new_images(self) -> tuple[Sample, ...]:
        return tuple(self.train)


def read_record(path: Path, index: int) -> NDArray[np.uint8]:
    """Return one image of a batch, ``(32, 32, 3) uint8`` BGR.

    Raises:
        DataError: the batch is damaged.
    """
    planes = _batch(path)[1][index].reshape(3, _SIDE, _SIDE)
    return np.ascontiguousarray(planes.transpose(1, 2, 0)[:, :, ::-1])


def _samples(path: Path, category: str) -> list[Sample]:
    labels, _ = _batch(path)
    return [
        Sample(
            path=path,
            kind=GOOD if CATEGORIES[label] == category else CATEGORIES[label],
            name=f"{path.stem}/{index}",
            index=index,
        )
        for index, label in enumerate(labels)
    ]


@lru_cache(maxsize=len(_TRAIN) + len(_TEST))  # all of CIFAR-10 is 184 MB
def _batch(path: Path) -> tuple[list[int], NDArray[np.uint8]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    labels, images = _binary(content) if path.suffix.lower() == ".bin" else _pickled(path, content)
    if (
        len(labels) == 0
        or images.shape != (len(labels), _PIXELS)
        or not set(labels) <= set(range(len(CATEGORIES)))
    ):
        raise DataError(f"{path}: damaged, not a batch of CIFAR-10. Unpack the data set again.")
    return labels, images


def _binary(content: bytes) -> tuple[list[int], NDArray[np.uint8]]:
    rows, left = divmod(len(content), 1 + _PIXELS)
    if left:
        return [], np.zeros((0, _PIXELS), np.uint8)
    records = np.frombuffer(content, np.uint8).reshape(rows, 1 + _PIXELS)
    return [int(label) for label in records[:, 0]], records[:, 1:]


def _pickled(path: Path, content: bytes) -> tuple[list[int], NDArray[np.uint8]]:
    try:
        batch = _Reader(io.BytesIO(content)).load()
        labels, images = batch[b"labels"], batch[b"data"]
        return [int(label) for label in labels], images.values()
    except DataError:
        raise
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to ask for
        raise DataError(
            f"{path}: damaged, not a batch of CIFAR-10 ({type(error).__name__}). Unpack the data "
            "set again."
        ) from error


class _Array:
    """What stands for a numpy array while a pickle is read: its state is kept, nothing is run."""

    def __init__(self, *_: Any) -> None:
        self._shape: tuple[int, ...] = ()
        self._bytes = b""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self._shape, dtype, _, self._bytes = state
        if not isinstance(dtype, _Type) or dtype.name not in ("u1", b"u1"):
            raise ValueError("not an array of bytes")

    def values(self) -> NDArray[np.uint8]:
        return np.frombuffer(self._bytes, np.uint8).reshape(self._shape)


class _Type:
    def __init__(self, name: str | bytes, *_: Any) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        """Byte order and alignment, which one byte does not have."""


def _array(*arguments: Any) -> _Array:
    return _Array(*arguments)


def _encoded(text: str, encoding: str) -> bytes:
    return text.encode("latin-1")


class _Reader(pickle.Unpickler):
    """Knows the names in a pickled array of bytes, and none of them runs anything."""

    _KNOWN = {  # noqa: RUF012 - read only
        ("numpy.core.multiarray", "_reconstruct"): _array,
        ("numpy._core.multiarray", "_reconstruct"): _array,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Type,
        ("_codecs", "encode"): _encoded,  # how Python 3 writes bytes into an old pickle
    }

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="bytes")

    def find_class(self, module: str, name: str) -> Any:
        return self._KNOWN.get((module, name)) or _refused(module, name)


def _refused(module: str, name: str) -> NoReturn:
    raise DataError(
        f"this pickle asks for {module}.{name}, which CIFAR-10 has no use for, and was not loaded. "
        "Download the binary version of CIFAR-10."
    )
