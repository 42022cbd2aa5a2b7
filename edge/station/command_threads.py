"""The command threads: carry out what PLC and MES ask for, triggers never behind commands."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from edge.contract.announcements import HandshakeMessage, TriggerPhase
from edge.contract.commands import (
    Ack,
    Command,
    CommandAnswer,
    ControlMessage,
    PortName,
    Reload,
    Resend,
    SelfTest,
    SetRecipe,
    Snapshot,
    Status,
    Trigger,
)
from edge.contract.event import Datum, Event, Severity
from edge.contract.verdict import Recipe
from edge.errors import StationError
from edge.mqtt.command_queue import CommandQueue
from edge.station.handshake.part import TriggerRequest, TriggerSource

log = logging.getLogger(__name__)

POLL_S = 0.2
# In the answer to a trigger, see ``schemas/handshake-1.json``.
NO_TRIGGERS = "no_triggers"
NOT_LEADER = "not_leader"
# Triggers that a free station ignores are logged together, no more often than this.
IGNORED_LOG_INTERVAL_NS = 60_000_000_000
# Commands that may wait for the one that is carried out.
MAX_COMMANDS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandHandlers:
    """What a station can be asked to do; a command without a handler is refused.

    Each handler of a command returns the data of its answer, and raises StationError with cause and
    next step when it cannot be done.
    """

    trigger: Callable[[TriggerRequest], None]
    acknowledge: Callable[[int], None] | None
    reload: Callable[[], Mapping[str, Datum]]
    self_test: Callable[[], Mapping[str, Datum]]
    set_recipe: Callable[[Recipe], Mapping[str, Datum]]
    snapshot: Callable[[], Mapping[str, Datum]] | None = None


class Replies(Protocol):
    """The way back to PLC and MES."""

    def answer(self, answer: CommandAnswer) -> None:
        """Answer the sender of a command."""

    def handshake(self, handshake: HandshakeMessage) -> None:
        """Answer the sender of a trigger."""


class CommandThreads:
    """Takes messages from the connection and does what they say, in two threads of its own.

    One takes triggers and acknowledgements as they come: one that waited would expose whatever
    stands before the camera by then. The other carries out commands, which may take long (a model
    that compiles), one after the other.
    """

    def __init__(
        self,
        *,
        messages: CommandQueue,
        handlers: CommandHandlers,
        source: TriggerSource | None,
        recipe: Callable[[], Recipe | None],
        offered: Callable[[str, int | str | None], Recipe | None] | None = None,
        leader: PortName | None,
        journal: str | None,
        replies: Replies | None,
        record_event: Callable[[Event], None],
        beat: Callable[[], None] = lambda: None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Prepare both threads; ``run`` and ``run_commands`` are their bodies.

        Args:
            source: what exposes after a trigger; None for a station that takes none.
            recipe: the one that is live.
            offered: the recipe that a part may ask for by id and version; None where the station
                has the live one alone.
            leader: the port whose triggers and acknowledgements count; others only watch.
            journal: UUID; acknowledgements for another one are not ours.
            replies: to whoever sent a command or a trigger; None without a broker, where nobody
                does.
            record_event: keeps what was done.
            beat: the thread of the triggers is alive.
        """
        self._messages = messages
        self._commands = CommandQueue(MAX_COMMANDS)
        self._beat = beat
        self._handlers = handlers
        self._source = source
        self._recipe = recipe
        self._offered = offered
        self._leader = leader
        self._journal = journal
        self._replies = replies
        self._record_event = record_event
        self._clock_ns = clock_ns
        self._utc_ns = utc_ns
        self._ignored, self._last_ignored = 0, ""  # triggers since the last line about them
        self._ignored_logged_ns: int | None = None

    def run(self, ending: Callable[[], bool]) -> None:
        """Take messages until the station ends; the body of the thread of the triggers."""
        while not ending():
            self._beat()
            message = self._messages.get(POLL_S)
            if message is not None:
                self._dispatch(message)
            self._log_ignored()
        self._log_ignored(at_the_end=True)

    def run_commands(self, ending: Callable[[], bool], between: Callable[[], None]) -> None:
        """Carry out commands until the station ends; the body of their thread.

        Args:
            between: called in every round, for what signals ask for.
        """
        while not ending():
            message = self._commands.get(POLL_S)
            if message is not None:
                assert not isinstance(message, Trigger | Ack)
                self._command(message)
            between()

    def _dispatch(self, message: ControlMessage) -> None:
        match message:
            case Trigger():
                self._trigger(message)
            case Ack(seq, journal, port):
                ours = journal in (None, self._journal) and port == self._leader
                if ours and self._handlers.acknowledge is not None:
                    self._handlers.acknowledge(seq)
            case Resend():
                raise AssertionError("resends are handled by the connection itself")
            case _:
                if not self._commands.put(message):
                    text = "The station has too many commands waiting. Ask again later."
                    self._finish(
                        CommandAnswer(
                            request=message.request,
                            status=Status.REFUSED,
                            detail=text,
                            reason="busy",
                        )
                    )

    def _trigger(self, trigger: Trigger) -> None:
        if self._source is None or trigger.port != self._leader:
            self._ignored += 1
            self._last_ignored = trigger.trigger_id
            if self._replies is not None:
                self._replies.handshake(
                    HandshakeMessage(
                        phase=TriggerPhase.REJECTED,
                        trigger_id=trigger.trigger_id,
                        part_id=trigger.part_id,
                        utc_ns=self._utc_ns(),
                        reason=NO_TRIGGERS if self._source is None else NOT_LEADER,
                    )
                )
            return
        recipe, offered = self._find_recipe(trigger)
        self._handlers.trigger(
            TriggerRequest(
                trigger_id=trigger.trigger_id,
                part_id=trigger.part_id,
                recipe=recipe,
                deadline_ms=_deadline_ms(trigger),
                received_ns=trigger.received_ns,
                received_utc_ns=self._utc_ns() - (self._clock_ns() - trigger.received_ns),
                source=self._source,
                offered=offered,
            )
        )

    def _log_ignored(self, at_the_end: bool = False) -> None:
        """Log ignored triggers: the first at once, those that follow together."""
        now_ns, logged_ns = self._clock_ns(), self._ignored_logged_ns
        due = logged_ns is None or now_ns - logged_ns >= IGNORED_LOG_INTERVAL_NS
        if self._ignored and (due or at_the_end):
            why = f"triggers come from {self._leader}, which leads the hand-shake"
            if self._source is None:
                why = "this station runs free and needs no triggers. Set camera.trigger.mode"
            log.warning(
                "%d trigger(s) ignored, %s the last: %s.", self._ignored, self._last_ignored, why
            )
            self._ignored, self._ignored_logged_ns = 0, now_ns

    def _find_recipe(self, trigger: Trigger) -> tuple[Recipe | None, bool | None]:
        """Return what a trigger asks for, and whether the station offers it beside the live one."""
        asked, version = trigger.recipe_id, trigger.recipe_version
        if asked is None:
            return None, None
        if self._offered is not None:
            found = self._offered(asked, version)
            return found or Recipe(asked, version or 0), found is not None
        live = self._recipe()
        if version is None:
            # Any version of it will do.
            return live if live and live.id == asked else Recipe(asked, 0), None
        return Recipe(asked, version), None

    def _command(self, command: Command) -> None:
        request = command.request
        try:
            done = self._do(command)
        except StationError as error:
            log.warning("%s: %s", request.name, error)
            answer = CommandAnswer(
                request=request,
                status=Status.FAILED,
                detail=str(error),
                reason=type(error).__name__,
            )
        else:
            if done is None:
                text = "this station has no snapshots. Set snapshots.folder."
                answer = CommandAnswer(
                    request=request, status=Status.REFUSED, detail=text, reason="not_configured"
                )
            else:
                answer = CommandAnswer(request=request, status=Status.DONE, data=done)
        self._finish(answer)

    def _finish(self, answer: CommandAnswer) -> None:
        """Answer, and record what was done."""
        request = answer.request
        if self._replies is not None and request.answered:
            self._replies.answer(answer)
        self._record_event(
            Event(
                "command_done" if answer.status is Status.DONE else "command_failed",
                Severity.INFO if answer.status is Status.DONE else Severity.WARNING,
                answer.detail or f"{request.name} done",
                {"command": request.name, "sender": request.sender, **answer.data},
            )
        )

    def _do(self, command: Command) -> Mapping[str, Datum] | None:
        match command:
            case Reload():
                return self._handlers.reload()
            case SelfTest():
                return self._handlers.self_test()
            case SetRecipe(_, recipe):
                return self._handlers.set_recipe(recipe)
            case Snapshot():
                return None if self._handlers.snapshot is None else self._handlers.snapshot()
        raise AssertionError(f"{type(command).__name__} is not a command of this thread")


def _deadline_ms(trigger: Trigger) -> float | None:
    """Return the sooner of deadline and expiry: a part whose message ran out is not inspected."""
    limits = []
    if trigger.deadline_ms is not None:
        limits.append(trigger.deadline_ms)
    if trigger.expires_ns is not None:
        limits.append((trigger.expires_ns - trigger.received_ns) / 1e6)
    return min(limits, default=None)
