"""What tells an image from another, whatever its file is called."""

import hashlib

from training.data.cifar10 import read_record
from training.data.samples import Sample, content_hash


def image_hash(sample: Sample) -> bytes:
    """Return the SHA-256 of an image's content; a synthetic defect makes it another image.

    Raises:
        DataError: the file cannot be read.
    """
    if sample.index is not None:
        content = hashlib.sha256(read_record(sample.path, sample.index).tobytes()).digest()
    else:
        content = bytes.fromhex(content_hash(sample.path))
    return (
        content
        if sample.flaw is None
        else hashlib.sha256(content + str(sample.flaw).encode()).digest()
    )
