"""From a folder on disk to splits that never share an image."""

import hashlib
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from edge.bundle.manifest_types import plain_text
from edge.imaging.folder_names import existing
from edge.teaching.used_images import HASH_BYTES
from edge.wording import counted
from training.data.btad import BTAD
from training.data.cifar10 import CIFAR10
from training.data.content import content_hashes, fingerprint
from training.data.disjoint_splits import named, refuse_contradictions, without_shared
from training.data.folder import Folder, no_good_images
from training.data.kolektor import KolektorSDD, KolektorSDD2
from training.data.loading import check_readable
from training.data.mvtec_ad import MVTecAD
from training.data.recipe import TaughtRecipe
from training.data.samples import GOOD, DataSet, Sample, Splits
from training.data.settings import DataSettings, Layout, as_settings
from training.data.shanghaitech import ShanghaiTech
from training.data.splitting import split_off
from training.data.synthetic_defects import KINDS, Flaw
from training.data.visa import VisA
from training.errors import DataError
from training.seen_images import Role, SeenImages, phrase, sift
from training.transforms import RandomView, parse_transforms

# One image has no variation to learn from.
MIN_TO_FIT = 2

# Behind the name of a set, wherever it is named.
SYNTHETIC = " (synthetic defects)"


class Adapter(Protocol):
    """The class of a data set."""

    def __call__(self, root: Path, category: str | None) -> DataSet: ...

    def matches(self, root: Path) -> bool:
        """Tell whether a folder is laid out like this."""


# In the order in which a layout is looked for; the plain folder takes what no other does.
ADAPTERS: dict[Layout, Adapter] = {
    Layout.BTAD: BTAD,
    Layout.KOLEKTOR_SDD2: KolektorSDD2,
    Layout.KOLEKTOR_SDD: KolektorSDD,
    Layout.VISA: VisA,
    Layout.CIFAR10: CIFAR10,
    Layout.SHANGHAITECH: ShanghaiTech,
    Layout.MVTEC_AD: MVTecAD,
    Layout.RECIPE: TaughtRecipe,
    Layout.FOLDER: Folder,
}
# Sets without published test images: their splits are drawn.
_DRAWN = (Folder, KolektorSDD)
# Images of a set that tell whether a model was fitted on it; all may be hundreds of thousands.
_MAX_COMPARED = 200
_WITHOUT_CATEGORIES = (Layout.FOLDER, Layout.RECIPE, Layout.KOLEKTOR_SDD, Layout.KOLEKTOR_SDD2)

log = logging.getLogger(__name__)


class ValidateOn(StrEnum):
    """Where the threshold comes from.

    ``HELD_OUT``: the set's own validation images, else good images kept out of the fit.
    ``TEST``: the test images, as published tables do; figures on them are then optimistic.
    """

    HELD_OUT = "held-out"
    TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """Images that a model is judged by or calibrated on.

    Attributes:
        name: of the data set.
        samples: to be used, with synthetic defects where these were asked for.
        left_out: how many the model has seen, by role.
        kept_apart: how many were left for tests.
        not_judged: how many images there are to fit on, of a set that the model was not fitted on.
    """

    name: str
    samples: tuple[Sample, ...]
    left_out: Mapping[Role, int]
    kept_apart: int = 0
    not_judged: int = 0


