"""From a folder on disk to splits that never share a picture."""

from enum import StrEnum
from pathlib import Path

from training.data.folder import Folder
from training.data.mvtec_ad import MVTecAD
from training.data.samples import Sample, Splits, split_off
from training.errors import DataError

# Share of the good pictures kept out of the fit where a set brings no validation pictures.
_VALIDATION_SHARE = 0.15
_TEST_SHARE = 0.15


class ValidateOn(StrEnum):
    """Where the threshold comes from.

    ``HELD_OUT``: the set's own validation pictures, else good pictures kept out of the fit.
    ``TEST``: the test pictures, as published tables do; figures on them are then optimistic.
    """

    HELD_OUT = "held-out"
    TEST = "test"


def open_splits(root: Path, validate_on: ValidateOn = ValidateOn.HELD_OUT, seed: int = 0) -> Splits:
    """Open a data set in the MVTec layout or a plain folder.

    Raises:
        DataError: nothing usable there; the message says what is missing where.
    """
    if MVTecAD.matches(root):
        return _mvtec_splits(MVTecAD(root), validate_on, seed)
    return _folder_splits(Folder(root), validate_on, seed)


def _mvtec_splits(data: MVTecAD, validate_on: ValidateOn, seed: int) -> Splits:
    if validate_on is ValidateOn.TEST:
        _require_test(data.test, data.name)
        return Splits(data.name, tuple(data.train), tuple(data.test), tuple(data.test))
    if data.validation:
        return Splits(data.name, tuple(data.train), tuple(data.validation), tuple(data.test))
    fit, held_out = split_off(data.train, _VALIDATION_SHARE, seed)
    return Splits(data.name, fit, held_out, tuple(data.test))


def _folder_splits(data: Folder, validate_on: ValidateOn, seed: int) -> Splits:
    rest, test_good = split_off(data.good, _TEST_SHARE, seed)
    fit, held_out = split_off(rest, _VALIDATION_SHARE / (1.0 - _TEST_SHARE), seed)
    validation_defects, test_defects = split_off(data.defective, 0.5, seed)
    test = test_good + test_defects
    if validate_on is ValidateOn.TEST:
        return Splits(data.name, fit + held_out, test, test)
    return Splits(data.name, fit, held_out + validation_defects, test)


def _require_test(test: list[Sample], name: str) -> None:
    if not test:
        raise DataError(
            f"{name}: --validate-on test was asked for, but there is no test folder with pictures."
        )
