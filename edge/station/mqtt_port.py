"""The hand-shake over MQTT: phases on the topic ``handshake``; the result is the verdict itself."""

import time
from collections.abc import Callable

from edge.inspection.thresholding import Result
from edge.messaging.announcements import Handshake
from edge.messaging.announcements import Phase as Told
from edge.station.parts import Part, Phase, Rejection


class MqttPort:
    """Tells what became of triggers.

    MQTT has no latency bound: what rejects a part belongs on a digital output with a deadline.
    """

    def __init__(
        self,
        tell: Callable[[Handshake], None],
        state_changed: Callable[[], None],
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Args:
        tell: publishes a phase.
        state_changed: publishes the state, which says whether a trigger would be accepted.
        """
        self._tell = tell
        self._state_changed = state_changed
        self._utc_ns = utc_ns

    def ready(self, ready: bool) -> None:
        self._state_changed()

    def accepted(self, part: Part) -> None:
        self._say(Told.ACCEPTED, part)

    def rejected(self, part: Part, rejection: Rejection) -> None:
        self._say(Told.REJECTED, part, reason=rejection.value)

    def repeated(self, part: Part, phase: Phase, seq: int | None) -> None:
        told = {Phase.REJECTED: Told.REJECTED, Phase.ACCEPTED: Told.ACCEPTED}
        self._say(told.get(phase, Told.EXPOSED), part, seq=seq)

    def exposed(self, part: Part) -> None:
        self._say(Told.EXPOSED, part)

    def result_valid(self, part: Part, seq: int, result: Result) -> None:
        """The verdict says it."""

    def result_cleared(self, part: Part) -> None:
        """Nothing stands here that could be cleared: messages are not signals."""

    def _say(
        self, phase: Told, part: Part, reason: str | None = None, seq: int | None = None
    ) -> None:
        if part.trigger_id is not None:
            self._tell(Handshake(phase, part.trigger_id, part.part_id, self._utc_ns(), reason, seq))
