"""What all tests share: property tests draw the same examples on every machine."""

import gc
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings

from tests.soak import times
from tests.support import warm_start

# Workers take whole files in this order: whoever began with a long one is not alone at the end.
LONG_FILES = (
    "acceptance/test_bottle.py",
    "training/test_benchmark.py",
    "export/test_int8.py",
    "edge/hmi/test_hmi_browser.py",
    "test_telemetry.py",
    "attacks/test_page.py",
    "edge/station/test_promises.py",
    "training/test_models.py",
    "export/test_every_precision.py",
    "edge/hmi/test_hmi.py",
    "edge/cameras/test_watched_folder.py",
    "edge/mqtt/test_mqtt_relay.py",
    "training/test_components.py",
    "training/test_sweep.py",
    "training/test_plug_ins.py",
    "export/test_long_images.py",
    "export/test_bundle.py",
    "export/test_mean_correction.py",
    "training/test_gradient_fit.py",
    "training/test_bad_input.py",
    "training/test_cli.py",
    "edge/station/test_chaos.py",
    "edge/station/test_line.py",
    "edge/station/test_model_swap.py",
    "edge/hmi/test_hmi_load.py",
    "edge/cli/test_cli.py",
)

settings.register_profile(
    "same_everywhere",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=times(30, 200),
)
settings.load_profile("same_everywhere")
warm_start.install()
_PRIORITY = os.getpriority(os.PRIO_PROCESS, 0)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run have in common."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def pytest_configure(config: pytest.Config) -> None:
    """In a run of all tests share what workers load and compile.

    Each collects from another file on: what one compiled, the others need not.
    """
    worker, count = (os.environ.get(f"PYTEST_XDIST_WORKER{part}") for part in ("", "_COUNT"))
    here = Path(__file__).parent
    if [Path(part).resolve() for part in config.args] != [here]:
        return
    warm_start.load_workers()
    if worker and count:
        files = sorted(str(path) for path in here.rglob("test_*.py"))
        first = len(files) * int(worker.removeprefix("gw")) // int(count)
        config.args = files[first:] + files[:first]


def pytest_runtest_teardown() -> None:
    """Take back the priority that a command gave away which a test ran in this process.

    Teaching, tuning and the doctor let a line go first. Only root can; else this worker, and the
    stations of its later tests, stay behind the others.
    """
    if os.getpriority(os.PRIO_PROCESS, 0) == _PRIORITY:
        return
    for thread in (int(task.name) for task in Path("/proc/self/task").iterdir()):
        with suppress(PermissionError, ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, thread, _PRIORITY)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect without looking for garbage, and never look at what was collected again.

    Modules and tests are objects by the hundred thousand that live to the end.
    """
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Put the long files first, and the rest in the same order in every worker.

    Before and after pytest puts tests that share a fixture side by side, as that depends on the
    order, too.
    """
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(LONG_FILES)}

    def place(item: pytest.Item) -> tuple[int, Path]:
        return ranks.get(item.path, len(ranks)), item.path

    items.sort(key=place)
    yield
    items.sort(key=place)
