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

from tqdm import tqdm

from edge.errors import ImageUnreadable
from edge.imaging.content_hash import pixels_hash
from edge.imaging.image_files import read_image
from edge.teaching.used_images import image_line, make_fingerprint
from training.data.cifar10 import read_record
from training.data.samples import Sample

# Of hashes in memory, about 200 bytes each; a fit asks for those of its images several times.
_MAX_KNOWN = 500_000
_MAX_WORKERS = 8


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
        return pixels_hash(read_record(sample.path, sample.index))
    try:
        status = sample.path.stat()
    except OSError:
        return _of_path(sample.path)
    return _of_file(sample.path, status.st_size, status.st_mtime_ns, status.st_ino)


def content_hashes(samples: Iterable[Sample]) -> dict[Sample, bytes]:
    """Return the content hash of each sample; several are read at one time."""
    distinct = list(dict.fromkeys(samples))
    workers = min(os.cpu_count() or 1, _MAX_WORKERS)
    with ThreadPoolExecutor(workers) as pool:
        hashes = pool.map(content_hash, distinct, chunksize=4)
        bar = tqdm(hashes, total=len(distinct), desc="hash", unit="image", delay=1.0)
        return dict(zip(distinct, bar, strict=True))


def fingerprint(samples: Iterable[Sample]) -> str:
    """Return a SHA-256 over kind, content and mask of the images, whatever their names and order.

    Views are the same images again; a synthetic defect is another one.
    """
    return make_fingerprint(_lines(content_hashes(samples)))


def _lines(contents: dict[Sample, bytes]) -> Iterator[str]:
    for sample, content in contents.items():
        mask = "" if sample.mask is None else f" {_mask_hash(sample.mask)} {sample.mask_index}"
        yield image_line(sample.kind, content, mask, str(sample.flaw or ""))


@lru_cache(_MAX_KNOWN)
def _of_file(path: Path, size: int, modified_ns: int, inode: int) -> bytes:
    """Hash one version of a file; a changed one has other arguments."""
    try:
        return pixels_hash(read_image(path))
    except ImageUnreadable:
        pass
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return _of_path(path)


def _of_path(path: Path) -> bytes:
    return hashlib.sha256(os.fsencode(path)).digest()


def _mask_hash(path: Path) -> str:
    try:
        status = path.stat()
        return _of_mask(path, status.st_size, status.st_mtime_ns, status.st_ino)
    except OSError:
        return _of_path(path).hex()


@lru_cache(_MAX_KNOWN)
def _of_mask(path: Path, size: int, modified_ns: int, inode: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
