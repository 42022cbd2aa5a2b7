"""The self-test: golden images are the same everywhere, other numbers are refused by name."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.bundle.loading import Bundle, load_bundle
from edge.bundle.manifest import GoldenScore, Manifest
from edge.inspection.detector import CompiledModel, Detector, RunPlan
from edge.inspection.self_test import SelfTestFailed, golden_images, golden_scores, self_test
from tests.support.small_bundle import write_bundle

DEMO = Path(__file__).parents[3] / "configs" / "demo" / "bottle.xml"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(write_bundle(tmp_path_factory.mktemp("bundle")))


@pytest.fixture(scope="module")
def detector(small: Bundle) -> Detector:
    return Detector(CompiledModel(small))


@pytest.fixture(scope="module")
def golden(detector: Detector, small: Bundle) -> tuple[GoldenScore, ...]:
    return golden_scores(detector, small.manifest)


def expecting(bundle: Bundle, *scores: GoldenScore) -> Manifest:
    return bundle.manifest.model_copy(update={"self_test": scores})


def test_golden_images_are_these_bytes_on_every_machine() -> None:
    digest = hashlib.sha256()
    for name, image in golden_images(48, 80).items():
        assert image.shape == (48, 80, 3)
        assert image.dtype == np.uint8
        digest.update(name.encode() + image.tobytes())
    assert digest.hexdigest() == "34db6e5a484a029f68e32ae2943eddb54cc93948a9eb6eb969ed6049577630e6"


@pytest.mark.parametrize(("height", "width"), [(16, 16), (64, 64), (256, 96), (1, 1)])
def test_golden_images_differ_and_are_well_exposed(height: int, width: int) -> None:
    images = golden_images(height, width)
    for image in images.values():
        assert image.min() > 0
        assert image.max() < 255
    if height > 1:
        assert len({image.tobytes() for image in images.values()}) == len(images)


def test_a_model_passes_by_its_own_golden_scores(
    detector: Detector, small: Bundle, golden: tuple[GoldenScore, ...]
) -> None:
    assert [one.image for one in golden] == ["ramp", "squares", "noise", "spot"]
    assert len({one.score for one in golden}) == 4
    self_test(detector, expecting(small, *golden))


@pytest.mark.parametrize(
    "plan",
    [RunPlan(), RunPlan(streams=2), RunPlan(batch=3, streams=2), RunPlan(threads=1)],
    ids=str,
)
def test_the_demo_bundle_passes_however_the_pc_runs_it(plan: RunPlan) -> None:
    bundle = load_bundle(DEMO)
    assert len(bundle.manifest.self_test) == 4
    self_test(Detector(CompiledModel(bundle, plan=plan), plan.streams), bundle.manifest)


@pytest.mark.parametrize("part", ["score", "map_peak"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_number_just_outside_its_tolerance_is_refused_by_name(
    detector: Detector, small: Bundle, golden: tuple[GoldenScore, ...], part: str, sign: int
) -> None:
    first, second, *others = golden
    outside: dict[str, Any] = {part: getattr(second, part) + sign * 1.1 * second.tolerance}
    moved = second.model_copy(update=outside)
    with pytest.raises(SelfTestFailed) as raised:
        self_test(detector, expecting(small, first, moved, *others))
    message = str(raised.value)
    assert "'squares'" in message
    assert part.replace("_", " ") in message
    assert f"{outside[part]:.6g}" in message
    assert f"{getattr(second, part):.6g}" in message
    assert "again" in message
    assert raised.value.exit_code == 78


def test_a_number_just_inside_its_tolerance_passes(
    detector: Detector, small: Bundle, golden: tuple[GoldenScore, ...]
) -> None:
    moved = [g.model_copy(update={"score": g.score + 0.9 * g.tolerance}) for g in golden]
    self_test(detector, expecting(small, *moved))


def test_arithmetic_of_another_precision_is_noticed() -> None:
    bundle = load_bundle(DEMO)
    precision = bundle.manifest.precision.model_copy(update={"inference": "bf16"})
    other = bundle.manifest.model_copy(update={"precision": precision})
    detector = Detector(CompiledModel(replace(bundle, manifest=other)))
    found = golden_scores(detector, bundle.manifest)
    if [one.score for one in found] == [one.score for one in bundle.manifest.self_test]:
        pytest.skip("this processor computes bf16 as f32")
    with pytest.raises(SelfTestFailed):
        self_test(detector, bundle.manifest)


def test_numbers_that_are_not_finite_are_refused_even_without_golden_scores(
    small: Bundle,
) -> None:
    class Broken(Detector):
        """The real detector on a PC that computes nonsense."""

        def predict_all(self, count: int, fill: Any) -> Any:
            predictions = super().predict_all(count, fill)
            predictions.anomaly_maps[1] = np.nan
            return predictions

    with pytest.raises(SelfTestFailed, match=r"'squares'.*not finite"):
        self_test(Broken(CompiledModel(small)), small.manifest)


def test_a_bundle_without_golden_scores_is_tested_for_finite_numbers(
    detector: Detector, small: Bundle
) -> None:
    assert small.manifest.self_test == ()
    self_test(detector, small.manifest)


def test_a_golden_image_that_this_version_does_not_have_is_refused(
    detector: Detector, small: Bundle
) -> None:
    moon = GoldenScore(image="moon", score=1.0, map_peak=1.0, tolerance=1.0)
    with pytest.raises(SelfTestFailed, match=r"'moon'.*Export the model again"):
        self_test(detector, expecting(small, moon))
