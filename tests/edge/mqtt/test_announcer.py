"""What a station answers to triggers while somebody floods it with them."""

from edge.contract.announcements import HandshakeMessage, Meta, Metrics, TriggerPhase
from edge.contract.state import Condition, State, StationReport
from edge.contract.topics import StationTopic
from edge.mqtt.announcer import ANSWERS_AT_ONCE, ANSWERS_PER_MINUTE, Announcer

SECOND_NS = 1_000_000_000


def answer(phase: TriggerPhase, repeated: bool = False) -> HandshakeMessage:
    return HandshakeMessage(phase=phase, trigger_id="t1", part_id=None, utc_ns=0, repeated=repeated)


def test_a_flood_of_triggers_is_answered_at_a_rate_and_accepted_ones_always() -> None:
    now_ns = 0
    announcer = Announcer(
        topic=StationTopic("site", "line", "cell", "top"),
        state=State(condition=Condition.ONLINE, since_utc="2026-01-01T00:00:00Z"),
        meta=Meta(),
        report=StationReport,
        metrics=Metrics,
        clock_ns=lambda: now_ns,
    )
    announcer.begin("session")

    for unwanted in (answer(TriggerPhase.REJECTED), answer(TriggerPhase.EXPOSED, repeated=True)):
        taken = [announcer.handshake(unwanted) for _ in range(1000)]
        assert taken == [True] * ANSWERS_AT_ONCE + [False] * (1000 - ANSWERS_AT_ONCE)
    assert announcer.handshake(answer(TriggerPhase.ACCEPTED))

    now_ns = SECOND_NS // 10
    taken = [announcer.handshake(answer(TriggerPhase.REJECTED)) for _ in range(100)]
    assert sum(taken) == ANSWERS_PER_MINUTE // 600
