"""The two mailbox policies: nothing is lost without being told."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.station.pipeline.mailbox import EveryMailbox, LatestMailbox, Mailbox, MailboxClosed

# True puts the next number, False takes one.
schedules = st.lists(st.booleans(), max_size=200)


def play(mailbox: Mailbox[int], schedule: list[bool]) -> tuple[list[int], list[int], int]:
    """Return what was taken, what was given back, and how many were put."""
    taken: list[int] = []
    given_back: list[int] = []
    count = 0
    for put in schedule:
        if put:
            back = mailbox.put(count)
            count += 1
            given_back += [] if back is None else [back]
        else:
            item = mailbox.get(0.0)
            taken += [] if item is None else [item]
    mailbox.close()
    with pytest.raises(MailboxClosed):
        while True:
            item = mailbox.get(0.0)
            assert item is not None
            taken.append(item)
    return taken, given_back, count


@given(schedules)
def test_latest_gives_the_newest_and_counts_the_rest(schedule: list[bool]) -> None:
    mailbox: LatestMailbox[int] = LatestMailbox()

    taken, given_back, count = play(mailbox, schedule)

    assert taken == sorted(set(taken))
    assert not given_back
    assert len(taken) + mailbox.skipped == count
    assert count == 0 or taken[-1] == count - 1


@given(schedules, st.integers(1, 5))
def test_every_takes_in_order_or_gives_back_each_item(schedule: list[bool], depth: int) -> None:
    mailbox: EveryMailbox[int] = EveryMailbox(depth)

    taken, given_back, count = play(mailbox, schedule)

    assert taken == sorted(taken)
    assert sorted(taken + given_back) == list(range(count))
    assert mailbox.skipped == 0


@given(st.integers(1, 4), st.integers(0, 40))
def test_a_source_that_can_wait_loses_nothing(depth: int, count: int) -> None:
    mailbox: EveryMailbox[int] = EveryMailbox(depth, room_limit_s=None)

    def produce() -> None:
        for number in range(count):
            assert mailbox.put(number) is None
        mailbox.close()

    producer = threading.Thread(target=produce)
    producer.start()
    taken = []
    with pytest.raises(MailboxClosed):
        while True:
            item = mailbox.get(30.0)
            assert mailbox.waiting <= depth
            taken.append(item)
    producer.join()

    assert taken == list(range(count))


def test_closing_wakes_a_putter_that_waits_for_room() -> None:
    mailbox: EveryMailbox[str] = EveryMailbox(1, room_limit_s=None)
    mailbox.put("first")
    refused = threading.Event()

    def put_second() -> None:
        with pytest.raises(MailboxClosed):
            mailbox.put("second")
        refused.set()

    threading.Thread(target=put_second, daemon=True).start()
    mailbox.close()

    assert refused.wait(30.0)
    assert mailbox.get(0.0) == "first"


@pytest.mark.parametrize("mailbox", [LatestMailbox(), EveryMailbox(1)])
def test_closing_wakes_a_taker(mailbox: Mailbox[str]) -> None:
    woken = threading.Event()

    def get() -> None:
        with pytest.raises(MailboxClosed):
            mailbox.get(60.0)
        woken.set()

    threading.Thread(target=get, daemon=True).start()
    mailbox.close()

    assert woken.wait(30.0)


@pytest.mark.parametrize("mailbox", [LatestMailbox(), EveryMailbox(1)])
def test_an_empty_mailbox_says_so_in_time(mailbox: Mailbox[str]) -> None:
    assert mailbox.get(0.01) is None
