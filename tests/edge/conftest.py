"""Fixtures of the runtime's tests: a bundle, images, a broker, edge-run itself."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.broker import Broker
from tests.support.small_bundle import write_bundle

EdgeRun = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where stations of this test keep their journals."""
    folder = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    return folder


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``.xml`` of the small bundle."""
    return write_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that is not running yet."""
    folder = tmp_path / "broker"
    folder.mkdir()
    one = Broker(folder)
    yield one
    one.close()


@pytest.fixture
def running_broker(broker: Broker) -> Broker:
    """A broker that runs, with a subscriber to everything."""
    broker.start()
    broker.subscribe()
    return broker


def edge_run_command(*arguments: object) -> list[str]:
    return [str(Path(sys.executable).parent / "edge-run"), *map(str, arguments)]


@pytest.fixture
def edge_run() -> EdgeRun:
    """Run ``edge-run`` to its end and return what it said."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            edge_run_command(*arguments), capture_output=True, text=True, timeout=120, check=False
        )

    return run
