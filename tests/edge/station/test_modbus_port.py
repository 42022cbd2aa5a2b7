"""The hand-shake in registers: what stands there after each event, without a network."""

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from edge.contract.commands import Ack, Trigger
from edge.inspection.decision import Reason, Result
from edge.plc import registers as table
from edge.plc.modbus_server import ServerCounts
from edge.plc.registers import Order, RejectionCode
from edge.settings.modbus import ModbusSettings
from edge.station.handshake.coordinator import HandshakeCoordinator
from edge.station.handshake.modbus_link import LinkServices, ModbusLink
from edge.station.handshake.modbus_port import ModbusPort
from edge.station.handshake.part import (
    INPUTS,
    Input,
    Pairing,
    Part,
    PartResult,
    Rejection,
    Rules,
    TriggerSource,
)
from edge.station.handshake.state_machine import HandshakeMachine
from edge.station.monitoring.health import Health
from tests.soak import times
from tests.support.plc import read_status

SECOND = 1_000_000_000
OK = PartResult(Result.OK, Reason.SCORE_BELOW, 0.25)
NOK = PartResult(Result.NOK, Reason.SCORE_ABOVE, 0.5)


class Bench:
    """A port, a clock, and the master's command block by names."""

    def __init__(self, leads: bool = True, max_results: int = 2) -> None:
        self.now_ns = 0
        self.parts = 0
        self.master = "192.168.0.1"
        self.port = ModbusPort(
            leads=leads,
            accepts_triggers=leads,
            max_results=max_results,
            order=Order(),
            master_timeout_ns=SECOND,
            clock_ns=lambda: self.now_ns,
        )

    def write(self, **values: int | bytes) -> list[Trigger | Ack]:
        """Write some registers; return what the station is asked."""
        for name, value in values.items():
            one = table.named(table.COMMAND, name)
            words = table.encoded(value, one.kind, Order())
            assert self.port.write(16, one.address, words, self.master)
        return self.port.read_messages()

    def trigger(self, number: int, part_id: bytes = b"") -> Part:
        """Trigger as a master does; the station accepts."""
        self.write(control=0, trigger_id=number, part_id=part_id)
        (asked,) = self.write(control=table.TRIGGER.mask)
        assert isinstance(asked, Trigger)
        self.parts += 1
        part = Part(
            number=self.parts,
            trigger_id=asked.trigger_id,
            part_id=asked.part_id,
            recipe=None,
            source=TriggerSource.SOFTWARE,
            announced_ns=asked.received_ns,
            announced_utc_ns=0,
            due_ns=None,
        )
        self.port.accepted(part)
        return part

    @property
    def status(self) -> dict[str, object]:
        words = self.port.read(4, 0, table.STATUS_WORDS)
        assert words is not None
        return read_status(words)

    def shows(self, **values: object) -> bool:
        return {name: self.status[name] for name in values} == values


def test_results_wait_for_their_turn_and_the_next_one_for_the_end_of_the_acknowledgement() -> None:
    bench = Bench()
    first, second = bench.trigger(7, b"a"), bench.trigger(8, b"b")
    bench.port.result_valid(first, 70_000, NOK)
    bench.port.result_valid(second, 70_001, OK)
    assert bench.shows(result_id=7, result=2, result_ok=False, seq=70_000 & 0xFFFF, score_milli=500)

    assert bench.write(ack_seq=1, control=table.ACK.mask) == []  # of another result
    assert bench.shows(result_valid=True, result_id=7)
    assert bench.write(ack_seq=70_000 & 0xFFFF) == [Ack(70_000, None, "modbus")]
    assert bench.shows(result_valid=False, result_id=0, seq=0, result_part_id="")
    bench.write(control=0)
    assert bench.shows(result_valid=True, result_id=8, result_ok=True, result_part_id="b")


def test_a_result_that_nobody_takes_goes_and_is_counted_once_a_master_acknowledges() -> None:
    bench = Bench()
    for number in (1, 2):
        part = bench.trigger(number)
        bench.port.result_valid(part, number, OK)
        bench.port.result_cleared(part)
    assert bench.shows(results_missed=0, result_missed=False, result_valid=False)
    bench.port.result_valid(bench.trigger(3), 3, OK)
    bench.write(control=table.ACK.mask, ack_seq=3)
    parts = [bench.trigger(number) for number in (4, 5, 6)]
    for part in parts:
        bench.port.result_valid(part, part.number, OK)
    assert bench.shows(results_missed=1, result_missed=True, error=True, result_id=5)
    bench.write(control=table.RESET.mask)
    assert bench.shows(results_missed=0, result_missed=False, result_valid=False)