def open_splits(
    source: Path | DataSettings, validate_on: ValidateOn = ValidateOn.HELD_OUT, seed: int = 0
) -> Splits:
    """Open a data set to fit on.

    Raises:
        DataError: nothing usable there, or too few images; the message says what is missing
            where.
        SettingError: a transform that does not exist or refuses its arguments.
    """
    settings = as_settings(source)
    parts = [_splits(one, open_data_set(one), validate_on, seed) for one in each_folder(settings)]
    splits = without_shared(_joined(parts))
    good = sum(not sample.is_defective for sample in splits.validation)
    if not splits.fit and good == 0:
        raise no_good_images(settings.path)
    if len(splits.fit) < MIN_TO_FIT or good == 0:
        raise DataError(
            f"{settings.path}: too few good images, {len(splits.fit)} to fit on and {good} to "
            f"calibrate on; at least {MIN_TO_FIT} and 1 are needed. Add images of good parts; "
            "50 or more are usual."
        )
    validation = with_synthetic(splits.validation, settings.synthetic_defects, seed)
    if validation != splits.validation:
        splits = replace(splits, name=splits.name + SYNTHETIC, validation=validation)
    test = with_synthetic(splits.test, settings.synthetic_defects, seed)
    return replace(splits, fit=_viewed(splits.fit, settings, seed), test=test)


def data_identity(source: Path | DataSettings, seed: int) -> str:
    """Return a digest of all images and masks of a data set and of how they are split.

    Neither names nor places count.

    Raises:
        DataError: nothing usable there.
    """
    found = [open_data_set(one).split(seed) for one in each_folder(as_settings(source))]
    parts = [part for splits in found for part in (splits.fit, splits.validation, splits.test)]
    return hashlib.sha256(" ".join(map(fingerprint, parts)).encode()).hexdigest()


def open_judging(
    source: Path | DataSettings,
    seed: int = 0,
    known: SeenImages | None = None,
    roles: Collection[Role] = tuple(Role),
) -> Opened:
    """Open images to judge a model by: all of a plain folder, else the published test images.

    A set with test images of its own whose other images the model has not seen is another one than
    that of the fit: a warning says so.

    Args:
        seed: of synthetic defects.
        known: what the model has seen; None where nobody knows.
        roles: what an image must not have been used for.

    Raises:
        DataError: there are none, or the model has seen them all.
    """
    settings = as_settings(source)
    data = open_data_set(settings)
    found = data.new_images() if isinstance(data, _DRAWN) else data.split(seed).test
    found = _readable(found, settings)
    refuse_contradictions(content_hashes(found))
    if not found:
        raise no_test_images(settings.path)
    sifted = sift(found, known, roles)
    if not sifted.unseen:
        raise DataError(
            f"{settings.path}: no image is left to judge by: {phrase(sifted.left_out)}. Give "
            "images that the model has not seen."
        )
    samples = with_synthetic(sifted.unseen, settings.synthetic_defects, seed)
    not_judged = 0 if isinstance(data, _DRAWN) else _foreign(data, known)
    if not_judged:
        log.warning(
            "%s: the model has not seen the %s that this set has to fit on, so it is not "
            "the set of the fit. They do not judge; its test images do. To judge by others, too, "
            "give their folder",
            *(settings.path, counted(not_judged, "image")),
        )
    return Opened(
        name=_named(data, samples),
        samples=samples,
        left_out=sifted.left_out,
        not_judged=not_judged,
    )


