"""No image is in two splits, whatever its files are called."""

import logging
from collections.abc import Sequence
from pathlib import Path

from edge.redaction import readable
from edge.wording import counted
from training.data.content import content_hashes
from training.data.loading import check_readable
from training.data.samples import Sample, Splits
from training.errors import DataError

log = logging.getLogger(__name__)


def without_shared(splits: Splits) -> Splits:
    """Take images out of the fit that are also in validation or test, and likewise validation.

    Compared by content: a copy under another name, or saved anew without loss, is the same image.
    What is taken out is said.
    Where test serves as validation by choice, these two stay as they are.

    Raises:
        DataError: the same image is good here and defective there; names both files.
    """
    contents = content_hashes([*splits.fit, *splits.validation, *splits.test])
    refuse_contradictions(contents)
    tested = {contents[sample] for sample in splits.test}
    validation = splits.validation
    if validation != splits.test:
        validation = _apart(validation, contents, tested, "validation")
    validated = tested | {contents[sample] for sample in validation}
    fit = _apart(splits.fit, contents, validated, "the fit")
    return Splits(name=splits.name, fit=fit, validation=validation, test=splits.test)


def _apart(
    samples: tuple[Sample, ...], contents: dict[Sample, bytes], others: set[bytes], what: str
) -> tuple[Sample, ...]:
    shared = [sample for sample in samples if contents[sample] in others]
    if not shared:
        return samples
    log.warning(
        "%s among those kept for judging, too, and left out of %s, first %s",
        counted(len(shared), "image is", "images are"),
        what,
        shared[0].label,
    )
    return tuple(sample for sample in samples if contents[sample] not in others)


def refuse_contradictions(contents: dict[Sample, bytes]) -> None:
    """Find images that are good here and defective there.

    Raises:
        DataError: names both files.
    """
    by_content: dict[bytes, Sample] = {}
    for sample, content in contents.items():
        other = by_content.setdefault(content, sample)
        if other.is_defective == sample.is_defective:
            continue
        # Two empty files are equal, too: what is wrong with them says more.
        for fault in check_readable([other, sample]).values():
            raise DataError(fault)
        raise DataError(
            f"{sample.label} is {sample.kind}, and the very same image {other.label} is "
            f"{other.kind}. Remove the one that is wrong."
        )


def named(paths: Sequence[Path], max_count: int = 3) -> str:
    """Return the first few paths and how many more there are."""
    text = ", ".join(readable(str(path)) for path in paths[:max_count])
    return text + (f" and {len(paths) - max_count} more" if len(paths) > max_count else "")
