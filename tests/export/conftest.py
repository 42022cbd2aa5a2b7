"""One checkpoint of each algorithm and its bundle; tests only read them."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from export import bundle as bundles
from export import variants
from export.cli import main as export_model
from tests.soak import times
from tests.support.once import openvino_engine_once, to_onnx_once
from tests.support.shared_files import done_once
from tests.support.small_training import ALGORITHMS, write_mvtec, write_weights
from training.cli import main as train_station


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def converted_once(shared: Path) -> Iterator[None]:
    """Exports begin with a conversion that takes longer than the rest of most tests.

    Most of the rest is compiling: of one graph for one image and for several, in each gate.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundles, "to_onnx", partial(to_onnx_once, shared=shared))
        for module in (bundles, variants):
            patch.setattr(module, "openvino_engine", openvino_engine_once)
        yield


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mvtec(tmp_path_factory.mktemp("data") / "slopes", train=10)


@pytest.fixture(scope="session")
def fit_once(
    tmp_path_factory: pytest.TempPathFactory, data: Path, shared: Path
) -> Callable[[str], Path]:
    """Return a function that gives the checkpoint of an algorithm, fitted at the first call."""
    folder = tmp_path_factory.mktemp("checkpoint")
    weights = write_weights(folder / "small.safetensors")

    def fit(algorithm: str, output: Path) -> None:
        options = {
            "--algorithm": algorithm,
            "--data": data,
            "--backbone": "small",
            "--weights": weights,
            "--image-size": 64,
            "--validate-on": "test",
            "--set": {"padim": "feature_count=10", "patchcore": "bank_size=40"}[algorithm],
            "-o": output,
        }
        words = [str(part) for item in options.items() for part in item]
        assert train_station(["fit", "--no-report", *words]) == 0

    def fitted(algorithm: str) -> Path:
        return done_once(shared, f"export-{algorithm}.safetensors", partial(fit, algorithm))

    return fitted


@pytest.fixture(scope="session", params=ALGORITHMS[-times(1, 2) :])
def checkpoint(request: pytest.FixtureRequest, fit_once: Callable[[str], Path]) -> Path:
    return fit_once(request.param)


@pytest.fixture(scope="session")
def any_checkpoint(fit_once: Callable[[str], Path]) -> Path:
    """One checkpoint, where the export does the same for every algorithm."""
    return fit_once("patchcore")


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "slopes.xml"
    assert export_model([str(checkpoint), "--precision", "fp32", "-o", str(path)]) == 0
    return path
