"""A station as an edge node: a real mosquitto, and a host that decodes with pysparkplug."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker import GENEROUS_S, Broker
from tests.support.sparkplug import Nodes, SparkplugHost, edge_nodes

ROOT = Path(__file__).parents[3]


@pytest.fixture
def host(broker: Broker) -> Iterator[SparkplugHost]:
    broker.start()
    one = SparkplugHost(broker)
    yield one
    one.close()


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Nodes]:
    with edge_nodes(tmp_path / "journal") as start:
        yield start


def test_the_host_of_the_documentation_asks_for_births_and_prints_the_verdicts(
    broker: Broker, begin: Nodes, host: SparkplugHost
) -> None:
    text = (ROOT / "docs" / "sparkplug.md").read_text("utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    node = begin(broker.url, aliases=True)
    host.wait_for("DBIRTH")
    with subprocess.Popen(
        [sys.executable, "-c", program, str(broker.port), "3"], stdout=subprocess.PIPE, text=True
    ) as listening:
        decided = 0
        while len(host.heard("NBIRTH")) < 2:  # it asks once it hears of a node it does not know
            node.decide(1)
            decided += 1
            host.wait_for("DDATA", decided)
        host.wait_for("DBIRTH", 2)
        node.decide(3)
        printed, _ = listening.communicate(timeout=GENEROUS_S)

    heard = [one.values["Verdict/Seq"] for one in host.heard("DDATA")]
    shown = [re.match(r"(\d+) OK 0\.32", line) for line in printed.splitlines()[:3]]
    numbers = [int(found[1]) for found in shown if found]
    assert numbers == heard[numbers[0] - 1 : numbers[0] + 2]
