"""Promises of every registered algorithm, and some against their formulas written out."""

from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from edge.bundle.input_spec import Areas, Zone
from edge.imaging.frame import Box
from edge.inspection.areas import common_score, counted_areas
from export.engines import onnx_engine, openvino_engine, torch_engine
from export.ir import ir_bytes, to_openvino
from export.parity_gate import Budget, Validation, parity
from tests.soak import times
from tests.support.nearest import nearest_of_groups
from tests.support.once import to_onnx_once
from tests.support.small_training import (
    FEW,
    SIDE,
    STATISTICAL,
    TRAINED,
    batch,
    fitted,
    fitted_once,
    small_weights,
    spotted,
    unfitted,
    write_mvtec,
    write_weights,
)
from training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.components.backbones import build_backbone
from training.components.gaussian_smoothing import GaussianSmoothing
from training.config import FitConfig
from training.data.loading import first_sight
from training.errors import SettingError
from training.fit_pipeline import NO_BACKBONE, fit_checkpoint
from training.models.anomaly_model import AnomalyModel, Prediction, StatisticalModel
from training.models.building import make_settings
from training.models.dfkde import DFKDE
from training.models.dfm import DFM
from training.models.padim import PaDiM
from training.models.patchcore import PatchCore
from training.models.registry import ALGORITHMS as REGISTERED
from training.models.registry import Algorithm, find_algorithm, plug_ins

EVERY = tuple(sorted(FEW))
TILEABLE = tuple(n for n in EVERY if not find_algorithm(n).model_class().per_position)

