"""What tells an image from another, whatever its file is called and however it is packed.

An image is known by its decoded pixels: a copy under another name, or saved anew without loss, is
the same image. One that was saved anew as JPEG is another.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from edge.errors import ImageUnreadable
from edge.imaging.frame import Pixels
from edge.imaging.image_files import read_image
from training.data.cifar10 import read_record
from training.data.samples import Sample

# Of hashes in memory, about 200 bytes each; a fit asks for those of its images several times.
_MOST_KNOWN = 500_000
_MOST_WORKERS = 8


def image_hash(sample: Sample) -> bytes:
    """Return the SHA-256 of an image's content; a synthetic defect makes it another image."""
    content = content_hash(sample)
    if sample.flaw is None:
        return content
    return hashlib.sha256(content + str(sample.flaw).encode()).digest()


def content_hash(sample: Sample) -> bytes:
    """Return the SHA-256 of an image as it is stored, without synthetic defect or view.

    Of its pixels: opaque alpha does not count, nor do colour channels that are all alike. What
    cannot be decoded is known by its bytes, and what cannot even be opened by its path: whoever
    reads it for its pixels says what is wrong.
    """
    if sample.index is not None:
        return _of_pixels(read_record(sample.path, sample.index))
    try:
        status = sample.path.stat()
    except OSError:
        return _of_path(sample.path)
    return _of_file(sample.path, status.st_size, status.st_mtime_ns, status.st_ino)


def content_hashes(samples: Iterable[Sample]) -> dict[Sample, bytes]:
    """Return the content hash of each sample; several are read at one time."""
    distinct = list(dict.fromkeys(samples))
    workers = min(os.cpu_count() or 1, _MOST_WORKERS)
    with ThreadPoolExecutor(workers) as pool:
        hashes = pool.map(content_hash, distinct, chunksize=4)
        bar = tqdm(hashes, total=len(distinct), desc="hash", unit="pic", delay=1.0)
        return dict(zip(distinct, bar, strict=True))


def fingerprint(samples: Iterable[Sample]) -> str:
    """Return a SHA-256 over kind, content and mask of the images, whatever their names and order.

    Views are the same images again; a synthetic defect is another one.
    """
    lines = sorted(set(_lines(content_hashes(samples))))
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def _lines(contents: dict[Sample, bytes]) -> Iterator[str]:
    for sample, content in contents.items():
        mask = "" if sample.mask is None else f" {_mask_hash(sample.mask)} {sample.mask_index}"
        yield f"{sample.kind} {content.hex()}{mask} {sample.flaw or ''}"


@lru_cache(_MOST_KNOWN)
def _of_file(path: Path, size: int, modified_ns: int, inode: int) -> bytes:
    """Hash one version of a file; a changed one has other arguments."""
    try:
        return _of_pixels(read_image(path))
    except ImageUnreadable:
        pass
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return _of_path(path)


def _of_pixels(pixels: Pixels) -> bytes:
    if pixels.ndim == 3 and pixels.shape[2] == 4 and pixels[:, :, 3].min() == _most(pixels):
        pixels = pixels[:, :, :3]
    if pixels.ndim == 3 and pixels.shape[2] == 3 and _is_grey(pixels):
        pixels = pixels[:, :, 0]
    digest = hashlib.sha256(f"{pixels.shape} {pixels.dtype}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def _most(pixels: Pixels) -> int:
    return int(np.iinfo(pixels.dtype).max)


def _is_grey(pixels: Pixels) -> bool:
    return all(np.array_equal(pixels[:, :, 0], pixels[:, :, plane]) for plane in (1, 2))


def _of_path(path: Path) -> bytes:
    return hashlib.sha256(os.fsencode(path)).digest()


def _mask_hash(path: Path) -> str:
    try:
        status = path.stat()
        return _of_mask(path, status.st_size, status.st_mtime_ns, status.st_ino)
    except OSError:
        return _of_path(path).hex()


@lru_cache(_MOST_KNOWN)
def _of_mask(path: Path, size: int, modified_ns: int, inode: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
