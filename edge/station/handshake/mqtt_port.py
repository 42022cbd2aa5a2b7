"""The hand-shake over MQTT: phases on the topic ``handshake``; the result is the verdict itself."""

import time
from collections.abc import Callable

from edge.contract.announcements import HandshakeMessage, TriggerPhase
from edge.imaging.frame import Frame
from edge.inspection.decision import Result
from edge.station.handshake.part import Part, PartPhase, PartResult, Rejection, Repeated


class MqttPort:
    """Publishes what became of triggers.

    MQTT has no latency bound: what rejects a part belongs on a digital output with a deadline.
    """

    def __init__(
        self,
        send: Callable[[HandshakeMessage], None],
        state_changed: Callable[[], None],
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Take what publishes phases and states.

        Args:
            send: publishes a phase.
            state_changed: publishes the state, which says whether a trigger would be accepted.
        """
        self._send = send
        self._state_changed = state_changed
        self._utc_ns = utc_ns

    def ready(self, ready: bool) -> None:
        self._state_changed()

    def accepted(self, part: Part) -> None:
        self._publish(TriggerPhase.ACCEPTED, part)

    def rejected(self, part: Part, rejection: Rejection, recorded: bool) -> None:
        self._publish(TriggerPhase.REJECTED, part, reason=rejection.value)

    def repeated(self, known: Repeated) -> None:
        rejection = known.rejection.value if known.rejection else None
        if known.phase in (PartPhase.REJECTED, PartPhase.ACCEPTED):
            phase = TriggerPhase(known.phase.value)
        else:
            phase = TriggerPhase.EXPOSED if known.exposed else TriggerPhase.DECIDED
        self._publish(phase, known.part, rejection, known.seq, result=known.result, repeated=True)

    def exposed(self, part: Part) -> None:
        self._publish(TriggerPhase.EXPOSED, part)

    def unexpected(self, frame: Frame) -> None:
        """No trigger is there to be answered."""

    def result_valid(self, part: Part, seq: int, decided: PartResult) -> None:
        """The verdict is the message."""

    def result_cleared(self, part: Part) -> None:
        """Nothing stands here that could be cleared: messages are not signals."""

    def _publish(
        self,
        phase: TriggerPhase,
        part: Part,
        reason: str | None = None,
        seq: int | None = None,
        *,
        result: Result | None = None,
        repeated: bool = False,
    ) -> None:
        if part.trigger_id is not None:
            now_ns = self._utc_ns()
            self._send(
                HandshakeMessage(
                    phase=phase,
                    trigger_id=part.trigger_id,
                    part_id=part.part_id,
                    utc_ns=now_ns,
                    reason=reason,
                    seq=seq,
                    result=result.value if result else None,
                    repeated=repeated,
                )
            )