def test_after_a_reset_no_result_of_an_earlier_part_is_shown_and_ids_start_over() -> None:
    bench = Bench()
    accepted = bench.trigger(1)
    bench.write(control=0, trigger_id=2)
    (asked,) = bench.write(control=table.TRIGGER.mask)
    assert isinstance(asked, Trigger)
    bench.write(control=table.RESET.mask)
    bench.port.accepted(late := replace(accepted, number=99, trigger_id=asked.trigger_id))
    bench.port.result_valid(accepted, 1, OK)
    bench.port.result_valid(late, 2, OK)
    assert bench.shows(result_valid=False, busy=False)

    again = bench.trigger(1)
    bench.port.result_valid(again, 3, NOK)
    assert bench.shows(result_id=1, result=2, seq=3)
    assert again.trigger_id != accepted.trigger_id


def test_a_refused_trigger_says_why_and_stays_refused_when_it_is_sent_again() -> None:
    bench = Bench()
    bench.write(trigger_id=5)
    (asked,) = bench.write(control=table.TRIGGER.mask)
    assert isinstance(asked, Trigger)
    part = replace(Bench().trigger(5), trigger_id=asked.trigger_id)
    assert bench.shows(taken=False)
    bench.port.rejected(part, Rejection.BUSY, recorded=True)
    assert bench.shows(taken=True, taken_id=5, rejected=True, rejection=1, trigger_refused=True)
    bench.write(control=0)
    assert bench.shows(taken=False)
    assert bench.write(control=table.TRIGGER.mask) == []
    assert bench.shows(taken=True, rejected=True)


def test_a_part_id_that_is_no_text_is_refused_and_one_that_is_too_long_is_shown_cut() -> None:
    bench = Bench()
    bench.write(trigger_id=1, part_id=b"\xff")
    assert bench.write(control=table.TRIGGER.mask) == []
    assert bench.shows(rejected=True, rejection=6)
    part = replace(bench.trigger(2), part_id="x" * 40)
    bench.port.result_valid(part, 1, OK)
    assert bench.shows(result_part_id="x" * 32, part_id_cut=True)
    bench.write(control=table.RESET.mask)
    bench.port.result_valid(replace(bench.trigger(3), part_id="가" * 11), 2, OK)
    assert bench.shows(result_part_id="가" * 10, part_id_cut=True)


def test_a_port_that_watches_shows_results_and_takes_neither_triggers_nor_acknowledgements() -> (
    None
):
    bench = Bench(leads=False)
    bench.port.set_missing(frozenset())
    bench.port.ready(True)
    part = replace(Bench().trigger(1), trigger_id="of another port", part_id="p")
    bench.port.accepted(part)
    bench.port.exposed(part)
    assert bench.shows(busy=True, ready=False, online=True, master_missing=False)
    bench.port.result_valid(part, 9, OK)
    assert bench.write(control=table.ACK.mask, ack_seq=9) == []
    bench.write(trigger_id=3)
    assert bench.write(control=table.TRIGGER.mask) == []
    assert bench.shows(rejected=True, rejection=5)


def test_a_master_that_comes_back_triggers_anew_though_its_last_write_was_lost() -> None:
    bench = Bench()
    bench.trigger(1)
    assert not bench.port.master_is_there() and bench.status["master_missing"]
    bench.write(master_heartbeat=1)
    assert bench.port.master_is_there() and not bench.status["master_missing"]
    bench.now_ns = SECOND
    assert not bench.port.master_is_there()
    bench.write(trigger_id=2)
    assert bench.write(control=table.TRIGGER.mask) != []  # it rises: the old one was cleared


