"""What the events of a camera mean, decided without a clock of its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.cameras.interface import CameraReport
from edge.cameras.supervised.state_machine import (
    AWAY,
    IDLE_AFTER_S,
    MAX_UNFRESH,
    MAY_FOLLOW,
    CameraState,
    CameraStatus,
    Supervision,
    delay_s,
)
from edge.settings.camera import SupervisionSettings

SETTINGS = SupervisionSettings()
REPORT = CameraReport(model="one")


def supervision(triggered: bool = False) -> Supervision:
    return Supervision(identity="cam", settings=SETTINGS, triggered=triggered, now_ns=0)


def ns(seconds: float) -> int:
    return round(seconds * 1e9)


def looked(one: Supervision, from_s: float, to_s: float) -> CameraStatus | None:
    """Look every tenth of a second, as both threads do; return the first change."""
    tenths = range(round(from_s * 10), round(to_s * 10) + 1)
    return next((change for t in tenths if (change := one.tick(ns(t / 10)))), None)


def streaming(now_s: float = 0.0) -> Supervision:
    one = supervision()
    one.opening(ns(now_s))
    one.opened(ns(now_s))
    one.imaged(ns(now_s), fresh=True, detail="")
    assert one.status.state is CameraState.STREAMING
    return one


def waiting(now_s: float = 0.0) -> Supervision:
    one = supervision(triggered=True)
    one.opening(ns(now_s))
    one.opened(ns(now_s))
    assert one.status.state is CameraState.WAITING_TRIGGER
    return one


def test_a_free_running_camera_works_from_its_first_image() -> None:
    one = supervision()
    one.opening(0)

    assert one.opened(ns(1)) is None
    assert one.status.state is CameraState.CONNECTING
    one.reported(REPORT)
    changed = one.imaged(ns(2), fresh=True, detail="")

    assert changed == CameraStatus(state=CameraState.STREAMING, since_ns=ns(2), report=REPORT)


def test_an_image_is_due_from_a_free_running_camera() -> None:
    one = streaming()

    assert looked(one, 0, 1.5) is None
    changed = one.tick(ns(1.6))

    assert changed and changed.state is CameraState.LOST
    assert changed.since_ns == ns(1.6)
    assert (changed.losses, changed.recoveries) == (1, 0)
    assert "no frame for 1.5 s" in changed.detail and "Check cable" in changed.detail
    assert not one.open


def test_a_process_that_stood_still_first_looks_what_came_meanwhile() -> None:
    one = streaming()
    assert one.tick(ns(60)) is None
    assert one.tick(ns(60.1)) is None
    one.imaged(ns(60.1), fresh=True, detail="")
    assert looked(one, 60.2, 61.6) is None

    assert one.tick(ns(120)) is None
    assert looked(one, 120.1, 120.2) is not None


def test_an_answer_is_no_image() -> None:
    one = streaming()
    assert looked(one, 0, 1.4) is None
    one.answered(ns(1.4))

    assert looked(one, 1.5, 1.6) is not None


def test_images_that_are_not_new_prove_nothing() -> None:
    one = streaming()
    for tenth in range(1, 16):
        assert one.imaged(ns(tenth / 10), fresh=False, detail="the same frame") is None

    changed = one.imaged(ns(1.6), fresh=False, detail="the same frame")

    assert changed and "no new ones (the same frame)" in changed.detail


def test_a_triggered_camera_that_answers_waits_for_ever() -> None:
    one = waiting()
    for second in range(1, 3600):
        assert one.answered(ns(second)) is None
        assert one.tick(ns(second)) is None

    changed = looked(one, 3599, 3599 + 1.6)

    assert changed and changed.state is CameraState.LOST and "no answer" in changed.detail


def test_one_answer_that_does_not_come_is_no_loss() -> None:
    one = waiting()

    assert looked(one, 0, 0.9) is None
    assert one.unanswered(ns(1.0), "cam: does not answer. Check the cable.") is None
    assert looked(one, 1.1, 1.5) is None
    changed = one.unanswered(ns(1.6), "cam: does not answer. Check the cable.")

    assert changed and changed.detail == "cam: does not answer. Check the cable."


def test_a_triggered_camera_waits_again_when_no_image_came_for_a_while() -> None:
    one = waiting()
    streams = one.imaged(ns(1), fresh=True, detail="")
    assert streams and streams.state is CameraState.STREAMING
    for second in range(2, int(IDLE_AFTER_S) + 2):
        assert one.answered(ns(second)) is None

    waits = one.answered(ns(IDLE_AFTER_S + 1.5))

    assert waits and waits.state is CameraState.WAITING_TRIGGER and waits.losses == 0


def test_a_triggered_camera_that_answers_with_old_images_is_lost() -> None:
    one = waiting()
    changes = []
    for second in range(1, MAX_UNFRESH + 2):
        one.answered(ns(second))
        looked(one, second - 0.9, second - 0.1)
        changes.append(one.imaged(ns(second), fresh=False, detail="it was exposed before"))

    assert [change is not None for change in changes] == [False] * (MAX_UNFRESH - 1) + [
        True,
        False,
    ]
    assert one.status.state is CameraState.LOST


def test_an_opening_that_takes_too_long_is_reported_once_and_may_still_succeed() -> None:
    one = supervision()
    one.opening(0)

    assert looked(one, 0, 10) is None
    changed = one.tick(ns(10.1))
    assert changed and changed.state is CameraState.LOST and "within 10 s" in changed.detail
    assert looked(one, 10.2, 20) is None
    one.opened(ns(21))
    back = one.imaged(ns(22), fresh=True, detail="")

    assert back and back.state is CameraState.STREAMING and back.recoveries == 1


def test_a_camera_that_opens_and_gives_no_image_is_given_up() -> None:
    one = supervision()
    one.opening(0)
    one.opened(ns(1))
    for second in range(1, 11):
        assert looked(one, second, second + 0.9) is None
        one.answered(ns(second + 0.9))

    assert one.tick(ns(11)) is None
    changed = one.tick(ns(11.1))

    assert changed and "opens, but sends no frames" in changed.detail


def test_an_outage_is_one_loss_however_many_attempts_it_takes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = streaming()
    changes = [one.lost(ns(1), "cam: hung up.")]
    for attempt in range(2, 100):
        one.opening(ns(attempt))
        changes.append(one.not_opened(ns(attempt), "cam: connection refused. Plug it in."))
    one.opening(ns(100))
    changes += [one.opened(ns(100)), one.imaged(ns(100), fresh=True, detail="")]

    states = [change.state for change in changes if change]
    assert states == [CameraState.LOST, CameraState.STREAMING]
    assert (one.status.losses, one.status.recoveries, one.status.detail) == (1, 1, "")
    assert [record.getMessage() for record in caplog.records] == [
        "cam: hung up.",
        "cam: connection refused. Plug it in.",
        "cam: the camera is connected again",
    ]


def test_the_newest_cause_of_an_outage_is_in_the_status() -> None:
    one = streaming()
    one.lost(ns(1), "cam: hung up.")
    one.not_opened(ns(2), "cam: connection refused. Plug it in.")

    assert one.status.detail == "cam: connection refused. Plug it in."
    assert one.status.since_ns == ns(1)


def test_a_camera_that_comes_back_and_refuses_its_settings_has_failed() -> None:
    one = streaming()
    one.lost(ns(1), "cam: hung up.")

    failed = one.refused(ns(2), "cam: exposure_us 50 is out of range.")

    assert failed and failed.state is CameraState.FAILED
    assert (failed.losses, failed.recoveries) == (1, 0)


def test_what_comes_after_a_reported_loss_changes_nothing() -> None:
    one = streaming()
    assert looked(one, 0, 2) is not None

    assert one.imaged(ns(2.1), fresh=True, detail="") is None
    assert one.answered(ns(2.1)) is None and one.unanswered(ns(2.1), "x") is None
    assert one.status.state is CameraState.LOST


def test_delays_double_up_to_the_longest_and_differ_by_half() -> None:
    assert [delay_s(attempt, SETTINGS, 0.5) for attempt in range(6)] == [
        *(0.1, 0.2, 0.4, 0.8, 1.0, 1.0),
    ]
    assert delay_s(0, SETTINGS, 0.0) == pytest.approx(0.05)
    assert delay_s(10_000, SETTINGS, 0.999) < 1.5


EVENTS = ("opening", "opened", "not_opened", "refused", "new", "old", "answer", "none", "lost")


@given(
    st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, ns(3))), max_size=60), st.booleans()
)
def test_whatever_happens_states_follow_the_table_and_every_outage_counts_once(
    events: list[tuple[str, int]], triggered: bool
) -> None:
    one = supervision(triggered)
    now_ns, opening = 0, False
    before = one.status
    for event, later_ns in events:
        now_ns += later_ns
        ends_opening = event in ("opened", "not_opened", "refused")
        if ends_opening != opening or (event == "opening" and one.open):
            continue  # the camera's thread does one thing after the other
        opening = event == "opening"
        match event:
            case "opening":
                one.opening(now_ns)
                changed = None
            case "opened":
                changed = one.opened(now_ns)
            case "not_opened" | "lost" | "refused":
                changed = getattr(one, event)(now_ns, event)
            case "new" | "old":
                changed = one.imaged(now_ns, fresh=event == "new", detail=event)
            case "answer":
                changed = one.answered(now_ns)
            case "none":
                changed = one.unanswered(now_ns, event)
        ticked = one.tick(now_ns)
        for status in filter(None, (changed, ticked)):
            assert status.state in MAY_FOLLOW[before.state]
            assert status.losses - before.losses == (
                status.state in AWAY and before.state not in AWAY
            )
            before = status
        away = one.status.state in AWAY
        assert one.status.losses - one.status.recoveries == away
        assert not (away and one.status.working)