EDGES = {
    "top": np.s_[:7],
    "bottom": np.s_[-7:],
    "left": np.s_[:, :7],
    "right": np.s_[:, -7:],
}
STRIPS: tuple[Callable[[Tensor], Tensor], ...] = (
    torch.zeros_like,
    lambda strip: torch.full_like(strip, 255),
    lambda strip: (torch.arange(strip.numel()) // 9 % 2 * 255).view(strip.shape),
)

# One epoch is enough where only the shape of things matters.
ONE_EPOCH = {name: {"epochs": 1} if name in TRAINED else {} for name in EVERY}


@pytest.fixture(scope="module", params=EVERY)
def model(request: pytest.FixtureRequest, shared: Path) -> AnomalyModel:
    return fitted_once(request.param, shared)


def predict(model: AnomalyModel, images: Tensor) -> Prediction:
    with torch.inference_mode():
        return model(images)


def test_the_tests_run_over_every_registered_algorithm() -> None:
    assert set(EVERY) == set(REGISTERED)


def test_an_image_alone_scores_as_in_a_batch(model: AnomalyModel) -> None:
    images = torch.cat([batch(3, first=90), spotted(2)])
    together = predict(model, images)
    alone = [predict(model, image[None]) for image in images]

    assert torch.allclose(torch.cat([p.score for p in alone]), together.score, rtol=1e-4, atol=1e-5)
    assert torch.allclose(
        torch.cat([p.anomaly_map for p in alone]), together.anomaly_map, rtol=1e-4, atol=1e-4
    )


def test_the_order_of_calls_changes_nothing(model: AnomalyModel) -> None:
    images = torch.cat([batch(2, first=90), spotted(2)])
    forward = [predict(model, p[None]).score.item() for p in images]
    backward = [predict(model, p[None]).score.item() for p in images.flip(0)]
    assert forward == backward[::-1]


def test_images_are_not_changed(model: AnomalyModel) -> None:
    images = spotted(2)
    predict(model, images)
    assert torch.equal(images, spotted(2))


def test_defects_score_above_good_images(model: AnomalyModel) -> None:
    good, defective = predict(model, batch(6, first=90)), predict(model, spotted(6))
    assert defective.score.min() > good.score.max()


def test_the_map_is_highest_where_the_defect_is(model: AnomalyModel) -> None:
    anomaly_map = predict(model, spotted(1)).anomaly_map[0]
    rows, columns = anomaly_map.shape
    row, column = np.unravel_index(int(anomaly_map.argmax()), anomaly_map.shape)

    assert (rows, columns) == model.grid
    if not isinstance(model, DFKDE):  # whose map repeats the image score
        assert (row + 0.5) * SIDE / rows == pytest.approx(SIDE / 2, abs=12)
        assert (column + 0.5) * SIDE / columns == pytest.approx(20, abs=12)


# Graphs of the same parts as another's; each export compares the three runtimes itself, too.
LIKE_ANOTHER = {"cflow": "fastflow", "dfkde": "dfm", "stfpm": "reverse_distillation"}


def of_other_parts(name: str) -> Any:
    marks: tuple[pytest.MarkDecorator, ...] = ()
    if name in LIKE_ANOTHER and not times(0, 1):
        why = f"make soak runs it: its graph is made of what {LIKE_ANOTHER[name]}'s is"
        marks = (pytest.mark.skip(reason=why),)
    return pytest.param(name, marks=marks)


@pytest.mark.parametrize("model", [of_other_parts(name) for name in EVERY], indirect=True)
def test_torch_onnx_runtime_and_openvino_agree(
    model: AnomalyModel, tmp_path: Path, shared: Path
) -> None:
    images = torch.cat([batch(3, first=90), spotted(3)])
    scores = predict(model, images).score
    middle, spread = float(scores.mean()), float(scores.max() - scores.min())
    to_onnx_once(model, SIDE, SIDE, tmp_path / "model.onnx", shared=shared)
    xml, weights = ir_bytes(to_openvino(tmp_path / "model.onnx"), SIDE, SIDE)
    engines = {
        "ONNX Runtime": onnx_engine(tmp_path / "model.onnx"),
        "OpenVINO": openvino_engine(xml, weights, "f32"),
    }
    validation = Validation(images.numpy(), np.arange(6) >= 3)

    report = parity(
        torch_engine(model),
        engines,
        "OpenVINO",
        first_sight((SIDE, SIDE)),
        validation=validation,
        threshold=middle,
        spread=spread,
        budget=Budget(),
    )
    assert report.auroc_before == report.auroc_after
    assert report.verdict_flips == 0.0
    of_no_map = {"DFKDE", "DFM", "SuperSimpleNet"}
    assert (model.map_score is None) == (type(model).__name__ in of_no_map)
    if model.map_score is not None:
        for engine in (torch_engine(model), *engines.values()):
            for found in [engine(image[None])[0] for image in images.numpy()[2:4]]:
                assert over_everything(model, found.anomaly_map) == pytest.approx(
                    found.score, rel=1e-5, abs=1e-5 * spread
                )


def over_everything(model: AnomalyModel, anomaly_map: NDArray[np.float32]) -> float:
    """Return the score of a zone that holds the whole image."""
    corners = ((0, 0), (SIDE, 0), (SIDE, SIDE), (0, SIDE))
    areas = Areas(width=SIDE, height=SIDE, zones=(Zone(name="all", polygon=corners),))
    spec = first_sight((SIDE, SIDE), areas=areas)
    whole, shape = Box(0, 0, SIDE, SIDE), anomaly_map.shape
    counted = counted_areas(spec, (SIDE, SIDE), whole, score=model.map_score, map_shape=shape)
    return common_score(counted.scores(anomaly_map[None])).score


# No side is a multiple of eight.
SIZES = [(63, 71), (66, 57)][: times(1, 2)]


@pytest.mark.parametrize("algorithm", EVERY)
@pytest.mark.parametrize("size", SIZES)
def test_a_change_at_any_edge_changes_map_and_score(algorithm: str, size: tuple[int, int]) -> None:
    good = batch(4, size=size)
    # Untrained, these two err most somewhere inside, whatever happens at an edge.
    epochs = {"epochs": 4} if algorithm in ("cflow", "stfpm") else ONE_EPOCH[algorithm]
    model = fitted(algorithm, good, **epochs)
    before = predict(model, good[:1])

    for edge, place in EDGES.items():
        # A peak elsewhere may hide one kind of strip, not all of them.
        changed = good[:1].repeat(len(STRIPS), 1, 1, 1)
        for image, strip in zip(changed, STRIPS, strict=True):
            image[place] = strip(image[place])
        after = predict(model, changed)
        assert ((after.anomaly_map - before.anomaly_map).abs().amax((1, 2)) > 1e-6).all(), edge
        assert ((after.score - before.score).abs() > 1e-4 * before.score.abs()).any(), edge


@pytest.mark.parametrize("algorithm", EVERY)
def test_two_fits_give_the_same_numbers_to_the_last_bit(algorithm: str, shared: Path) -> None:
    if times(0, 1):
        one, other = fitted_once(algorithm, shared), fitted(algorithm)
    else:  # two epochs draw whatever all of them do
        epochs = {"epochs": 2} if algorithm in TRAINED else {}
        one, other = (fitted(algorithm, batch(4), **epochs) for _ in range(2))
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@cache
def fitted_to_two(algorithm: str) -> tuple[AnomalyModel, bool]:
    """Return a model of two images, and whether its fit left the global random state alone."""
    before = torch.random.get_rng_state()
    model = fitted(algorithm, batch(2), **ONE_EPOCH[algorithm])
    return model, torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("algorithm", EVERY)
def test_fitting_changes_neither_the_backbone_nor_the_global_random_state(
    algorithm: str,
) -> None:
    model, left_alone = fitted_to_two(algorithm)
    assert left_alone
    if model.extractor is not None:
        weights = small_weights()
        found = model.extractor.body.state_dict()
        assert all(torch.equal(tensor, weights[name]) for name, tensor in found.items())


@pytest.mark.parametrize("algorithm", EVERY)
@pytest.mark.parametrize("count", [1, 2])
def test_a_few_images_are_enough_to_fit_on(algorithm: str, count: int) -> None:
    model = fitted_to_two(algorithm)[0]
    if count == 1:
        model = fitted(algorithm, batch(1), **ONE_EPOCH[algorithm])
    prediction = predict(model, spotted(2))
    assert prediction.score.isfinite().all()
    assert prediction.anomaly_map.isfinite().all()


@pytest.mark.parametrize("algorithm", EVERY)
def test_an_input_twice_as_wide_as_high_has_a_map_of_its_shape(algorithm: str) -> None:
    size = (SIDE, 2 * SIDE)
    model = fitted(algorithm, batch(4, size=size), **ONE_EPOCH[algorithm])
    found = predict(model, batch(2, size=size))
    rows, columns = model.grid
    assert found.score.isfinite().all()
    assert found.anomaly_map.shape == (2, rows, columns)
    assert columns == (1 if algorithm == "dfkde" else 2 * rows)  # which has no map


# Without any variance DFKDE has no component to put a density on.
@pytest.mark.parametrize("algorithm", [name for name in STATISTICAL if name != "dfkde"])
def test_equal_images_are_no_reason_to_fail(algorithm: str) -> None:
    model = fitted(algorithm, batch(1).repeat(5, 1, 1, 1))
    assert predict(model, spotted(1)).score.item() > predict(model, batch(1)).score.item()


@pytest.mark.parametrize("algorithm", ["padim", "patchcore"])
def test_an_image_that_was_learned_has_no_distance(algorithm: str) -> None:
    model = fitted(algorithm, batch(1).repeat(5, 1, 1, 1))
    assert predict(model, batch(1)).score.item() == pytest.approx(0.0, abs=0.05)
    assert predict(model, spotted(1)).score.item() > 0.2


@pytest.mark.parametrize("algorithm", STATISTICAL)
def test_memory_is_stated_before_the_fit_and_finish_steps_add_up(algorithm: str) -> None:
    model = unfitted(algorithm)
    assert isinstance(model, StatisticalModel)
    assert model.fit_memory_bytes() > 0
    with torch.inference_mode():
        model.accumulate(batch(3))
        steps: list[int] = []
        expected = model.finish_steps()
        model.finish(steps.append)
    assert sum(steps) == expected


@pytest.mark.parametrize("algorithm", ["dfkde", "dfm", "padim"])
def test_the_fit_does_not_depend_on_the_batching(algorithm: str) -> None:
    one, six = unfitted(algorithm), unfitted(algorithm)
    assert isinstance(one, StatisticalModel)
    assert isinstance(six, StatisticalModel)
    with torch.inference_mode():
        for image in batch(6).split(1):
            one.accumulate(image)
        six.accumulate(batch(6))
        one.finish()
        six.finish()
    scores = predict(one, spotted(3)).score
    assert torch.allclose(scores, predict(six, spotted(3)).score, rtol=1e-3)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_mvtec(folder / "parts", train=6, good=2, defective=2)
    write_weights(folder / "weights.safetensors")
    return folder


def fit_config(parts: Path, algorithm: str, **changes: object) -> FitConfig:
    return FitConfig.model_validate(
        {
            "data": parts / "parts",
            "algorithm": algorithm,
            "backbone": "small",
            "weights": str(parts / "weights.safetensors"),
            "image_size": SIDE,
            "hyperparameters": {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in {**FEW[algorithm], **ONE_EPOCH[algorithm]}.items()
            },
            **changes,
        }
    )


def assert_it_comes_back(checkpoint: Checkpoint, path: Path) -> None:
    save_checkpoint(path, checkpoint)
    loaded = load_checkpoint(path)
    again = predict(loaded.model, spotted(3))
    expected = predict(checkpoint.model, spotted(3))
    assert torch.equal(again.score, expected.score)
    assert torch.equal(again.anomaly_map, expected.anomaly_map)
    assert loaded.description == checkpoint.description


# Of the others a checkpoint of tiles comes back below.
WHOLE = EVERY if times(0, 1) else (*(n for n in EVERY if n not in TILEABLE), "ganomaly", "stfpm")


@pytest.mark.parametrize("algorithm", WHOLE)
def test_a_checkpoint_comes_back_as_it_was(parts: Path, tmp_path: Path, algorithm: str) -> None:
    checkpoint = fit_checkpoint(fit_config(parts, algorithm))
    assert checkpoint.description.map_height == checkpoint.model.grid[0]
    needs_backbone = checkpoint.model.needs_backbone
    assert checkpoint.description.backbone == ("small" if needs_backbone else NO_BACKBONE)
    assert_it_comes_back(checkpoint, tmp_path / "part.safetensors")


@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [
        ("padim", {"covariance": "full"}),
        ("padim", {"covariance": "diagonal"}),
        ("dfm", {"score": "nll"}),
        ("dfkde", {"layers": ["layer2"], "normalization": "norm"}),
    ],
)
def test_a_checkpoint_of_another_variant_comes_back_too(
    parts: Path, tmp_path: Path, algorithm: str, settings: dict[str, object]
) -> None:
    checkpoint = fit_checkpoint(fit_config(parts, algorithm, hyperparameters=settings))
    assert_it_comes_back(checkpoint, tmp_path / "part.safetensors")