def test_another_master_has_its_own_ids_and_no_result_of_the_one_before() -> None:
    bench = Bench()
    bench.write(master_heartbeat=1)
    shown, standing, in_work = bench.trigger(1), bench.trigger(2), bench.trigger(3)
    bench.port.result_valid(shown, 1, OK)
    bench.write(control=table.ACK.mask, ack_seq=1)
    bench.port.result_valid(standing, 2, OK)
    assert bench.port.master == "192.168.0.1"
    bench.now_ns = SECOND
    assert not bench.port.master_is_there() and bench.port.master is None

    bench.master = "192.168.0.2"
    bench.write(master_heartbeat=2)
    assert bench.port.master == "192.168.0.2"
    assert bench.shows(result_valid=False, results_missed=0)
    bench.port.result_valid(in_work, 3, OK)
    assert bench.shows(result_valid=False)
    again = bench.trigger(3)  # asked of the station: another part than that of the first master
    bench.port.result_valid(again, 4, NOK)
    assert bench.shows(result_id=3, result_ok=False, seq=4)


def test_the_same_master_that_comes_back_has_its_results_still() -> None:
    bench = Bench()
    bench.write(master_heartbeat=1)
    part = bench.trigger(1)
    bench.now_ns = SECOND
    assert not bench.port.master_is_there()
    bench.port.result_valid(part, 1, OK)
    bench.write(master_heartbeat=2, trigger_id=1)
    assert bench.write(control=table.TRIGGER.mask) == []
    assert bench.shows(result_valid=True, result_id=1)


def test_an_id_that_comes_again_with_another_part_id_is_refused_and_has_no_result() -> None:
    refused = list[int]()
    for acknowledged in (True, False):
        bench = Bench()
        bench.port.on_trigger_refused(refused.append)
        first = bench.trigger(5, b"a")
        if acknowledged:
            bench.port.result_valid(first, 1, OK)
            bench.write(control=table.ACK.mask, ack_seq=1)
        bench.write(control=0)
        assert bench.write(control=table.TRIGGER.mask) == []  # the same part
        assert bench.shows(rejected=False, result_valid=acknowledged)
        bench.write(control=0, part_id=b"b")
        assert bench.write(control=table.TRIGGER.mask) == []
        if not acknowledged:
            bench.port.result_valid(first, 1, OK)
        assert bench.shows(taken=True, taken_id=5, rejection=9, result_valid=False, result_id=0)
        bench.trigger(6, b"b")
        assert bench.shows(rejected=False)
    assert refused == [0, 0]


def test_a_score_that_does_not_fit_is_none_and_one_below_the_threshold_never_shows_as_at_it() -> (
    None
):
    bench = Bench(max_results=9)
    for score, shown in ((0.4999, 499), (0.5, 500), (None, -(2**31)), (float("nan"), -(2**31))):
        part = bench.trigger(bench.parts + 1)
        bench.port.result_valid(
            part, part.number, PartResult(Result.NOK, Reason.SCORE_ABOVE, score)
        )
        assert bench.shows(score_milli=shown)
        bench.write(control=table.ACK.mask, ack_seq=part.number)


def test_triggers_that_the_station_never_gets_are_reported_to_its_outputs() -> None:
    bench, refused = Bench(), list[int]()
    bench.port.on_trigger_refused(refused.append)
    bench.now_ns = 5
    assert bench.write(trigger_id=1, part_id=b"\xff\xfe", control=table.TRIGGER.mask) == []
    assert bench.shows(rejection=RejectionCode.MALFORMED.value) and refused == [5]
    bench.now_ns = 7
    bench.write(control=0, part_id=b"a", trigger_id=2)
    (asked,) = bench.write(control=table.TRIGGER.mask)
    assert isinstance(asked, Trigger)
    bench.port.on_overload(asked)
    assert refused == [5, asked.received_ns]


def test_a_message_that_finds_no_room_refuses_the_trigger() -> None:
    bench = Bench()
    bench.port.set_missing(INPUTS)
    assert bench.shows(camera_missing=True, model_missing=True, journal_missing=True, online=False)
    bench.write(trigger_id=1)
    (asked,) = bench.write(control=table.TRIGGER.mask)
    bench.port.on_overload(asked)
    assert bench.shows(taken=True, rejected=True, rejection=7)


def test_a_station_that_is_ready_misses_nothing_whatever_was_read_before() -> None:
    """The port's thread asks what is missing, and the station becomes ready meanwhile."""
    bench = Bench()
    bench.port.ready(True)
    bench.port.set_missing(frozenset({Input.CAMERA}))
    assert bench.shows(ready=True, online=True, camera_missing=False)
    bench.port.ready(False)
    assert bench.shows(ready=False, online=True)
    bench.port.set_missing(frozenset({Input.CAMERA}))
    assert bench.shows(ready=False, online=False, camera_missing=True)


