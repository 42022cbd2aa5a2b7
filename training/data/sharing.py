"""No picture is in two splits, whatever its files are called."""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from training.data.cifar10 import read_record
from training.data.loading import check_readable
from training.data.samples import Sample, Splits, content_hash
from training.errors import DataError

log = logging.getLogger(__name__)


def without_shared(splits: Splits) -> Splits:
    """Take pictures out of the fit that are also in validation or test, and likewise validation.

    Compared by content: a copy under another name is the same picture. What is taken out is said.
    Where test serves as validation by choice, these two stay as they are.

    Raises:
        DataError: the same picture is good here and defective there; names both files.
    """
    contents = _contents([*splits.fit, *splits.validation, *splits.test])
    _refuse_contradictions(contents)
    tested = {contents[sample] for sample in splits.test if sample in contents}
    validation = splits.validation
    if validation != splits.test:
        validation = _apart(validation, contents, tested, "validation")
    validated = tested | {contents[sample] for sample in validation if sample in contents}
    fit = _apart(splits.fit, contents, validated, "the fit")
    return Splits(splits.name, fit, validation, splits.test)


def _apart(
    samples: tuple[Sample, ...], contents: dict[Sample, str], others: set[str], what: str
) -> tuple[Sample, ...]:
    shared = [sample for sample in samples if contents.get(sample) in others]
    if not shared:
        return samples
    log.warning(
        "%d pictures are also among those kept for judging and were left out of %s, first %s",
        len(shared),
        what,
        shared[0].label,
    )
    return tuple(sample for sample in samples if contents.get(sample) not in others)


def _refuse_contradictions(contents: dict[Sample, str]) -> None:
    by_content: dict[str, Sample] = {}
    for sample, content in contents.items():
        other = by_content.setdefault(content, sample)
        if other.is_defective == sample.is_defective:
            continue
        # Two empty files are equal, too: what is wrong with them says more.
        for fault in check_readable([other, sample]).values():
            raise DataError(fault)
        raise DataError(
            f"{sample.label} is {sample.kind}, and the very same picture {other.label} is "
            f"{other.kind}. Remove the one that is wrong."
        )


def _contents(samples: Iterable[Sample]) -> dict[Sample, str]:
    """Return a hash for every picture that another one may equal: files of one size."""
    alike: defaultdict[int, dict[Path, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    contents: dict[Sample, str] = {}
    for sample in dict.fromkeys(samples):
        if sample.index is not None:
            record = read_record(sample.path, sample.index)
            contents[sample] = hashlib.sha256(record.tobytes()).hexdigest()
        else:
            alike[_size(sample.path)][sample.path].append(sample)
    for files in alike.values():
        if len(files) > 1:
            contents |= _hashed(files)
    return contents


def _hashed(files: dict[Path, list[Sample]]) -> dict[Sample, str]:
    hashes = {path: content_hash(path) for path in files}
    return {sample: hashes[path] for path, samples in files.items() for sample in samples}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error


def named(paths: Sequence[Path], most: int = 3) -> str:
    """Return the first few paths and how many more there are."""
    text = ", ".join(str(path) for path in paths[:most])
    return text + (f" and {len(paths) - most} more" if len(paths) > most else "")