@pytest.mark.parametrize("algorithm", EVERY)
def test_tiles_are_learned_where_positions_do_not_matter_and_refused_elsewhere(
    parts: Path, tmp_path: Path, algorithm: str
) -> None:
    config = fit_config(parts, algorithm, tile=64)
    if algorithm in TILEABLE:
        checkpoint = fit_checkpoint(config)
        assert checkpoint.description.input.tile_plan is not None
        assert_it_comes_back(checkpoint, tmp_path / "part.safetensors")
    else:
        with pytest.raises(SettingError, match=rf"{algorithm} .* cannot be tiled"):
            fit_checkpoint(config)


def stage_features(images: Tensor) -> dict[str, Tensor]:
    """Run the small backbone by hand on prepared images."""
    network = build_backbone("small")
    network.load_state_dict(small_weights())
    network.eval()
    rgb = images.numpy()[..., ::-1].astype(np.float32) / 255.0
    mean = np.array([0.485, 0.456, 0.406], np.float32)
    normal = (rgb - mean) / np.array([0.229, 0.224, 0.225], np.float32)
    with torch.inference_mode():
        maps = network.get_submodule("stem")(torch.from_numpy(normal.transpose(0, 3, 1, 2).copy()))
        found = {}
        for name in ("layer1", "layer2", "layer3"):
            maps = network.get_submodule(name)(maps)
            found[name] = maps
    return found


