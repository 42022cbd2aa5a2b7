"""Good images that somebody looked at and confirmed: no search for defects leaves them out."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from training.data.content import image_hash
from training.data.disjoint_splits import named
from training.data.samples import Sample
from training.errors import SettingError

LIST_SUFFIX = ".txt"

log = logging.getLogger(__name__)


def confirmed_images(files: Sequence[Path]) -> dict[bytes, Path]:
    """Return the images that were confirmed, by their content.

    Args:
        files: images, and lists of images (``.txt``, one in a line, beside the list).

    Raises:
        SettingError: one is not there; names it and the list.
    """
    found: dict[bytes, Path] = {}
    for path, origin in _listed(files):
        if not path.is_file():
            raise SettingError(f"--confirm-good {path}: no such image{origin}.")
        found[image_hash(Sample(path=path, kind="good"))] = path
    return found


def check_confirmed(confirmed: Mapping[bytes, Path], good: Iterable[Sample]) -> None:
    """Say which images are confirmed.

    Args:
        good: the images of the data set that are sorted as good.

    Raises:
        SettingError: one is not among them, under whatever name.
    """
    if not confirmed:
        return
    known = {image_hash(sample) for sample in good}
    strange = [path for content, path in confirmed.items() if content not in known]
    if strange:
        raise SettingError(
            f"--confirm-good {named(strange)}: not among the good images here. Name images that "
            "are sorted as good, and none that are kept apart for tests."
        )
    log.info("confirmed as good (%d): %s", len(confirmed), named([*confirmed.values()]))


def _listed(files: Sequence[Path]) -> Iterable[tuple[Path, str]]:
    for file in files:
        if file.suffix.lower() != LIST_SUFFIX:
            yield file, ""
            continue
        try:
            lines = file.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingError(f"--confirm-good {file}: cannot be read ({error}).") from error
        yield from (
            (file.parent / one, f", listed in {file}") for one in map(str.strip, lines) if one
        )