def open_new(
    source: Path | DataSettings,
    seed: int,
    known: SeenImages | None,
    validate_on: ValidateOn = ValidateOn.HELD_OUT,
    *,
    everything: bool = False,
    needs_good: bool = True,
) -> Opened:
    """Open images to calibrate a fitted model on: never those that it was fitted on.

    Published test images are used only where ``validate_on`` says so. A plain folder is used
    whole, but for the fit's own: of that, grown or renamed or not, the share for tests is left.

    Args:
        seed: of the fit.
        known: what the model has seen; None where nobody knows.
        everything: use the share for tests of the fit's own folder, too.
        needs_good: a good image has to be among them; False where they are added to others.

    Raises:
        DataError: nothing usable there, or no good image.
    """
    settings = as_settings(source)
    data = open_data_set(settings)
    splits = data.split(seed)
    if validate_on is ValidateOn.TEST and not isinstance(data, _DRAWN):
        found, apart = splits.test, frozenset[bytes]()
    else:
        found = data.new_images()
        apart = frozenset(content_hashes(splits.test).values())
    found = _readable(found, settings)
    contents = content_hashes(found)
    refuse_contradictions(contents)
    if isinstance(data, _DRAWN):
        good = {contents[sample][:HASH_BYTES] for sample in found if not sample.is_defective}
        # Of what was fitted the good images: a folder of marked parts may hold learned defects.
        learned = {contents[sample][:HASH_BYTES] for sample in found if sample.is_defective}
        own = known is not None and _is_of_fit(good, known.fitted - learned)
        if validate_on is ValidateOn.TEST and own:
            found, apart = tuple(s for s in found if contents[s] in apart), frozenset()
        elif everything or not own:
            apart = frozenset()
    kept = tuple(sample for sample in found if contents[sample] not in apart)
    sifted = sift(kept, known, (Role.FITTED,))
    usable = sifted.unseen
    if not usable or (needs_good and all(sample.is_defective for sample in usable)):
        reasons = phrase(sifted.left_out)
        raise DataError(
            f"{settings.path}: no good images to calibrate on; at least one is needed, 20 or "
            f"more are usual.{f' Left out: {reasons}.' if reasons else ''}"
        )
    samples = with_synthetic(usable, settings.synthetic_defects, seed)
    apart_count = len(found) - len(kept)
    return Opened(
        name=_named(data, samples),
        samples=samples,
        left_out=sifted.left_out,
        kept_apart=apart_count,
    )


def _foreign(data: DataSet, known: SeenImages | None) -> int:
    """Return how many images a set has to fit on if the model has seen few of them; else 0."""
    images = [sample for sample in data.new_images() if not sample.is_defective]
    compared = images[:: max(1, math.ceil(len(images) / _MAX_COMPARED))]
    left = sift(compared, known, tuple(Role)).unseen
    return len(images) if known is not None and len(left) * 2 > len(compared) else 0


def _is_of_fit(good: set[bytes], fitted: frozenset[bytes]) -> bool:
    """Tell a folder of the fit, grown or renamed, from one that shares a few images with it."""
    return len(good & fitted) * 2 > min(len(good), len(fitted))


def _named(data: DataSet, samples: tuple[Sample, ...]) -> str:
    # As checkpoints have it.
    return plain_text(data.name) + (
        SYNTHETIC if any(sample.is_synthetic for sample in samples) else ""
    )


def no_test_images(root: Path) -> DataError:
    """Return the error that says where test images were expected."""
    return DataError(
        f"{root}: no test images. The MVTec layout has them in {root / 'test' / GOOD} and "
        f"{root / 'test'}/<defect>."
    )


def open_data_set(settings: DataSettings) -> DataSet:
    """Find out the layout and read the file lists.

    Raises:
        DataError: names the file that is missing, or the masks that belong to no image.
    """
    root = settings.path
    try:
        if not root.is_dir():
            raise DataError(f"{root}: not a folder. Check --data.")
        layout = settings.layout or _find_layout(root, settings.category)
        if settings.category is not None and layout in _WITHOUT_CATEGORIES:
            raise DataError(f"{root}: the layout {layout} has no categories. Leave out --category.")
        data = ADAPTERS[layout](root, settings.category)
    except OSError as error:
        raise DataError(
            f"{error.filename or root}: cannot be read ({error.strerror}). Check its permissions."
        ) from error
    if data.stray_masks:
        sentence = f"{named(data.stray_masks)}: no image belongs to this mask"
        if not settings.skip_unreadable:
            raise DataError(
                f"{sentence}. Add the image, name the mask after it, or remove the mask; "
                "--skip-unreadable goes on without it."
            )
        log.warning("%s; left out", sentence)
    return data


