"""From a folder on disk to splits that never share a picture."""

from enum import StrEnum
from pathlib import Path

from training.data.folder import Folder
from training.data.mvtec_ad import MVTecAD
from training.data.samples import GOOD, Splits, split_off
from training.errors import DataError

# Share of the good pictures kept out of the fit where a set brings no validation pictures.
_VALIDATION_SHARE = 0.15
_TEST_SHARE = 0.15

# One picture has no variation to learn from.
FEWEST_TO_FIT = 2


class ValidateOn(StrEnum):
    """Where the threshold comes from.

    ``HELD_OUT``: the set's own validation pictures, else good pictures kept out of the fit.
    ``TEST``: the test pictures, as published tables do; figures on them are then optimistic.
    """

    HELD_OUT = "held-out"
    TEST = "test"


def open_splits(root: Path, validate_on: ValidateOn = ValidateOn.HELD_OUT, seed: int = 0) -> Splits:
    """Open a data set in the MVTec layout or a plain folder, to fit on.

    Raises:
        DataError: nothing usable there, or too few pictures; the message says what is missing
            where.
    """
    splits = _splits(root, validate_on, seed)
    good = sum(not sample.is_defective for sample in splits.validation)
    if len(splits.fit) < FEWEST_TO_FIT or good == 0:
        raise DataError(
            f"{root}: too few good pictures, {len(splits.fit)} to fit on and {good} to calibrate "
            f"on; at least {FEWEST_TO_FIT} and 1 are needed. Add pictures of good parts; 50 or "
            "more are usual."
        )
    return splits


def open_test(root: Path, seed: int = 0) -> Splits:
    """Open the same splits to test on; only its test pictures are needed.

    Args:
        seed: of the fit, so that no picture the model learned from is among them.

    Raises:
        DataError: there are no test pictures.
    """
    splits = _splits(root, ValidateOn.HELD_OUT, seed)
    if not splits.test:
        raise DataError(
            f"{root}: no test pictures. The MVTec layout has them in {root / 'test' / GOOD} and "
            f"{root / 'test'}/<defect>."
        )
    return splits


def _splits(root: Path, validate_on: ValidateOn, seed: int) -> Splits:
    try:
        if MVTecAD.matches(root):
            return _mvtec_splits(MVTecAD(root), validate_on, seed)
        return _folder_splits(Folder(root), validate_on, seed)
    except OSError as error:
        raise DataError(
            f"{error.filename or root}: cannot be read ({error.strerror}). Check its permissions."
        ) from error


def _mvtec_splits(data: MVTecAD, validate_on: ValidateOn, seed: int) -> Splits:
    fit, validation, test = tuple(data.train), tuple(data.validation), tuple(data.test)
    if validate_on is ValidateOn.TEST:
        validation = test
    elif not validation:
        fit, validation = split_off(fit, _VALIDATION_SHARE, seed, "validation")
    return Splits(data.name, fit, validation, test)


def _folder_splits(data: Folder, validate_on: ValidateOn, seed: int) -> Splits:
    rest, test_good = split_off(data.good, _TEST_SHARE, seed, "test")
    validation_defects, test_defects = split_off(data.defective, 0.5, seed, "test")
    test = test_good + test_defects
    if validate_on is ValidateOn.TEST:
        return Splits(data.name, rest, test, test)
    share = _VALIDATION_SHARE / (1.0 - _TEST_SHARE)
    fit, held_out = split_off(rest, share, seed, "validation")
    return Splits(data.name, fit, held_out + validation_defects, test)
