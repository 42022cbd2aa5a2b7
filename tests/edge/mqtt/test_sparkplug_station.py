"""A station's process as an edge node of Sparkplug B, and what its settings may not say."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.cli.main import main
from tests.support.broker import Broker
from tests.support.small_bundle import write_images
from tests.support.sparkplug import SparkplugHost
from tests.support.station_process import StationProcess

SPARKPLUG = {"group": "plant1", "node": "washer", "primary_host": "scada"}


@pytest.fixture
def host(running_broker: Broker) -> Iterator[SparkplugHost]:
    one = SparkplugHost(running_broker)
    yield one
    one.close()


def test_a_killed_station_dies_by_its_will_and_goes_on_where_it_was(
    tmp_path: Path, bundle: Path, running_broker: Broker, host: SparkplugHost
) -> None:
    images = write_images(tmp_path / "in", good=2, defective=1)
    settings = {
        "camera": {"uri": str(images), "loop": True, "trigger": {"mode": "software"}},
        "model": {"path": str(bundle)},
    }
    station = StationProcess(tmp_path, running_broker, settings)
    station.settings["mqtt"] = {**station.settings["mqtt"], "sparkplug": SPARKPLUG}
    host.come_online()
    with station:
        for number in range(3):
            station.ready()
            station.trigger(f"t{number}", f"part-{number}")
            station.verdicts(number + 1)
        live = host.wait_for("DDATA", 3)
        host.come_online(False)
        (parted,) = {one.bd_seq for one in host.wait_for("NDEATH")}
        station.ready()
        station.trigger("t3", "part-3")
        verdicts = station.verdicts(4)
        station.kill()
        host.come_online()
        station.start()
        host.wait_for("DBIRTH", 2)
        waited = host.wait_for("DDATA", 4)[3]
        station.kill()
        by_will = host.wait_for("NDEATH", 2)[-1]

    births = host.heard("NBIRTH")
    assert [one.values["Verdict/Seq"] for one in live] == [1, 2, 3]
    assert [one.values["Verdict/Part Id"] for one in live] == ["part-0", "part-1", "part-2"]
    results = [one["result"] for one in verdicts]
    assert [one.values["Verdict/Result"] for one in [*live, waited]] == results
    assert [one.historical for one in [*live, waited]] == [False] * 3 + [True]
    assert waited.values["Verdict/Seq"] == 4
    assert parted == births[0].bd_seq
    assert by_will.bd_seq == births[-1].bd_seq != parted


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ("{group: a/b, node: n}", "mqtt.sparkplug.group: found 'a/b' (text), must not hold /"),
        ("{group: g, node: 'a+#'}", "mqtt.sparkplug.node: found 'a+#' (text), must not hold # +"),
        ("{group: STATE, node: n}", "mqtt.sparkplug.group: found 'STATE' (text), is where hosts"),
        ("{group: g, node: n, device: ' d'}", "mqtt.sparkplug.device: found ' d' (text), must be"),
        ("{node: n}", "mqtt.sparkplug.group is missing"),
        ("{group: g, node: ''}", "mqtt.sparkplug.node: found ''"),
    ],
)
def test_names_that_cannot_be_levels_of_a_topic_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], section: str, fault: str
) -> None:
    config = tmp_path / "station.yaml"
    config.write_text(
        "camera: {uri: in}\nmodel: {path: part.xml}\n"
        f"mqtt: {{url: 'mqtt://127.0.0.1:1', sparkplug: {section}}}\n"
    )
    assert main(["--config", str(config), "--check"]) == 78
    assert fault in capsys.readouterr().err
