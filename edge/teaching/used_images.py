"""What a manifest says of the images that went into a model."""

import base64
import hashlib
from collections.abc import Collection, Iterable

from edge.bundle.training_record import UsedImages

# Of a content hash; what an image is known by. Among a million images two are taken for one with a
# probability below one in 10²⁶.
HASH_BYTES = 16

# In a manifest: 110 kB at most for each role.
_MAX_LISTED = 10_000
_LISTED_BYTES = 8


def used_images(hashes: Collection[bytes]) -> UsedImages:
    """Return what a manifest says of images: 11 bytes each, and of very many only a digest."""
    ordered = sorted(hashes)
    listed = ordered if len(ordered) <= _MAX_LISTED else []
    return UsedImages(
        count=len(ordered),
        sha256=hashlib.sha256(b"".join(ordered)).hexdigest(),
        hashes=base64.b64encode(b"".join(h[:_LISTED_BYTES] for h in listed)).decode(),
    )


def image_line(kind: str, content: bytes, mask: str = "", flaw: str = "") -> str:
    """Return what a fingerprint says of one image: its kind, content, mask and synthetic defect."""
    return f"{kind} {content.hex()}{mask} {flaw}"


def make_fingerprint(lines: Iterable[str]) -> str:
    """Return a SHA-256 over what is said of images, whatever their order."""
    joined = "\n".join(sorted(set(lines)))
    return hashlib.sha256(joined.encode(errors="surrogateescape")).hexdigest()
