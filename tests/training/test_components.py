"""Building blocks: each against its formula, its reference or its bound."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import gaussian_kde
from torch import Tensor, nn

from tests.soak import times
from tests.support.small_training import small_weights
from training import components
from training.components import (
    PCA,
    CouplingFlow,
    GaussianKDE,
    RunningDiagonalGaussian,
    SparseRandomProjection,
    build_backbone,
    fresh_copy,
    perlin_noise,
)
from training.models.cflow import position_code


def random_vectors(count: int, width: int, seed: int = 0) -> Tensor:
    """Return vectors with a mean, and with less and less variance from axis to axis."""
    random = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=random) * 0.7 ** torch.arange(width)[:, None]
    return torch.randn(count, width, generator=random) @ mixing + 5.0


def test_every_component_can_be_imported_by_its_name() -> None:
    assert set(components.__all__) == set(components._HOMES)
    for name in components.__all__:
        assert getattr(components, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'KCentreGreedy'"):
        _ = components.KCentreGreedy


def test_importing_one_component_does_not_load_the_others() -> None:
    script = (
        "import sys; from training.components import PCA; "
        "assert 'torchvision' not in sys.modules and 'lightning_fabric' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


@pytest.mark.parametrize("batch_size", [1, 7, 40, 200])
def test_principal_components_are_those_of_the_singular_value_decomposition(
    batch_size: int,
) -> None:
    vectors = random_vectors(120, 30)
    before = vectors.clone()
    analysis = PCA(limit=200)
    for part in vectors.split(batch_size):
        analysis.add(part)
    found = analysis.finish(share=0.95)

    points = vectors.double().numpy()
    _, lengths, axes = np.linalg.svd(points - points.mean(0), full_matrices=False)
    shares = np.cumsum(lengths**2) / np.sum(lengths**2)
    count = int(np.searchsorted(shares, 0.95)) + 1
    assert found.axes.shape == (count, 30)
    assert found.share == pytest.approx(shares[count - 1], rel=1e-6)
    assert found.mean.numpy() == pytest.approx(points.mean(0), rel=1e-6)
    assert found.deviations.numpy() == pytest.approx(lengths[:count] / np.sqrt(119), rel=1e-4)
    assert np.abs((found.axes.numpy() * axes[:count]).sum(1)) == pytest.approx(1.0, abs=1e-4)
    assert torch.equal(vectors, before)


def test_a_stream_longer_than_the_limit_gives_almost_the_same_components() -> None:
    vectors = random_vectors(2000, 40)
    limited, exact = PCA(limit=16), PCA(limit=2000)
    for part in vectors.split(50):
        limited.add(part)
        assert limited.held < 16
        assert limited.axes_held <= 16
    exact.add(vectors)
    few, all_of_them = limited.finish(max_count=4), exact.finish(max_count=4)

    assert few.deviations.numpy() == pytest.approx(all_of_them.deviations.numpy(), rel=1e-3)
    assert (few.axes * all_of_them.axes).sum(1).numpy() == pytest.approx(1.0, abs=1e-2)
    assert few.share == pytest.approx(all_of_them.share, abs=1e-3)


def test_a_share_that_the_limit_cannot_hold_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    analysis = PCA(limit=2)
    analysis.add(torch.randn(500, 20, generator=torch.Generator().manual_seed(0)))
    assert len(analysis.finish(share=0.9).axes) == 2
    assert "90.0 % were asked for" in caplog.text


@pytest.mark.parametrize("count", [1, 3])
def test_vectors_without_variance_have_one_component_of_length_zero(count: int) -> None:
    analysis = PCA()
    analysis.add(torch.ones(count, 5))
    found = analysis.finish(share=0.97)
    assert found.axes.shape == (1, 5)
    assert not found.deviations.any()
    assert found.mean.tolist() == [1.0] * 5


def test_the_density_is_that_of_scipy() -> None:
    points, probes = random_vectors(60, 4), random_vectors(20, 4, seed=1)
    before = points.clone()
    estimate = GaussianKDE()
    estimate.fit(points)
    expected = gaussian_kde(points.double().numpy().T).logpdf(probes.double().numpy().T)
    assert estimate(probes).numpy() == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert torch.equal(points, before)


def test_the_density_is_highest_amid_the_points_and_still_separates_far_ones() -> None:
    points = random_vectors(200, 3)
    estimate = GaussianKDE()
    estimate.fit(points)
    along = points.mean(0) + torch.arange(0, 2000, 100)[:, None] * torch.ones(3)
    densities = estimate(along)
    assert densities.isfinite().all()
    assert (densities.diff() < 0).all()


def test_a_sparse_random_projection_keeps_distances() -> None:
    vectors = random_vectors(40, 400)
    width = 178  # after Johnson and Lindenstrauss: 4 ln 40 / (0.125 − 0.042), up
    projection = SparseRandomProjection(400, width, seed=1)
    assert (projection.matrix == 0).float().mean() == pytest.approx(1 - 1 / 20, abs=0.01)
    pairs = torch.triu_indices(40, 40, 1)
    before = torch.cdist(vectors, vectors)[pairs[0], pairs[1]]
    projected = projection.project(vectors)
    after = torch.cdist(projected, projected)[pairs[0], pairs[1]]
    assert ((after / before).square() - 1.0).abs().max() < 0.5


def test_running_variances_are_those_of_numpy() -> None:
    vectors = random_vectors(60, 12).view(20, 3, 12)
    running = RunningDiagonalGaussian(3, 12)
    for part in vectors.split(7):
        running.add(part)
    values = vectors.double().numpy()
    assert running.mean().numpy() == pytest.approx(values.mean(0), rel=1e-6)
    assert running.variance().numpy() == pytest.approx(values.var(0, ddof=1), rel=1e-5)


def small_flow(channels: int, condition: int = 0) -> CouplingFlow:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = CouplingFlow(
            channels=channels, networks=[nn.Linear] * 3, clamp=1.9, condition_width=condition
        )
        for parameter in flow.parameters():
            nn.init.normal_(parameter, 0.0, 0.5)
    return flow.double().requires_grad_(False)


@pytest.mark.parametrize("channels", [2, 5, 8])
@pytest.mark.parametrize("condition", [0, 3])
def test_the_volume_change_of_a_flow_is_that_of_its_jacobian(channels: int, condition: int) -> None:
    flow = small_flow(channels, condition)
    random = torch.Generator().manual_seed(1)
    x = torch.randn(1, channels, dtype=torch.float64, generator=random)
    printed = (
        torch.randn(1, condition, dtype=torch.float64, generator=random) if condition else None
    )
    jacobian = torch.autograd.functional.jacobian(lambda v: flow(v[None], printed)[0][0], x[0])
    _, expected = torch.linalg.slogdet(jacobian)
    z, volume = flow(x, printed)

    assert volume.item() == pytest.approx(expected.item(), rel=1e-9)
    assert torch.allclose(flow.inverse(z, printed), x)


def test_a_flow_on_maps_counts_every_position() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = CouplingFlow(
            channels=4, networks=[lambda c, t: nn.Conv2d(c, t, 1)] * 2, clamp=2.0
        ).double()
    x = torch.randn(2, 4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    z, volume = flow(x)
    by_position = [flow(x[:, :, r : r + 1, c : c + 1])[1] for r in range(3) for c in range(5)]
    assert torch.allclose(volume, torch.stack(by_position).sum(0))
    assert torch.allclose(flow.inverse(z), x)


def test_scales_stay_within_the_clamp_however_large_the_network_answers() -> None:
    flow = small_flow(6)
    _, volume = flow(torch.full((1, 6), 1e6, dtype=torch.float64))
    assert abs(volume.item()) <= 3 * (3 + 6) * 1.9


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 8), st.integers(1, 8))
def test_perlin_noise_is_bounded_and_follows_its_generator(
    rows: int, columns: int, cells_down: int, cells_across: int
) -> None:
    def draw(seed: int) -> Tensor:
        random = torch.Generator().manual_seed(seed)
        return perlin_noise((rows, columns), (cells_down, cells_across), random)

    assert draw(0).shape == (rows, columns)
    assert draw(0).abs().max() <= 1.0 + 1e-5
    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))


def test_perlin_noise_is_smooth() -> None:
    field = perlin_noise((128, 128), (4, 4), torch.Generator().manual_seed(0))
    assert field.diff(dim=0).abs().max() < 0.1
    assert field.std() > 0.2


def test_a_fresh_copy_has_learned_nothing_and_learns_alone() -> None:
    network = build_backbone("small")
    network.load_state_dict(small_weights())
    network.requires_grad_(False)
    first, second, other = fresh_copy(network, 1), fresh_copy(network, 1), fresh_copy(network, 2)
    weight, same, different, learned = (
        one.get_parameter("layer1.main.0.weight") for one in (first, second, other, network)
    )
    assert weight.requires_grad
    assert torch.equal(weight, same)
    assert not torch.equal(weight, different)
    assert not torch.equal(weight, learned)
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_every_position_has_a_code_of_its_own() -> None:
    code = position_code(12, 9, 16).flatten(0, 1)
    assert code.abs().max() <= 1.0
    distances = torch.cdist(code, code) + 10.0 * torch.eye(len(code))
    assert distances.min() > 0.1


PEAK_MEMORY = """
import sys, torch
from tests.support.small_training import batch, small_weights
from training.components.backbones import Weights
from training.models.building import build_model, make_settings
from training.peak_memory import peak_bytes
torch.set_num_threads(1)
algorithm, side = sys.argv[1], 128
few = {
    "patchcore": {"bank_size": 64, "buffer_size": 4096},
    "padim": {"feature_count": 8},
    "dfm": {"most_components": 24, "pooling": 1, "layers": ("layer2",)},
}[algorithm]
weights = Weights(small_weights(), "none")
settings = make_settings(algorithm, few)
images = batch(4, side=side)
for count in (50, 350):
    model = build_model(algorithm, "small", weights, (side, side), settings=settings, seed=0)
    with torch.inference_mode():
        for number in range(count // 4):
            model.accumulate(images + number % 3)
        model.finish()
    del model
    print(peak_bytes() // 2**20)
"""


@pytest.mark.parametrize("algorithm", ["dfm", "padim", "patchcore"][: times(1, 3)])
def test_the_peak_memory_of_a_fit_does_not_grow_with_the_images(algorithm: str) -> None:
    """Of 350 images all vectors would take 37 MiB and more than those of 50."""
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", PEAK_MEMORY, algorithm]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    of_fifty, of_all = (int(peak) for peak in done.stdout.split())
    assert of_all - of_fifty < 25