def padim_vectors(images: Tensor, model: PaDiM) -> np.ndarray:
    stages = stage_features(images)
    rows, columns = stages["layer1"].shape[2:]
    joined = []
    for name in ("layer1", "layer2", "layer3"):
        values = stages[name].numpy()
        factor = rows // values.shape[2]
        joined.append(values.repeat(factor, 2).repeat(factor, 3))
    vectors = np.concatenate(joined, 1)[:, model.channels.numpy()]
    return vectors.reshape(len(images), vectors.shape[1], rows * columns).astype(np.float64)


def test_padim_computes_its_formulas() -> None:
    model = fitted("padim")
    assert isinstance(model, PaDiM)
    good, probe = padim_vectors(batch(7), model), padim_vectors(spotted(2), model)
    distances = np.empty((2, good.shape[2]))
    for position in range(good.shape[2]):
        samples = good[:, :, position]
        covariance = np.cov(samples, rowvar=False) + (0.01 + 1e-5) * np.eye(samples.shape[1])
        inverse = np.linalg.inv(covariance)
        for image in range(2):
            difference = probe[image, :, position] - samples.mean(0)
            distances[image, position] = np.sqrt(difference @ inverse @ difference)
    grid = torch.from_numpy(distances.reshape(2, *model.grid)).float()
    smooth = GaussianSmoothing(model.grid, (SIDE, SIDE))
    found = predict(model, spotted(2))

    assert found.score.numpy() == pytest.approx(smooth(grid).amax((1, 2)).numpy(), rel=1e-3)
    assert found.anomaly_map.numpy() == pytest.approx(smooth.at_grid(grid).numpy(), rel=1e-3)


