"""--set brightness: light that varies is learned with each image, and costs no other digit."""

import pytest
import torch

from tests.support.small_training import STATISTICAL, batch, fitted, predict_scores, spotted
from training.components.light_variation import LightVariation
from training.errors import SettingError
from training.models.building import make_settings


def dimmed(images: torch.Tensor, gain: float) -> torch.Tensor:
    return (images.float() * gain).round().clamp(0, 255).to(torch.uint8)


def test_an_image_has_its_copies_whatever_is_beside_it_and_other_seeds_give_others() -> None:
    images = batch(4)
    copies = LightVariation(0.2, 3).copies(images)
    alone = torch.cat([LightVariation(0.2, 3).copies(image[None]) for image in images.flip(0)])
    assert torch.equal(copies.view(4, 2, -1), alone.view(4, 2, -1).flip(0))
    assert not torch.equal(copies, LightVariation(0.2, 4).copies(images))

    gains = copies.float().mean((1, 2, 3)).view(4, 2) / images.float().mean((1, 2, 3))[:, None]
    assert gains[:, 0].max() < 1.0 < gains[:, 1].min()
    assert gains.min() > 0.79 and gains.max() < 1.21


@pytest.mark.parametrize("algorithm", sorted(STATISTICAL))
def test_other_light_looks_less_like_a_defect_to_a_model_that_has_learned_it(
    algorithm: str,
) -> None:
    good, bad = batch(6, first=90), spotted(6)
    margins = []
    for brightness in (0.0, 0.2):
        model = fitted(algorithm, brightness=brightness)
        dim = torch.cat([predict_scores(model, dimmed(good, gain)) for gain in (0.85, 1.15)])
        scores = predict_scores(model, good)
        defective = predict_scores(model, bad)
        margins.append(float((dim.mean() - scores.mean()) / (defective.mean() - scores.mean())))
    assert margins[1] < margins[0]


@pytest.mark.parametrize("brightness", [-0.1, 0.51])
def test_a_brightness_that_no_lamp_has_is_refused(brightness: float) -> None:
    with pytest.raises(SettingError, match=r"patchcore\.brightness: .* from 0 \(off\) to 0\.5"):
        fitted("patchcore", brightness=brightness)


def test_an_algorithm_that_cannot_vary_the_light_says_so() -> None:
    with pytest.raises(SettingError, match="stfpm has no hyperparameter 'brightness'"):
        make_settings("stfpm", {"brightness": 0.2})