class LinkWithoutNetwork(ModbusLink):
    counts = ServerCounts()

    def run(self, ending: Callable[[], bool]) -> None:
        """Nothing runs: the test calls."""


class AnnouncedLine:
    """A link between a master and the hand-shake of a hardware line, with one clock."""

    def __init__(self) -> None:
        self.now_ns = SECOND
        self._words = [0] * table.COMMAND_WORDS
        port = ModbusPort(
            leads=True,
            accepts_triggers=True,
            max_results=2,
            order=Order(),
            master_timeout_ns=SECOND,
            clock_ns=lambda: self.now_ns,
        )
        rules = Rules(
            pairing=Pairing.ANNOUNCED, frame_timeout_ms=100.0, inputs=INPUTS | {Input.MASTER}
        )
        self.handshake = HandshakeCoordinator(
            handshake=HandshakeMachine(rules),
            ports=[port],
            expose=lambda: None,
            record_event=lambda _: None,
            clock_ns=lambda: self.now_ns,
        )
        port.on_trigger_refused(lambda _: self.handshake.announcement_lost())
        for name in INPUTS:
            self.handshake.set_ready(name, True)
        services = LinkServices(
            port=port,
            accepts_triggers=True,
            handshake=self.handshake,
            put=lambda _: True,
            health=Health(),
            record_event=lambda _: None,
        )
        self.link = LinkWithoutNetwork(ModbusSettings(host="127.0.0.1"), services, "registers")
        self._port = port
        self.write()
        self.rest()
        assert self.ready

    @property
    def ready(self) -> bool:
        status = self._port.read(4, 0, table.STATUS_WORDS)
        assert status is not None
        return bool(read_status(status)["ready"])

    def write(self, master: str = "192.168.0.1", **values: int | bytes) -> None:
        """Write the whole command block in one request, with a heartbeat."""
        beat = self._words[table.named(table.COMMAND, "master_heartbeat").address]
        for name, value in {**values, "master_heartbeat": beat + 1}.items():
            one = table.named(table.COMMAND, name)
            self._words[one.address : one.end] = table.encoded(value, one.kind, Order())
        assert self.link.write(16, 0, self._words, master)

    def rest(self) -> None:
        """Let twice the time that a frame has pass."""
        self.now_ns += SECOND // 5
        self.handshake.tick()


@pytest.mark.parametrize("what", ["reset", "a refused trigger again", "another master"])
def test_a_master_that_begins_anew_or_announces_again_makes_the_line_quiet(what: str) -> None:
    line = AnnouncedLine()
    line.write(control=table.TRIGGER.mask, trigger_id=7, part_id=b"\xff\xfe")
    assert not line.ready
    line.rest()
    line.write(control=0)
    assert line.ready

    if what == "reset":
        line.write(control=table.RESET.mask)
    elif what == "a refused trigger again":
        line.write(control=table.TRIGGER.mask)
    else:
        line.now_ns += SECOND  # without a heartbeat
        line.link.tick()
        line.write("192.168.0.2")
    assert not line.ready
    line.rest()
    assert line.ready


def test_no_read_mixes_two_results() -> None:
    bench, ended = Bench(), threading.Event()
    part = bench.trigger(1)

    def change() -> None:
        number = 0
        while not ended.is_set():
            number = number % 60_000 + 1
            score = PartResult(Result.OK, Reason.SCORE_BELOW, number / 1000 + 1e-9)
            bench.port.result_valid(replace(part, part_id=str(number)), number, score)
            bench.port.result_cleared(part)

    writer = threading.Thread(target=change)
    writer.start()
    score, seq, text = (
        table.named(table.STATUS, name) for name in ("score_milli", "seq", "result_part_id")
    )
    shown = torn = 0
    while shown < times(3_000, 1_000_000):
        words = bench.port.read(4, 0, table.STATUS_WORDS)
        assert words is not None
        if words[0] & table.RESULT_VALID.mask:
            shown += 1
            torn += words[score.address + 1] != words[seq.address]
            torn += table.decoded_text(words[text.address : text.end], Order()) != str(
                words[seq.address]
            )
        else:
            torn += words[seq.address] != 0
    ended.set()
    writer.join()
    assert torn == 0
