"""What all tests share: property tests draw the same examples on every machine."""

from pathlib import Path

import pytest
from hypothesis import settings

# Workers take whole files in this order: whoever began with a long one is not alone at the end.
LONG_FILES = (
    "acceptance/test_bottle.py",
    "training/test_benchmark.py",
    "export/test_int8.py",
    "edge/hmi/test_hmi_browser.py",
    "edge/cameras/test_watched_folder.py",
    "edge/hmi/test_hmi.py",
    "edge/mqtt/test_mqtt_relay.py",
    "test_telemetry.py",
    "export/test_every_precision.py",
    "training/test_models.py",
    "training/test_bad_input.py",
    "training/test_cli.py",
    "edge/station/test_promises.py",
    "edge/station/test_chaos.py",
)

settings.register_profile("same_everywhere", derandomize=True, deadline=None, database=None)
settings.load_profile("same_everywhere")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))
