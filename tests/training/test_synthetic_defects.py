"""Synthetic defects: local, visible, repeatable, in any format of image."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.small_training import good_image
from training.data.synthetic_defects import KINDS, Flaw, paste_defect


def in_format(name: str) -> NDArray[np.integer]:
    image = good_image(3, 120, 160)
    return {
        "grey8": image[:, :, 0],
        "bgr8": image,
        "bgra8": np.dstack([image, np.full(image.shape[:2], 77, np.uint8)]),
        "grey16": image[:, :, 0].astype(np.uint16) * 257,
    }[name]


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("name", ["grey8", "bgr8", "bgra8", "grey16"])
def test_a_defect_is_local_and_seen_in_its_mask_only(kind: str, name: str) -> None:
    image = in_format(name)
    before = image.copy()
    for seed in range(8):
        changed, mask = paste_defect(image, Flaw(kind, seed))

        assert np.array_equal(image, before)
        assert (changed.dtype, changed.shape) == (image.dtype, image.shape)
        difference = np.abs(changed.astype(float) - image) / np.iinfo(image.dtype).max
        difference = difference if difference.ndim == 2 else difference[:, :, :3].max(2)
        assert difference[mask > 0].mean() > 0.03
        assert 0.0005 < (difference > 0).mean() < 0.25
        if name == "bgra8":
            assert (changed[:, :, 3] == 77).all()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_flaw_is_the_same_whenever_it_is_pasted_and_another_seed_is_another(kind: str) -> None:
    image = in_format("bgr8")
    first, again, other = (paste_defect(image, Flaw(kind, seed))[0] for seed in (4, 4, 5))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("size", [(33, 40), (64, 64), (300, 1100)])
def test_any_size_of_image_is_taken(size: tuple[int, int]) -> None:
    for kind in KINDS:
        _, mask = paste_defect(good_image(1, *size), Flaw(kind, 1))
        assert mask.shape == size
        assert mask.any()
