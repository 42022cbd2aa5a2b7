"""Defects are learned beside good images, with their regions as far as somebody marked them."""

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edge.bundle.input_spec import Crop
from edge.imaging.image_files import read_image
from tests.support.small_training import (
    SIDE,
    batch,
    fitted,
    good_image,
    predict_scores,
    unfitted,
    write,
    write_folder,
    write_mvtec,
)
from tests.training.conftest import fit_arguments
from training.checkpoint import load_checkpoint
from training.cli import main
from training.config import FitConfig
from training.data.loading import first_sight
from training.data.open_data_set import open_new, open_splits
from training.data.samples import Sample, Splits
from training.data.settings import DataSettings
from training.errors import DataError, SettingError
from training.fit_pipeline import fit_checkpoint, open_fit
from training.gradient_fit import fit_trained
from training.marked_images import held_against, read_marked, with_learned_defects
from training.metrics.scores import auroc
from training.models.anomaly_model import AnomalyModel
from training.models.supersimplenet import SuperSimpleNet
from training.models.trained_model import MarkedImages, TrainedModel
from training.seen_images import SeenImages, seen
from training.state_file import StateFile
from training.training_images import TrainingImages

CPU = torch.device("cpu")


def stained(number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a good image with a faint stain, and its mask."""
    pixels = good_image(2000 + number, SIDE, SIDE)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.circle(mask, (18 + 7 * number % 30, 20 + 11 * number % 26), 9, 255, -1)
    faint = pixels.astype(np.int16) + np.array([9, -9, 0], np.int16) * (mask > 0)[..., None]
    return np.clip(faint, 0, 255).astype(np.uint8), mask


def stains(count: int, model: TrainedModel, first: int = 0, drawn: bool = True) -> MarkedImages:
    made = [stained(first + number) for number in range(count)]
    masks = [cv2.resize(mask, model.grid[::-1], interpolation=cv2.INTER_AREA) for _, mask in made]
    on_grid = torch.from_numpy(np.stack(masks))[:, None] >= 128
    return MarkedImages(torch.from_numpy(np.stack([p for p, _ in made])), on_grid.float() * drawn)


def mixed(**settings: Any) -> SuperSimpleNet:
    model = unfitted("supersimplenet", supervision="mixed", **settings)
    assert isinstance(model, SuperSimpleNet)
    return model


def train(
    model: SuperSimpleNet, marked: MarkedImages | None, state_file: StateFile | None = None
) -> SuperSimpleNet:
    images, held_out = batch(7), batch(2, first=50)
    fit_trained(
        model,
        TrainingImages.prepared(images),
        TrainingImages.prepared(held_out),
        CPU,
        seed=3,
        marked=marked,
        state_file=state_file,
    )
    return model


@pytest.fixture(scope="module")
def unsupervised() -> AnomalyModel:
    return fitted("supersimplenet", epochs=16, batch_size=4)


@pytest.mark.parametrize("drawn", [True, False], ids=["with masks", "without masks"])
def test_a_faint_kind_of_defect_is_recognised_once_it_is_learned(
    unsupervised: AnomalyModel, drawn: bool
) -> None:
    model = mixed(epochs=16, batch_size=4)
    train(model, stains(6, model, drawn=drawn))
    good, new = batch(8, first=300), stains(8, model, first=40)
    both, defective = torch.cat([good, new.images]), np.arange(16) >= 8
    before = auroc(predict_scores(unsupervised, both).numpy(), defective)
    after = auroc(predict_scores(model, both).numpy(), defective)
    assert before is not None
    assert after is not None
    assert before < 0.9
    assert after > 0.95
    with torch.inference_mode():
        values = model(new.images).anomaly_map
    inside = new.masks[:, 0].bool()
    assert values[inside].mean() > values[~inside].mean() + (0.4 if drawn else 0.0)


def written_out(labels: NDArray[np.float64], logits: NDArray[np.float64]) -> float:
    """Return the focal loss with gamma 4."""
    right = 1 / (1 + np.exp(-np.where(labels == 1, logits, -logits)))
    return float((-((1 - right) ** 4) * np.log(right)).mean())


def test_an_image_without_a_mask_counts_in_the_loss_of_the_image_score_alone() -> None:
    model = mixed(noise=0.0).eval()  # what is disturbed looks as before, but is labelled so
    images, marked = batch(2), stains(3, model)
    marked.masks[2] = 0.0
    with torch.no_grad():
        (loss,) = model.mixed_losses(images, marked, torch.Generator().manual_seed(5))
        raw = model.embed(torch.cat([images, marked.images]))
        logits, scores = (
            t.repeat(2, *[1] * (t.ndim - 1)) for t in model.heads(raw, model.adaptor(raw))
        )
        drawn = model.masks(10, torch.Generator().manual_seed(5)).numpy()
    real = np.concatenate([np.zeros((2, 1, *model.grid)), marked.masks.numpy()] * 2)
    located = np.array([True, True, True, True, False] * 2)
    masks = np.where(located[:, None, None, None], np.maximum(real, drawn), 0.0)
    labels = np.where([False, False, True, True, True] * 2, 1.0, masks.max((1, 2, 3)))
    assert masks[:2].sum() + masks[5:7].sum() > 0  # noise has its place among the good ones
    values, where = logits.numpy().astype(np.float64)[located], masks[located]
    truncated = np.clip(values[where == 0] + 0.5, 0, None).mean()
    truncated += np.clip(0.5 - values[where == 1], 0, None).mean()
    expected = (
        written_out(where, values)
        + truncated
        + written_out(labels, scores.numpy().astype(np.float64))
    )
    assert loss.value.item() == pytest.approx(expected, rel=1e-4)


def test_noise_leaves_marked_and_unmarked_defects_as_they_are() -> None:
    """However strong: what is learned of an unmarked defect is the defect."""
    model, calm = mixed(noise=1e4).eval(), mixed(noise=0.0).eval()
    marked = stains(1, model, drawn=False)
    drawn = model.masks(4, torch.Generator().manual_seed(10))
    # Of good and defective in turn it would disturb a defective one.
    assert [bool(one.any()) for one in drawn] == [False, False, False, True]
    with torch.no_grad():
        found, expected = (
            next(one.mixed_losses(batch(1), marked, torch.Generator().manual_seed(10))).value
            for one in (model, calm)
        )
    assert found.item() == expected.item()


class Killed(Exception):
    """Stands for the power going off."""


def test_a_killed_fit_with_defects_goes_on_to_the_very_same_weights(tmp_path: Path) -> None:
    state_file = StateFile(tmp_path / "part.training", "these images", between_s=0.0)
    expected = train(mixed(epochs=3, hidden=16), stains(3, mixed())).state_dict()
    killed = mixed(epochs=3, hidden=16)
    original = killed.rate_factor

    def off(progress: float) -> float:
        if progress > 0.5:
            raise Killed
        return original(progress)

    killed.rate_factor = off  # type: ignore[method-assign]
    with pytest.raises(Killed):
        train(killed, stains(3, mixed()), state_file)
    found = train(mixed(epochs=3, hidden=16), stains(3, mixed()), state_file).state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_defects_are_learned_apart_from_those_that_judge(tmp_path: Path) -> None:
    splits = open_splits(write_folder(tmp_path / "parts", good=12, defective=24))
    found = with_learned_defects(splits, 0)
    before = [sample for sample in splits.validation if sample.is_defective]
    assert sorted(map(str, [*found.learned, *held_against(found)])) == sorted(map(str, before))
    assert len(found.learned) > len(held_against(found)) > 0
    assert (found.fit, found.test) == (splits.fit, splits.test)
    assert not set(found.learned) & {*found.validation, *found.test, *found.fit}


def test_test_images_and_synthetic_defects_are_not_learned(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "parts", good=12, defective=0)
    config = {"data": {"path": root, "synthetic_defects": 4}, "algorithm": "supersimplenet"}
    mixed_config = {**config, "hyperparameters": {"supervision": "mixed"}}
    assert open_fit(FitConfig.model_validate(mixed_config)).learned == ()
    splits = open_splits(write_mvtec(tmp_path / "mvtec"))
    on_test = Splits(name="mvtec", fit=splits.fit, validation=splits.test, test=splits.test)
    assert with_learned_defects(on_test, 0) == on_test


def test_a_single_defect_is_learned_with_the_good_images_of_its_item(tmp_path: Path) -> None:
    def sample(number: int, kind: str, group: str) -> Sample:
        return Sample(
            path=write(tmp_path / f"{number}.png", good_image(number)), kind=kind, group=group
        )

    fit = (sample(0, "good", "a"), sample(1, "good", "a"))
    sibling, other = sample(2, "good", "b"), sample(3, "good", "c")
    scratch = sample(4, "scratch", "b")
    found = with_learned_defects(
        Splits(name="x", fit=fit, validation=(sibling, other, scratch), test=()), 0
    )
    assert (found.fit, found.validation, found.learned) == ((*fit, sibling), (other,), (scratch,))
    # Where no good image would be left to validate on, nothing is learned.
    alone = Splits(name="x", fit=fit, validation=(sibling, scratch), test=())
    assert with_learned_defects(alone, 0) == alone


def test_masks_may_be_missing_empty_or_outside_but_not_of_another_size(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels, mask = stained(0)
    path = write(tmp_path / "part.png", pixels)
    drawn = write(tmp_path / "drawn.png", mask)
    corner = np.zeros_like(mask)
    corner[-3:, -3:] = 255
    masks = (drawn, None, write(tmp_path / "empty.png", mask * 0))
    spec = first_sight((SIDE, SIDE))
    read = read_marked([Sample(path=path, kind="stain", mask=one) for one in masks], spec, (16, 16))
    assert read is not None
    assert read.images.shape == (3, SIDE, SIDE, 3)
    assert read.masks.shape == (3, 1, 16, 16)
    assert [bool(one.any()) for one in read.masks] == [True, False, False]
    share = read.masks[0].mean().item()
    assert share == pytest.approx((mask > 0).mean(), abs=0.02)

    cropped = first_sight((SIDE, SIDE), crop=Crop(x=0, y=0, width=48, height=48))
    outside = Sample(path=path, kind="stain", mask=write(tmp_path / "corner.png", corner))
    assert read_marked([outside], cropped, (16, 16)) is None
    assert "1 defective image is not learned" in caplog.text

    small = Sample(path=path, kind="stain", mask=write(tmp_path / "small.png", mask[:9]))
    with pytest.raises(DataError, match=r"small\.png: 64×9 pixels, but its image"):
        read_marked([small], spec, (16, 16))


def test_more_defects_than_memory_are_thinned_out_evenly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [write(tmp_path / f"{number}.png", stained(number)[0]) for number in range(4)]
    samples = [Sample(path=path, kind="stain") for path in paths]
    read = read_marked(samples, first_sight((SIDE, SIDE)), (8, 8), max_bytes=2 * 3 * SIDE**2)
    assert read is not None
    assert torch.equal(read.images[1], torch.from_numpy(stained(2)[0]))
    assert "of 4 defective images 2 can be learned" in caplog.text


def config(root: Path, weights: Path, **changes: object) -> FitConfig:
    few = {"layers": ["layer2"], "hidden": 16, "epochs": 1, "batch_size": 8}
    return FitConfig.model_validate(
        {
            "data": {"path": root},
            "algorithm": "supersimplenet",
            "backbone": "small",
            "weights": str(weights),
            "image_size": SIDE,
            "check_good": False,
            "hyperparameters": {**few, "supervision": "mixed"},
            **changes,
        }
    )


def test_learned_defects_are_known_as_seen_and_a_changed_mask_starts_anew(
    tmp_path: Path, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_folder(tmp_path / "parts", good=10, defective=24)
    splits, state = open_fit(config(root, weights)), tmp_path / "state"
    checkpoint = fit_checkpoint(config(root, weights), state)
    known, training = checkpoint.seen, checkpoint.description.training
    assert seen(splits.learned) <= known.fitted
    assert seen(held_against(splits)) <= known.stopping & known.calibrated
    assert not known.fitted & known.calibrated
    assert training.hyperparameters["learned_defects"] == len(splits.learned) > 0
    assert training.hyperparameters["supervision"] == "mixed"
    assert training.validation_defective_count == len(held_against(splits)) > 0

    mask = splits.learned[0].mask
    assert mask is not None
    write(mask, np.roll(read_image(mask), 9, 1))
    fit_checkpoint(config(root, weights), state)
    assert "belongs to a fit of other data" in caplog.text


def test_a_test_leaves_out_the_defects_that_were_learned(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "parts", good=10, defective=24)
    path = tmp_path / "parts.safetensors"
    few = ["supervision=mixed", "layers=layer2", "hidden=16", "epochs=1"]
    more = ["--algorithm", "supersimplenet", *(word for one in few for word in ("--set", one))]
    arguments = [
        one for one in fit_arguments(root, weights, path, "--no-report") if one != "bank_size=40"
    ]
    arguments.remove("--set")
    assert main([*arguments, *more]) == 0
    learned = open_fit(config(root, weights)).learned
    copy = tmp_path / "copy"
    for number, sample in enumerate(learned):
        (copy / "defect").mkdir(parents=True, exist_ok=True)
        shutil.copy(sample.path, copy / "defect" / f"{number}.png")
    assert main(["test", str(path), "--data", str(copy)]) != 0
    assert f"{len(learned)} that the model was fitted on" in capsys.readouterr().err
    assert load_checkpoint(path).description.settings["supervision"] == "mixed"


def test_the_folder_of_a_fit_is_known_when_it_grew_and_defects_were_learned(tmp_path: Path) -> None:
    """Its share for tests stays, also where more defective than good images were fitted."""
    root = write_folder(tmp_path / "parts", good=16, defective=32)
    splits = with_learned_defects(open_splits(root), 0)
    fitted_on = [*splits.fit[:3], *splits.learned]
    assert len(splits.learned) > 3
    known = SeenImages(fitted=seen(fitted_on))
    assert open_new(DataSettings(path=root), 0, known).kept_apart == len(splits.test)


def test_without_defective_images_it_says_so_and_learns_as_before(
    tmp_path: Path, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_folder(tmp_path / "parts", good=10, defective=0)
    plain = {"layers": ["layer2"], "hidden": 16, "epochs": 1, "batch_size": 8}
    expected = fit_checkpoint(config(root, weights, hyperparameters=plain)).model.state_dict()
    assert "learns good images alone" not in caplog.text
    checkpoint = fit_checkpoint(config(root, weights))
    found = checkpoint.model.state_dict()
    assert caplog.text.count("supersimplenet learns good images alone") == 1
    assert checkpoint.description.training.hyperparameters["learned_defects"] == 0
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_settings_that_do_not_go_with_it_are_refused(tmp_path: Path, weights: Path) -> None:
    root = write_folder(tmp_path / "parts", good=8, defective=2)
    with pytest.raises(SettingError, match=r"whole images only\. Leave out --tile"):
        fit_checkpoint(config(root, weights, tile=32))
    with pytest.raises(SettingError, match="There are: mixed, unsupervised"):
        unfitted("supersimplenet", supervision="full")
    with pytest.raises(SettingError, match="patchcore has no hyperparameter 'supervision'"):
        only = {"supervision": "mixed"}
        open_fit(config(root, weights, algorithm="patchcore", hyperparameters=only))
