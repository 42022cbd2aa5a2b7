"""What the Sparkplug 3.0 specification demands of an edge node, statement by statement.

One session against a real mosquitto, decoded by pysparkplug, is looked at by each check; a check is
named by the statements' own ids (``tck-id-…`` of eclipse-sparkplug/sparkplug).
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pysparkplug
import pytest

from tests.support.broker import Broker
from tests.support.sparkplug import Heard, SparkplugHost, edge_nodes

GROUP, NODE, DEVICE = "plant 1", "Wäscher", "top"
CLIENT = "vi-site-line-cell-top.sparkplug"
# Enough for the numbers of messages to start over.
LIVE = 260


@dataclass(frozen=True)
class Session:
    """What host and broker saw of a node: born, its camera lost and back, asked for births, ended,
    started again.

    Attributes:
        first, second: messages of the first and the second start.
        log: what mosquitto wrote.
    """

    first: list[Heard]
    second: list[Heard]
    log: str

    def of(self, *kinds: str) -> list[Heard]:
        return [one for one in self.first if one.kind in kinds]

    @property
    def connects(self) -> list[str]:
        """What the broker logged of each connection of the node."""
        marks = [
            found.start() for found in re.finditer(f"connected from .* as {CLIENT} ", self.log)
        ]
        return [self.log[a:b] for a, b in pairwise([*marks, len(self.log)])]


Check = Callable[[Session], None]
CHECKS: dict[str, Check] = {}


def statement(*names: str) -> Callable[[Check], Check]:
    def add(check: Check) -> Check:
        CHECKS.update({f"tck-id-{name}": check for name in names})
        return check

    return add


@pytest.fixture(scope="module", params=[False, True], ids=["names", "aliases"])
def session(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Session]:
    folder: Path = tmp_path_factory.mktemp("sparkplug")
    broker = Broker(folder, "allow_anonymous true\nlog_type all")
    broker.start()
    host = SparkplugHost(broker)
    names = {"group": GROUP, "node": NODE, "aliases": request.param}
    with edge_nodes(folder / "journal") as begin:
        node = begin(broker.url, **names)
        host.wait_for("DBIRTH")
        node.node.on_health(())
        node.decide(LIVE)
        host.wait_for("DDATA", LIVE)
        node.node.on_health(("camera_lost",))
        host.wait_for("DDEATH")
        node.decide(1)
        node.node.on_health(())
        host.wait_for("DDATA", LIVE + 1)
        host.ask_for_rebirth(GROUP, NODE)
        host.wait_for("NBIRTH", 2)
        host.wait_for("DBIRTH", 3)
        node.decide(2)
        host.wait_for("DDATA", LIVE + 3)
        node.close()
        host.wait_for("NDEATH", 2)  # its own, and with MQTT 5 the will
        first = host.heard()
        begin(broker.url, **names)
        host.wait_for("DBIRTH", 4)
    second = host.heard()[len(first) :]
    host.close()
    broker.close()
    yield Session(first, second, (folder / "mosquitto.log").read_text())


@statement(
    "topics-nbirth-topic",
    "message-flow-edge-node-birth-publish-nbirth-topic",
    "topics-ndeath-topic",
    "topics-ndata-topic",
    "topics-dbirth-topic",
    "topics-ddata-topic",
    "topics-ddeath-topic",
    "message-flow-device-birth-publish-dbirth-topic",
    "message-flow-device-birth-publish-dbirth-match-edge-node-topic",
    "case-sensitivity-sparkplug-ids",
)
def topics(session: Session) -> None:
    for one in session.first:
        below = f"/{DEVICE}" if one.kind.startswith("D") else ""
        assert one.topic == f"spBv1.0/{GROUP}/{one.kind}/{NODE}{below}"


@statement(
    "topics-nbirth-mqtt",
    "topics-ndata-mqtt",
    "topics-dbirth-mqtt",
    "topics-ddata-mqtt",
    "topics-ddeath-mqtt",
    "message-flow-edge-node-birth-publish-nbirth-qos",
    "message-flow-edge-node-birth-publish-nbirth-retained",
    "message-flow-device-birth-publish-dbirth-qos",
    "message-flow-device-birth-publish-dbirth-retained",
    *(
        f"payloads-{kind}-{what}"
        for kind in ("nbirth", "dbirth", "ndata", "ddata")
        for what in ("qos", "retain")
    ),
)
def quality_of_service(session: Session) -> None:
    sent = re.findall(
        rf"Received PUBLISH from {CLIENT} \(d0, q(\d), r(\d), m\d+, 'spBv", session.log
    )
    assert len(sent) >= len(session.first) - 1  # one death is the will
    assert set(sent) == {("0", "0")}


@statement(
    "topics-nbirth-seq-num",
    "payloads-nbirth-seq",
    "payloads-sequence-num-req-nbirth",
    "message-flow-edge-node-birth-publish-nbirth-payload-seq",
)
def births_begin_at_0(session: Session) -> None:
    assert [one.seq for one in session.of("NBIRTH")] == [0, 0]


@statement(
    "payloads-sequence-num-incrementing",
    "payloads-sequence-num-always-included",
    "topics-dbirth-seq",
    "topics-ndata-seq-num",
    "topics-ddata-seq-num",
    "topics-ddeath-seq-num",
    "message-flow-device-birth-publish-dbirth-payload-seq",
    *(
        f"payloads-{kind}-{what}"
        for kind in ("dbirth", "ndata", "ddata", "ddeath")
        for what in ("seq", "seq-inc")
    ),
    "payloads-ddeath-seq-number",
)
def numbers_go_up_by_one_and_start_over(session: Session) -> None:
    numbered = [one for one in session.first if one.kind != "NDEATH"]
    starts = [index for index, one in enumerate(numbered) if one.kind == "NBIRTH"]
    for begin, end in pairwise([*starts, len(numbered)]):
        seqs = [one.seq for one in numbered[begin:end]]
        assert seqs == [number % 256 for number in range(len(seqs))]
    assert starts[1] > 256


@statement(
    *(f"topics-{kind}-timestamp" for kind in ("nbirth", "ndata", "dbirth", "ddata")),
    *(f"payloads-{kind}-timestamp" for kind in ("nbirth", "ndata", "dbirth", "ddata", "ddeath")),
)
def payloads_have_the_time_of_their_sending(session: Session) -> None:
    times = [one.raw.timestamp for one in session.first if one.kind != "NDEATH"]
    assert times == sorted(times) and times[0] > 1_700_000_000_000


@statement("payloads-name-birth-data-requirement")
def each_metric_has_a_time(session: Session) -> None:
    for one in session.first:
        assert all(metric.HasField("timestamp") for metric in one.raw.metrics)


@statement(
    "topics-nbirth-metrics",
    "topics-dbirth-metrics",
    "payloads-metric-datatype-req",
    "payloads-metric-datatype-value",
    "operational-behavior-data-publish-nbirth-values",
    "operational-behavior-data-publish-dbirth-values",
)
def births_have_name_type_and_value_or_null(session: Session) -> None:
    for one in session.of("NBIRTH", "DBIRTH"):
        for metric in one.raw.metrics:
            assert metric.name and pysparkplug.DataType(metric.datatype)
            assert (metric.WhichOneof("value") is None) == metric.is_null


@statement("payloads-metric-datatype-not-req")
def data_has_no_types(session: Session) -> None:
    for one in session.of("NDATA", "DDATA"):
        assert not any(metric.HasField("datatype") for metric in one.raw.metrics)


@statement(
    "topics-nbirth-metric-reqs",
    "topics-dbirth-metric-reqs",
    "operational-behavior-data-publish-nbirth",
    "operational-behavior-data-publish-dbirth",
    "topics-ndata-payload",
    "topics-ddata-payload",
)
def what_data_has_was_born(session: Session) -> None:
    for data, birth in (("NDATA", "NBIRTH"), ("DDATA", "DBIRTH")):
        born = session.of(birth)[0].metrics.keys()
        assert session.of(data)
        assert all(one.metrics.keys() <= born for one in session.of(data))


@statement(
    "topics-nbirth-bdseq-included",
    "topics-nbirth-bdseq-matching",
    "payloads-nbirth-bdseq",
    "payloads-nbirth-bdseq-repeat",
    "payloads-ndeath-bdseq",
    "operational-behavior-data-commands-rebirth-action-3",
)
def births_and_death_of_a_connection_share_a_number(session: Session) -> None:
    assert {one.bd_seq for one in session.of("NBIRTH", "NDEATH")} == {0}
    assert session.of("NBIRTH")[0].metrics["bdSeq"].datatype is pysparkplug.DataType.INT64


@statement("topics-nbirth-bdseq-increment")
def the_next_connection_has_the_next_number(session: Session) -> None:
    births = [one for one in session.second if one.kind == "NBIRTH"]
    assert [one.bd_seq for one in births] == [1]


@statement(
    "topics-ndeath-payload",
    "topics-ndeath-seq",
    "payloads-ndeath-seq",
    "payloads-ndeath-will-message",
    "message-flow-edge-node-birth-publish-will-message-payload",
)
def deaths_have_their_number_and_nothing_else(session: Session) -> None:
    deaths = session.of("NDEATH")
    assert len(deaths) == 2
    for one in deaths:
        assert one.seq is None
        assert [metric.name for metric in one.raw.metrics] == ["bdSeq"]


@statement(
    "message-flow-edge-node-birth-publish-will-message",
    "message-flow-edge-node-birth-publish-will-message-topic",
    "message-flow-edge-node-birth-publish-will-message-qos",
    "message-flow-edge-node-birth-publish-will-message-will-retained",
    "payloads-ndeath-will-message-qos",
    "payloads-ndeath-will-message-retain",
)
def the_will_is_the_death_at_qos_1_not_retained(session: Session) -> None:
    for connect in session.connects:
        will = re.search(
            r"Will message specified \(\d+ bytes\) \(r(\d), q(\d)\)\.\n.*\t(.*)", connect
        )
        assert will is not None
        assert will.groups() == ("0", "1", f"spBv1.0/{GROUP}/NDEATH/{NODE}")


@statement(
    "message-flow-edge-node-ncmd-subscribe",
    "message-flow-edge-node-birth-publish-connect",
)
def it_listens_to_its_commands_before_its_birth(session: Session) -> None:
    for connect in session.connects:
        listens = connect.index(f"spBv1.0/{GROUP}/NCMD/{NODE} (QoS 1)")
        assert listens < connect.index(f"/NBIRTH/{NODE}'")


@statement(
    "topics-nbirth-rebirth-metric",
    "payloads-nbirth-rebirth-req",
    "operational-behavior-data-commands-rebirth-name",
    "operational-behavior-data-commands-rebirth-name-aliases",
    "operational-behavior-data-commands-rebirth-datatype",
    "operational-behavior-data-commands-rebirth-value",
)
def the_birth_offers_rebirth(session: Session) -> None:
    for one in session.of("NBIRTH"):
        metric = one.metrics["Node Control/Rebirth"]
        assert (metric.datatype, metric.value) == (pysparkplug.DataType.BOOLEAN, False)
        assert metric.alias is None


@statement(
    "message-flow-device-birth-publish-nbirth-wait",
    "payloads-dbirth-order",
    "payloads-ndata-order",
    "payloads-ddata-order",
    "operational-behavior-data-commands-rebirth-action-1",
    "operational-behavior-data-commands-rebirth-action-2",
)
def births_come_first_and_together(session: Session) -> None:
    kinds = [one.kind for one in session.first]
    births = [index for index, kind in enumerate(kinds) if kind == "NBIRTH"]
    assert births[0] == 0 and len(births) == 2
    assert all(kinds[index + 1] == "DBIRTH" for index in births)


@statement("operational-behavior-device-ddeath")
def a_lost_camera_is_a_dead_device(session: Session) -> None:
    kinds = [one.kind for one in session.first]
    died = kinds.index("DDEATH")
    back = kinds.index("DBIRTH", died)
    assert "DDATA" not in kinds[died:back]
    waited = session.first[kinds.index("DDATA", back)]
    assert waited.historical and waited.values["Verdict/Seq"] == LIVE + 1


@statement(
    "operational-behavior-edge-node-intentional-disconnect-ndeath",
    "operational-behavior-edge-node-intentional-disconnect-packet",
    "payloads-ndeath-will-message-publisher",
    "payloads-ndeath-will-message-publisher-disconnect-mqtt50",
)
def it_announces_its_end_and_has_the_will_published(session: Session) -> None:
    first = session.connects[0]
    assert first.index(f"/NDEATH/{NODE}'") < first.index(f"Received DISCONNECT from {CLIENT}")
    assert len(session.of("NDEATH")) == 2  # MQTT 5: "Disconnect with will message"


@statement(
    "operational-behavior-data-publish-nbirth-order",
    "operational-behavior-data-publish-dbirth-order",
)
def values_that_are_current_come_in_the_order_of_time(session: Session) -> None:
    numbers = [one.values["Verdict/Seq"] for one in session.of("DDATA")]
    assert numbers == list(range(1, LIVE + 4))
    assert [one.historical for one in session.of("DDATA")[:LIVE]] == [False] * LIVE


@statement("operational-behavior-data-publish-nbirth-change")
def node_data_comes_with_a_change(session: Session) -> None:
    conditions = [one.values["Station/Condition"] for one in session.of("NDATA")]
    assert conditions == ["online", "degraded", "online"]


@statement("payloads-name-requirement", "payloads-alias-uniqueness")
def names_or_unique_aliases(session: Session) -> None:
    born = [*session.of("NBIRTH")[0].raw.metrics, *session.of("DBIRTH")[0].raw.metrics]
    aliases = [metric.alias for metric in born if metric.HasField("alias")]
    assert len(set(aliases)) == len(aliases)
    for one in session.of("NDATA", "DDATA"):
        for metric in one.raw.metrics:
            assert metric.HasField("alias") or metric.name


@statement("payloads-alias-birth-requirement", "payloads-alias-data-cmd-requirement")
def aliases_stand_beside_names_in_births_and_alone_in_data(session: Session) -> None:
    births = [
        metric.HasField("alias")
        for one in session.of("NBIRTH", "DBIRTH")
        for metric in one.raw.metrics
        if metric.name != "Node Control/Rebirth"
    ]
    assert len(set(births)) == 1
    data = [metric for one in session.of("NDATA", "DDATA") for metric in one.raw.metrics]
    assert all(metric.HasField("alias") is births[0] for metric in data)
    assert all(metric.HasField("name") is not births[0] for metric in data)


@pytest.mark.parametrize("name", CHECKS)
def test_an_edge_node_does_what_the_specification_states(session: Session, name: str) -> None:
    CHECKS[name](session)