def test_diagonal_padim_computes_its_formulas() -> None:
    model = fitted("padim", covariance="diagonal")
    assert isinstance(model, PaDiM)
    good, probe = padim_vectors(batch(7), model), padim_vectors(spotted(2), model)
    variance = good.var(0, ddof=1) + 0.01 + 1e-5
    distances = np.sqrt(((probe - good.mean(0)) ** 2 / variance).sum(1))
    grid = torch.from_numpy(distances.reshape(2, *model.grid)).float()
    smooth = GaussianSmoothing(model.grid, (SIDE, SIDE))
    found = predict(model, spotted(2))

    assert found.score.numpy() == pytest.approx(smooth(grid).amax((1, 2)).numpy(), rel=1e-3)
    full = fitted("padim", covariance="full")
    assert isinstance(full, PaDiM)
    assert model.whitening.numel() * model.width == full.whitening.numel()


def dfm_vectors(images: Tensor) -> np.ndarray:
    return stage_features(images)["layer3"].flatten(1).double().numpy()


def test_dfm_computes_its_formulas(shared: Path) -> None:
    good, probe = dfm_vectors(batch(7)), dfm_vectors(spotted(2))
    _, lengths, axes = np.linalg.svd(good - good.mean(0), full_matrices=False)
    shares = np.cumsum(lengths**2) / np.sum(lengths**2)
    kept = int(np.searchsorted(shares, 0.97)) + 1
    coordinates = (probe - good.mean(0)) @ axes[:kept].T
    residual = probe - good.mean(0) - coordinates @ axes[:kept]
    deviations = lengths[:kept] / np.sqrt(6)
    likelihood = ((coordinates / deviations) ** 2).sum(1) + 2 * np.log(deviations).sum()

    model = fitted_once("dfm", shared)
    assert isinstance(model, DFM)
    assert model.axes.shape == (kept, good.shape[1])
    found = predict(model, spotted(2))
    assert found.score.numpy() == pytest.approx((residual**2).mean(1), rel=1e-3)
    by_cell = (residual**2).reshape(2, -1, *model.grid).mean(1)
    assert found.anomaly_map.numpy() == pytest.approx(by_cell, rel=1e-3)
    found = predict(fitted("dfm", score="nll"), spotted(2))
    assert found.score.numpy() == pytest.approx(likelihood, rel=1e-3)


def test_dfm_averages_every_feature_of_an_odd_grid() -> None:
    images = batch(2, size=(63, 71))
    model = unfitted("dfm", (63, 71), layers=("layer2",), pooling=2)
    assert isinstance(model, DFM)
    features = model.extractor(images)[0]
    assert (features.shape[2:], model.grid) == ((8, 9), (4, 5))
    cells = model.embed(images).unflatten(1, (model.channels, *model.grid))
    assert torch.allclose(cells.mean((2, 3)), features.mean((2, 3)), atol=1e-5)
    # The second of five cells over nine columns: from 1.8 to 3.6.
    columns = features[:, :, :2].mean(2)
    second = (0.2 * columns[:, :, 1] + columns[:, :, 2] + 0.6 * columns[:, :, 3]) / 1.8
    assert torch.allclose(cells[:, :, 0, 1], second, atol=1e-5)


def test_padim_keeps_a_fixed_random_choice_of_channels() -> None:
    first, second = unfitted("padim"), unfitted("padim")
    assert isinstance(first, PaDiM)
    assert isinstance(second, PaDiM)
    assert torch.equal(first.channels, second.channels)
    assert len(set(first.channels.tolist())) == 12
    everything = unfitted("padim", feature_count=10_000)
    assert isinstance(everything, PaDiM)
    assert everything.channels.tolist() == list(range(32 + 64 + 128))