def with_synthetic(samples: tuple[Sample, ...], count: int, seed: int) -> tuple[Sample, ...]:
    """Add synthetic defects to good images, unless real defects are among the samples.

    Args:
        count: of defects, spread over the images and the kinds of flaws.
    """
    good = [sample for sample in samples if not sample.is_defective]
    if count == 0 or len(good) < len(samples):
        return samples
    kinds = sorted(KINDS)
    synthetic = []
    for number in range(count):
        base = good[number * len(good) // count if count < len(good) else number % len(good)]
        kind = kinds[number % len(kinds)]
        name = f"{base.name or base.path.name}~{number}"
        flaw = Flaw(kind, seed * 100_003 + number)
        synthetic.append(replace(base, kind=kind, name=name, flaw=flaw))
    return (*samples, *synthetic)


def _find_layout(root: Path, category: str | None) -> Layout:
    places = [root] if category is None else [root, existing(root / category)]
    for layout, adapter in ADAPTERS.items():
        if any(place.is_dir() and adapter.matches(place) for place in places):
            return layout
    return Layout.FOLDER


def _splits(settings: DataSettings, data: DataSet, validate_on: ValidateOn, seed: int) -> Splits:
    found = data.split(seed)
    splits = replace(
        found,
        fit=_readable(found.fit, settings),
        validation=_readable(found.validation, settings),
        test=_readable(found.test, settings),
    )
    if validate_on is ValidateOn.TEST:
        splits = replace(splits, validation=splits.test)
    elif all(sample.is_defective for sample in splits.validation):
        fit, held_out = split_off(splits.fit, data.held_out_share, seed, "validation")
        splits = replace(splits, fit=fit, validation=held_out + splits.validation)
    return splits


def each_folder(settings: DataSettings) -> list[DataSettings]:
    """Return the folders of a data set one by one; each is of the layout that it has.

    A category holds for those that have categories.
    """
    if not settings.also:
        return [settings]
    single = []
    for path in (settings.path, *settings.also):
        one = settings.model_copy(update={"path": path, "also": ()})
        layout = one.layout or _find_layout(path, one.category)
        if layout in _WITHOUT_CATEGORIES:
            one = one.model_copy(update={"category": None})
        single.append(one)
    return single


def _joined(parts: Sequence[Splits]) -> Splits:
    """Join the splits of several folders; an image counts once, as the last folder has it."""
    if len(parts) == 1:
        return parts[0]
    later: set[bytes] = set()
    kept: list[Splits] = []
    for splits in reversed(parts):
        contents = content_hashes([*splits.fit, *splits.validation, *splits.test])
        fit, validation, test = (
            tuple(sample for sample in part if contents[sample] not in later)
            for part in (splits.fit, splits.validation, splits.test)
        )
        repeated = sum(content in later for content in contents.values())
        if repeated:
            log.info(
                "%s: %s as a later folder has them",
                splits.name,
                counted(repeated, "image counts", "images count"),
            )
        later.update(contents.values())
        kept.insert(0, Splits(name=splits.name, fit=fit, validation=validation, test=test))
    return Splits(
        name=" and ".join(dict.fromkeys(splits.name for splits in kept)),
        fit=tuple(sample for splits in kept for sample in splits.fit),
        validation=tuple(sample for splits in kept for sample in splits.validation),
        test=tuple(sample for splits in kept for sample in splits.test),
    )


def _readable(samples: Sequence[Sample], settings: DataSettings) -> tuple[Sample, ...]:
    """Leave out what cannot be read, where that was asked for."""
    if not settings.skip_unreadable:
        return tuple(samples)
    faults = check_readable(samples)
    for fault in list(faults.values())[:10]:
        log.warning("left out: %s", fault)
    if len(faults) > 10:
        log.warning("left out: %s that cannot be read", counted(len(faults) - 10, "more image"))
    return tuple(sample for sample in samples if sample not in faults)


def _viewed(samples: tuple[Sample, ...], settings: DataSettings, seed: int) -> tuple[Sample, ...]:
    if not settings.transforms:
        return samples
    transforms = parse_transforms(settings.transforms, seed)
    copies = range(1, settings.transform_copies + 1)
    views = [replace(s, view=RandomView(transforms, number)) for number in copies for s in samples]
    return (*samples, *views)
