"""Trained algorithms against their formulas written out."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.support.small_training import SIDE, batch, fitted, fitted_once, spotted, unfitted
from training.components.gaussian_smoothing import GaussianSmoothing
from training.models.anomaly_model import Prediction
from training.models.cflow import CFLOW
from training.models.efficientad import EfficientAD
from training.models.fastflow import FastFlow
from training.models.ganomaly import GANomaly
from training.models.reverse_distillation import ReverseDistillation
from training.models.stfpm import STFPM
from training.models.supersimplenet import SuperSimpleNet
from training.models.trained_model import TrainedModel


def predict(model: torch.nn.Module, images: Tensor) -> Prediction:
    with torch.inference_mode():
        return model(images)


def loss_values(model: TrainedModel, images: Tensor, seed: int = 0) -> list[float]:
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        return [float(loss.value) for loss in model.losses(images, random)]


def units(features: Tensor) -> np.ndarray:
    values = features.double().numpy()
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_stfpm_multiplies_the_distances_of_its_layers(shared: Path) -> None:
    model = fitted_once("stfpm", shared)
    assert isinstance(model, STFPM)
    images = spotted(2)
    with torch.inference_mode():
        taught = model.extractor(images)
        read = model.student(model.extractor.normalized(images))
    product, loss = np.ones((2, *model.grid)), 0.0
    for layer, teacher in zip(model.extractor.layers, taught, strict=True):
        distance = 0.5 * ((units(teacher) - units(read[layer])) ** 2).sum(1)
        loss += distance.mean()
        enlarged = F.interpolate(
            torch.from_numpy(distance)[:, None], size=model.grid, mode="bilinear"
        )
        product *= enlarged[:, 0].numpy()
    found = predict(model, images)
    assert found.anomaly_map.numpy() ** 3 == pytest.approx(product, rel=1e-3)
    assert found.score.tolist() == found.anomaly_map.amax((1, 2)).tolist()
    assert loss_values(model, images) == pytest.approx([loss], rel=1e-4)


def test_reverse_distillation_adds_what_the_decoder_does_not_give_back(shared: Path) -> None:
    model = fitted_once("reverse_distillation", shared)
    assert isinstance(model, ReverseDistillation)
    images = spotted(2)
    with torch.inference_mode():
        pairs = model.pairs(images)
    grid, loss = torch.zeros(2, 1, *model.grid), 0.0
    for read, given in pairs:
        assert read.shape == given.shape
        cosine = torch.from_numpy((units(read) * units(given)).sum(1, keepdims=True)).float()
        grid += F.interpolate(1.0 - cosine, size=model.grid, mode="bilinear", align_corners=True)
        flat = units(read.flatten(1)) * units(given.flatten(1))
        loss += float(1.0 - flat.sum(1).mean())
    smooth = GaussianSmoothing(model.grid, (SIDE, SIDE))
    found = predict(model, images)
    expected = smooth.at_grid(grid[:, 0])
    assert torch.allclose(found.anomaly_map, expected, rtol=1e-3, atol=1e-4)
    assert torch.allclose(found.score, smooth(grid[:, 0]).amax((1, 2)), rtol=1e-3)
    assert loss_values(model, images) == pytest.approx([loss], rel=1e-3)


def test_reverse_distillation_takes_grids_of_any_size() -> None:
    from training.models.reverse_distillation import Bottleneck, Decoder

    shapes = [(8, 15, 9), (12, 7, 5), (20, 5, 3)]
    features = [torch.zeros(2, *shape) for shape in shapes]
    bottleneck = Bottleneck(shapes)
    given = Decoder(shapes, bottleneck.channels)(bottleneck(features))
    assert [tuple(feature.shape[1:]) for feature in given] == shapes


def test_fastflow_averages_the_likelihoods_of_its_layers(shared: Path) -> None:
    model = fitted_once("fastflow", shared)
    assert isinstance(model, FastFlow)
    images = spotted(2)
    with torch.inference_mode():
        latents = model.latents(images)
    total, loss, dimensions = torch.zeros(2, *model.grid), 0.0, 0
    for z, volume in latents:
        likelihood = torch.exp(-0.5 * z.square().mean(1, keepdim=True))
        total += F.interpolate(likelihood, size=model.grid, mode="bilinear")[:, 0]
        loss += float((0.5 * z.square().flatten(1).sum(1) - volume).mean())
        dimensions += z[0].numel()
    expected = 1.0 - total / len(latents)
    assert torch.allclose(predict(model, images).anomaly_map, expected, atol=1e-5)
    assert loss_values(model, images) == pytest.approx([loss / dimensions], rel=1e-4)


def test_cflow_gives_likelihoods_of_features_at_their_place(shared: Path) -> None:
    model = fitted_once("cflow", shared)
    assert isinstance(model, CFLOW)
    images = batch(2)
    with torch.inference_mode():
        ((vectors, codes), *_) = model.vectors_and_codes(images)
        z, volume = model.decoders[0](vectors, codes)
        log_p = model.layer_likelihoods(images)[0].flatten()
    width = vectors.shape[1]
    expected = (-0.5 * z.square().sum(1) - width / 2 * math.log(2 * math.pi) + volume) / width
    assert torch.allclose(log_p, expected, rtol=1e-5)
    # The same feature elsewhere in the image is not as likely.
    with torch.inference_mode():
        moved = model.log_likelihood(0, vectors, codes.roll(5, 0))
    assert not torch.allclose(moved, log_p, rtol=1e-3)


def test_the_highest_likelihood_of_cflow_is_a_constant_of_the_fit(shared: Path) -> None:
    model = fitted_once("cflow", shared)
    assert isinstance(model, CFLOW)
    with torch.inference_mode():
        likelihoods = model.layer_likelihoods(batch(2, first=50))  # those it was measured on
    assert [float(layer.max()) for layer in likelihoods] == pytest.approx(model.highest.tolist())
    before = model.highest.clone()
    predict(model, spotted(3))
    assert torch.equal(model.highest, before)


@pytest.mark.parametrize("score", ["reconstruction", "latent"])
def test_ganomaly_compares_images_or_codes_in_the_generators_own_range(score: str) -> None:
    model = fitted("ganomaly", epochs=2, score=score)
    assert isinstance(model, GANomaly)
    real = model.padded(spotted(2))
    assert real.min() >= -1.0
    assert real.max() <= 1.0
    assert real[0, 2, 0, 0].item() == pytest.approx(spotted(2)[0, 0, 0, 0].item() / 127.5 - 1)
    with torch.inference_mode():
        z, fake, z_again = model.reconstructed(real)
        held_out = model.padded(batch(2, first=50))
        usual, _, usual_again = model.reconstructed(held_out)
    assert fake.shape == real.shape
    assert torch.allclose(model.usual, (usual - usual_again).flatten(1).mean(0), atol=1e-5)
    cells = (real - fake).abs().mean(1).unfold(1, 8, 8).unfold(2, 8, 8).mean((3, 4))
    codes = ((z - z_again).flatten(1) - model.usual) / model.deviation
    found = predict(model, spotted(2))
    assert torch.allclose(found.anomaly_map, cells, atol=1e-5)
    expected = cells.amax((1, 2)) if score == "reconstruction" else codes.square().mean(1)
    assert torch.allclose(found.score, expected, rtol=1e-4)


def test_the_generator_and_the_discriminator_take_turns() -> None:
    model = unfitted("ganomaly")
    assert isinstance(model, GANomaly)
    generator, discriminator = model.optimizers()
    learned = [{id(p) for p in o.param_groups[0]["params"]} for o in (generator, discriminator)]
    assert learned[0].isdisjoint(learned[1])
    assert learned[0] | learned[1] == {id(parameter) for parameter in model.parameters()}
    turns = [loss.optimizer for loss in model.losses(batch(2), torch.Generator())]
    assert turns == [0, 1]


def test_ganomaly_pads_what_cannot_be_halved() -> None:
    from training.models.ganomaly import GANomalySettings

    model = GANomaly(None, (72, 100), GANomalySettings(channels=4, latent=5)).eval()
    image = torch.zeros(1, 72, 100, 3, dtype=torch.uint8)
    assert model.padded(image).shape == (1, 3, 80, 112)
    assert predict(model, image).anomaly_map.shape == (1, 9, 13)


def test_both_maps_of_efficientad_are_brought_to_one_scale(shared: Path) -> None:
    model = fitted_once("efficientad", shared)
    assert isinstance(model, EfficientAD)
    with torch.inference_mode():
        maps = model.maps(batch(2, first=50))  # those the quantiles were measured on
    for number in range(2):
        values = np.sort(maps[:, number].flatten().numpy())
        expected = [values[round(q * (len(values) - 1))] for q in (0.9, 0.995)]
        assert model.quantiles[number].tolist() == pytest.approx(expected)
    low, high = model.quantiles[:, 0, None, None], model.quantiles[:, 1, None, None]
    inner = (0.1 * (maps - low) / (high - low)).mean(1)
    found = predict(model, batch(2, first=50)).anomaly_map
    assert torch.allclose(found[:, 4:-4, 4:-4], inner, rtol=1e-4, atol=1e-5)
    # No error at the border is less than any error inside: a good part's border is no anomaly.
    border = torch.cat([found[:, :4].flatten(), found[:, :, -4:].flatten()])
    assert border.max() <= found[:, 4:-4, 4:-4].min()


def test_the_quantiles_of_a_long_stream_rest_on_a_bounded_even_choice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = unfitted("efficientad")
    assert isinstance(model, EfficientAD)
    monkeypatch.setattr("training.models.efficientad._QUANTILE_IMAGES", 4)
    images = batch(11)
    with torch.inference_mode():
        model.finish(images.split(3))
        chosen = model.maps(images[::4]).transpose(0, 1).flatten(1).sort(1).values
    place = round(0.9 * (chosen.shape[1] - 1))
    assert model.quantiles[:, 0].tolist() == pytest.approx(chosen[:, place].tolist(), rel=1e-4)


def test_the_teacher_of_efficientad_is_normalized_on_the_images_of_the_fit(shared: Path) -> None:
    model = fitted_once("efficientad", shared)
    assert isinstance(model, EfficientAD)
    with torch.inference_mode():
        taught, _, _ = model.answers(batch(7))
    assert taught.mean((0, 2, 3)).abs().max() < 1e-3
    assert taught.std((0, 2, 3)).max() == pytest.approx(1.0, abs=0.01)


def test_efficientad_keeps_its_sizes_at_the_papers_input() -> None:
    from training.models.efficientad import _described, _stage_sizes

    assert _described(256) == 56
    assert _stage_sizes(256) == [3, 8, 15, 32, 63, 127]


def test_supersimplenet_disturbs_half_of_the_images_in_patches() -> None:
    model = unfitted("supersimplenet")
    assert isinstance(model, SuperSimpleNet)
    masks = model.masks(200, torch.Generator().manual_seed(0))
    assert masks.shape == (200, 1, *model.grid)
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    assert (masks.amax((1, 2, 3)) == 0).float().mean() == pytest.approx(0.5, abs=0.15)


def test_the_losses_of_supersimplenet_are_those_of_the_paper() -> None:
    from training.models.supersimplenet import _focal, _truncated

    logits = torch.tensor([[-2.0, -0.2], [0.3, 1.0]])
    masks = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    assert _truncated(logits, masks).item() == pytest.approx((0 + 0.3) / 2 + (0.2 + 0) / 2)
    chance = 1 / (1 + np.exp(-logits.double().numpy()))
    right = np.where(masks.numpy() == 1, chance, 1 - chance)
    expected = (-((1 - right) ** 4) * np.log(right)).mean()
    assert _focal(logits, masks).item() == pytest.approx(expected, rel=1e-5)


def test_features_of_supersimplenet_have_the_deviation_that_its_noise_is_measured_in() -> None:
    model = fitted("supersimplenet", epochs=1)
    assert isinstance(model, SuperSimpleNet)
    with torch.inference_mode():
        features = model.embed(batch(7))
    assert features.var((0, 2, 3), correction=0).mean().item() == pytest.approx(1.0, rel=1e-3)


def test_rates_fall_as_the_papers_say() -> None:
    supersimplenet, efficientad = unfitted("supersimplenet"), unfitted("efficientad")
    assert isinstance(supersimplenet, SuperSimpleNet)
    assert isinstance(efficientad, EfficientAD)
    factors = [supersimplenet.rate_factor(p) for p in (0.0, 0.79, 0.8, 0.9, 0.99)]
    assert factors == pytest.approx([1.0, 1.0, 0.4, 0.16, 0.16])
    assert [efficientad.rate_factor(p) for p in (0.0, 0.94, 0.95)] == [1.0, 1.0, 0.1]