def test_padim_warns_when_images_are_fewer_than_channels(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fitted("padim", batch(5))
    assert "5 good images for 12 channels" in caplog.text


def patchcore_vectors(images: Tensor) -> np.ndarray:
    stages = stage_features(images)
    pooled = [
        F.avg_pool2d(stages[name], 3, stride=1, padding=1, count_include_pad=True)
        for name in ("layer2", "layer3")
    ]
    size = pooled[0].shape[2:]
    deeper = F.interpolate(pooled[1], size=size, mode="bilinear", align_corners=False)
    vectors = torch.cat([pooled[0], deeper], 1)
    return vectors.permute(0, 2, 3, 1).flatten(1, 2).double().numpy()


def test_a_bank_of_one_vector_has_no_components() -> None:
    with pytest.raises(SettingError, match="a single vector has no components"):
        fitted("patchcore", bank_size=1)
    found = predict(fitted("patchcore", bank_size=1, variance=1.0), spotted(2))
    assert torch.isfinite(found.score).all()


@pytest.mark.parametrize("neighbours", [1, 3, 9])
def test_patchcore_computes_its_formulas(neighbours: int) -> None:
    model = fitted("patchcore", variance=1.0, score="reweighted", sigma=4.0, neighbours=neighbours)
    assert isinstance(model, PatchCore)
    bank = (model.bank + model.bank_centre).double().numpy()
    found = predict(model, spotted(2))
    for image, patches in enumerate(patchcore_vectors(spotted(2))):
        distances = np.linalg.norm(patches[:, None] - bank[None], axis=2)
        nearest = distances.min(1)
        worst = int(nearest.argmax())
        star = int(distances[worst].argmin())
        around = np.linalg.norm(bank - bank[star], axis=1).argsort()[:neighbours]
        weight = 1.0
        if neighbours > 1:
            weight -= np.exp(nearest[worst]) / np.exp(distances[worst, around]).sum()
        grid = torch.from_numpy(nearest.reshape(1, *model.grid)).float()
        smooth = GaussianSmoothing(model.grid, (SIDE, SIDE)).at_grid(grid)[0]

        assert found.score[image].item() == pytest.approx(weight * nearest[worst], rel=1e-3)
        assert found.anomaly_map[image].numpy() == pytest.approx(smooth.numpy(), rel=1e-3)


def test_the_bank_of_patchcore_holds_patches_of_good_images_and_keeps_its_bound() -> None:
    model = fitted("patchcore", bank_size=20, variance=1.0)
    assert isinstance(model, PatchCore)
    assert model.bank.shape == (20, 64 + 128)
    patches = patchcore_vectors(batch(7)).reshape(-1, 64 + 128)
    bank = (model.bank + model.bank_centre).double().numpy()
    distances = np.linalg.norm(patches[:, None] - bank[None], axis=2).min(0)
    assert distances.max() < 1e-4


def test_fewer_patches_than_the_bank_may_hold_are_all_kept() -> None:
    model = fitted("patchcore", batch(2), bank_size=5000, search_block=1)
    assert isinstance(model, PatchCore)
    assert len(model.bank) == 2 * model.grid[0] * model.grid[1]
    assert predict(model, batch(2)).score.numpy() == pytest.approx(0.0, abs=0.01)


def test_a_reduced_bank_keeps_its_share_of_variance_and_measures_along_its_components() -> None:
    whole = fitted("patchcore", variance=1.0)
    model = fitted("patchcore", search_components=1000, search_block=1)
    assert isinstance(whole, PatchCore)
    assert isinstance(model, PatchCore)
    axes, bank = model.axes.double().numpy(), model.bank.double().numpy()

    assert bank.shape[1] < 0.6 * whole.bank.shape[1]
    assert axes.T @ axes == pytest.approx(np.eye(axes.shape[1]), abs=1e-5)
    assert 0.99 <= float(model.bank.square().sum() / whole.bank.square().sum()) < 1.0
    found = predict(model, spotted(2))
    for image, patches in enumerate(patchcore_vectors(spotted(2))):
        along = (patches - model.bank_centre.double().numpy()) @ axes
        nearest = np.linalg.norm(along[:, None] - bank[None], axis=2).min(1)
        assert found.anomaly_map[image].numpy() == pytest.approx(smooth(model, nearest), rel=1e-3)


def smooth(model: PatchCore, distances: np.ndarray) -> np.ndarray:
    grid = torch.from_numpy(distances.reshape(1, *model.grid)).float()
    image = (8 * model.grid[0], 8 * model.grid[1])
    smoothing = GaussianSmoothing(model.grid, image, model.settings.sigma)
    return smoothing.at_grid(grid)[0].numpy()


@pytest.mark.parametrize(("components", "candidates", "side"), [(5, 1, 1), (2, 3, 1), (4, 3, 2)])
def test_patchcore_seeks_along_its_first_components_and_measures_along_all_it_keeps(
    components: int, candidates: int, side: int
) -> None:
    size = (SIDE, SIDE) if side == 1 else (160, 160)
    model = fitted(
        "patchcore",
        batch(7, size=size),
        bank_size=64,
        search_components=components,
        search_candidates=candidates,
        search_block=side,
    )
    assert isinstance(model, PatchCore)
    axes, bank = model.axes.double().numpy(), model.bank.double().numpy()
    assert bank.shape[1] > components
    height, width = model.grid
    found = predict(model, spotted(2, side=size[0]))
    for image, patches in enumerate(patchcore_vectors(spotted(2, side=size[0]))):
        along = (patches - model.bank_centre.double().numpy()) @ axes
        grid = along.reshape(height // side, side, width // side, side, -1)
        blocks = grid.swapaxes(1, 2).reshape(-1, side**2, along.shape[1])
        middles = blocks.mean(1)[:, :components]
        order = nearest_of_groups(middles, bank[:, :components], candidates + 1)
        measured = np.linalg.norm(blocks[:, :, None] - bank[order][:, None], axis=3)
        nearness = np.square(middles[:, None] - bank[order, :components]).sum(2)
        share = np.square(bank[:, :components]).sum(1).mean() / 2048
        tie = np.clip(1.0 - (nearness[:, -1] - nearness[:, -2]) / share, 0.0, 1.0)[:, None]
        shortest = measured[:, :, :-1].min(2)
        distances = shortest + tie * (measured.min(2) - shortest)
        cells = distances.reshape(height // side, width // side, side, side)
        cells = cells.swapaxes(1, 2).reshape(-1)
        assert (cells > np.linalg.norm(along[:, None] - bank[None], axis=2).min(1) + 1e-3).any()
        assert found.anomaly_map[image].numpy() == pytest.approx(smooth(model, cells), rel=1e-3)


@pytest.mark.parametrize("candidates", [1, 2])
def test_rounding_does_not_decide_between_two_vectors_that_are_equally_near(
    candidates: int,
) -> None:
    model = fitted("patchcore", search_components=2, search_candidates=candidates, search_block=1)
    assert isinstance(model, PatchCore)
    width = model.bank.shape[1]
    patch = torch.zeros(1, width, 1, 1)
    bank = torch.zeros(candidates + 1, width)
    bank[0, 0], bank[1, 0], bank[1, 2] = 1.0, -1.0, 3.0  # alike but for a component not sought by
    if candidates == 2:
        bank[2, 2] = 5.0  # the nearest by these, and far away

    def distance(shift: float) -> float:
        patch[0, 0] = shift
        return float(model.measure(patch, bank)[0])

    assert distance(-1e-7) == pytest.approx(distance(1e-7), rel=0.01)
    assert distance(0.0) == pytest.approx(1.0)
    assert distance(0.1) == pytest.approx(0.9)
    assert distance(-0.1) == pytest.approx((0.9**2 + 9) ** 0.5)


def test_rounding_does_not_measure_a_patch_that_the_bank_holds() -> None:
    """As of a saturated corner: what is left when two large numbers are subtracted is rounding."""
    model = fitted("patchcore")
    assert isinstance(model, PatchCore)
    generator = torch.Generator().manual_seed(0)
    bank = torch.randn(64, model.bank.shape[1], generator=generator)
    grid = bank[:49].T.reshape(1, -1, 7, 7)
    length = float(bank.square().sum(1).sqrt().max())
    exact = model.measure(grid.double(), bank.double())[0].numpy()
    assert exact.max() < 0.002 * length
    found = model.measure(grid, bank)[0].numpy()
    assert found == pytest.approx(exact, abs=1e-5 * length)


def test_of_the_candidates_the_one_nearest_along_all_components_counts() -> None:
    model = fitted(
        "patchcore",
        search_components=1,
        search_candidates=2,
        score="reweighted",
    )
    assert isinstance(model, PatchCore)
    bank = torch.zeros(3, model.bank.shape[1])
    bank[:, 0] = torch.tensor([0.0, 1.0, 2.0])
    bank[0, 1] = 5.0
    distances, nearest = model.measure(torch.zeros(1, bank.shape[1], 1, 1), bank)
    assert float(distances) == pytest.approx(1.0)
    assert int(nearest) == 1


def test_the_score_of_patchcore_is_the_mean_of_the_highest_hundredth_of_its_map() -> None:
    model = fitted("patchcore", batch(3, size=(160, 160)))
    found = predict(model, spotted(2, side=160))
    cells = found.anomaly_map.flatten(1).numpy()
    count = round(0.01 * cells.shape[1])
    assert count > 1
    assert found.score.numpy() == pytest.approx(np.sort(cells)[:, -count:].mean(1), rel=1e-5)


@pytest.mark.parametrize("algorithm", ["patchcore", "dfm"])
@pytest.mark.parametrize("share", [0.0, -0.5, 1.5])
def test_a_share_is_more_than_nothing_and_no_more_than_all(algorithm: str, share: float) -> None:
    with pytest.raises(SettingError, match=rf"{algorithm}\.variance: found {share}.*above 0"):
        unfitted(algorithm, variance=share)


def test_each_bank_vector_is_its_own_first_neighbour_also_among_duplicates() -> None:
    model = fitted("patchcore", batch(1).repeat(4, 1, 1, 1), bank_size=100)
    assert isinstance(model, PatchCore)
    assert model.bank_neighbours[:, 0].tolist() == list(range(len(model.bank)))


def test_an_unknown_algorithm_is_refused_with_those_that_exist() -> None:
    with pytest.raises(SettingError, match=r"'patchcor' does not exist\. .*padim, patchcore"):
        find_algorithm("patchcor")


def test_an_entry_point_adds_an_algorithm_that_is_imported_when_it_is_used() -> None:
    point = EntryPoint("mine", "not_there.my_model:MyModel", "inspection_station.algorithms")
    (added,) = plug_ins([point]).values()
    assert added == Algorithm("mine", "not_there.my_model", "MyModel", point.value)
    with pytest.raises(SettingError, match=r"'mine' .*No module named 'not_there'.*Install what"):
        added.model_class()


def test_a_name_that_two_packages_give_is_refused() -> None:
    point = EntryPoint("padim", "my_package.my_model:MyModel", "inspection_station.algorithms")
    with pytest.raises(SettingError, match=r"'padim' comes both with inspection-station and with"):
        plug_ins([point])


def test_efficientad_waits_for_the_word_that_its_patents_are_cleared() -> None:
    with pytest.raises(SettingError, match=r"patents of MVTec .*patents_cleared=true"):
        unfitted("efficientad", patents_cleared=False)


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [("padim", "covariance"), ("dfm", "score"), ("dfkde", "normalization"), ("ganomaly", "score")],
)
def test_a_choice_that_does_not_exist_is_refused_with_those_that_do(
    algorithm: str, name: str
) -> None:
    other: dict[str, Any] = {name: "other"}
    with pytest.raises(SettingError, match=rf"{algorithm}\.{name}: found 'other'. There are: \w+,"):
        unfitted(algorithm, **other)


def test_an_unknown_hyperparameter_is_refused_with_those_that_exist() -> None:
    with pytest.raises(SettingError, match=r"no hyperparameter 'bank'.*bank_size \(4096\)"):
        make_settings("patchcore", {"bank": 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bank_size", 0),
        ("bank_size", True),
        ("bank_size", 10.0),
        ("bank_size", "many"),
        ("bank_size", 10**15),
        ("neighbours", -1),
        ("layers", 3),
        ("layers", [1, 2]),
    ],
)
def test_a_hyperparameter_of_another_kind_is_refused(name: str, value: object) -> None:
    with pytest.raises(SettingError, match=rf"patchcore\.{name}: found .*give"):
        make_settings("patchcore", {name: value})


@pytest.mark.parametrize("value", ["layer1, layer2", ["layer1", "layer2"]])
def test_layers_may_be_a_list_or_separated_by_commas(value: object) -> None:
    assert make_settings("patchcore", {"layers": value}).layers == ("layer1", "layer2")


def test_random_weights_never_stand_in_for_a_layer_without_tensors_of_its_own(
    tmp_path: Path,
) -> None:
    from training.components.backbones import Weights
    from training.errors import WeightsError
    from training.models.building import build_model

    settings = make_settings("patchcore", {"layers": ["layer1.0.relu"]})
    with pytest.raises(WeightsError, match=r"lack 'conv1\.weight'"):
        build_model("patchcore", "resnet18", Weights({}, ""), (64, 64), settings=settings, seed=0)
