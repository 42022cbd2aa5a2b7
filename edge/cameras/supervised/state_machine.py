"""The state of a supervised camera: a pure state machine, time passed in."""

import logging
from dataclasses import dataclass, replace
from enum import StrEnum

from edge.cameras.interface import CameraReport
from edge.settings.camera import SupervisionSettings

log = logging.getLogger(__name__)

# A triggered camera that gave no frame for so long waits for its trigger again.
IDLE_AFTER_S = 10.0
# So many frames in a row that are not new: whatever gives them is no camera.
MAX_UNFRESH = 5
# Both threads look several times a second; when nobody did, the whole process stood still, and what
# came meanwhile is given this long to be seen before its absence is judged.
STOOD_STILL_S = 0.5
GRACE_NS = 200_000_000
# Causes that are logged of one outage.
MAX_CAUSES = 16


class CameraState(StrEnum):
    """Where a camera is."""

    CONNECTING = "connecting"  # opened for the first time
    STREAMING = "streaming"
    WAITING_TRIGGER = "waiting_trigger"  # answers, and gives no frame because none is asked for
    WAITING_IMAGE = "waiting_image"  # a watched folder is there, and nobody writes into it
    LOST = "lost"  # tried again and again
    FAILED = "failed"  # there, but does not take its settings; tried again, too


IDLE = frozenset({CameraState.WAITING_TRIGGER, CameraState.WAITING_IMAGE})
WORKING = IDLE | {CameraState.STREAMING}
AWAY = frozenset({CameraState.LOST, CameraState.FAILED})
MAY_FOLLOW = {
    CameraState.CONNECTING: WORKING | AWAY,
    CameraState.STREAMING: IDLE | {CameraState.LOST},
    CameraState.WAITING_TRIGGER: frozenset({CameraState.STREAMING, CameraState.LOST}),
    CameraState.WAITING_IMAGE: frozenset({CameraState.STREAMING, CameraState.LOST}),
    CameraState.LOST: WORKING | {CameraState.FAILED},
    CameraState.FAILED: WORKING | {CameraState.LOST},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraStatus:
    """What is known of a camera.

    Attributes:
        state: where it is.
        since_ns: monotonic time of the last change of state.
        detail: cause and next step in words; of a working camera, empty.
        losses: how often it was away, absence at the start included.
        recoveries: how often it came back.
        report: what it said about itself last; None before it was open.
    """

    state: CameraState
    since_ns: int
    detail: str = ""
    losses: int = 0
    recoveries: int = 0
    report: CameraReport | None = None

    @property
    def working(self) -> bool:
        """Frames come, or would if one was asked for."""
        return self.state in WORKING


class Supervision:
    """Decides what the events of a camera mean; whoever owns it serialises the calls.

    Every event returns the new status if the state changed, else None. An outage is one state from
    its beginning to the first proof that the camera works again, however many attempts that takes.

    Attributes:
        status: as of the last event; its detail follows the newest cause.
        open: the device is open and was not given up; only then does an event of it count.
    """

    def __init__(
        self,
        *,
        identity: str,
        settings: SupervisionSettings,
        triggered: bool,
        now_ns: int,
        idle: CameraState = CameraState.WAITING_TRIGGER,
    ) -> None:
        """Begin with a camera that was not opened yet.

        Args:
            identity: what messages call the camera.
            settings: the limits.
            triggered: no frame is no fault, only no answer is.
            idle: where such a camera is while nothing is asked of it.
            now_ns: monotonic, as in every call.
        """
        self.status = CameraStatus(state=CameraState.CONNECTING, since_ns=now_ns)
        self.open = False
        self._identity = identity
        self._triggered = triggered
        self._idle = idle
        self._lost_after_s = settings.lost_after_s
        self._opening_limit_s = settings.opening_limit_s
        self._opening_ns: int | None = None
        self._opened_ns = now_ns
        self._proven_ns = now_ns  # that the camera works, by what is asked of one of its kind
        self._imaged_ns = now_ns
        self._looked_ns = self._judge_from_ns = now_ns
        self._awaits_first = False
        self._unfresh = 0
        self._last_fault = ""
        self._unanswered = ""
        self._causes: set[str] = set()

    def opening(self, now_ns: int) -> None:
        """Note that the camera is being opened and configured."""
        self._opening_ns = now_ns

    def opened(self, now_ns: int) -> CameraStatus | None:
        """Note that the camera is open with its settings; a triggered one needs no more proof."""
        self._opening_ns = None
        self.open = True
        self._opened_ns = self._proven_ns = self._imaged_ns = now_ns
        self._unfresh = 0
        self._last_fault = self._unanswered = ""
        self._awaits_first = not self._triggered
        return self._works(self._idle, now_ns) if self._triggered else None

    def not_opened(self, now_ns: int, cause: str) -> CameraStatus | None:
        """Note that it did not open; the cause names the next step."""
        self._opening_ns = None
        return self._away(CameraState.LOST, cause, now_ns)

    def refused(self, now_ns: int, cause: str) -> CameraStatus | None:
        """Note that it opened and does not take its settings."""
        self._opening_ns = None
        return self._away(CameraState.FAILED, cause, now_ns)

    def imaged(self, now_ns: int, fresh: bool, detail: str) -> CameraStatus | None:
        """Note a frame; one that is not new proves nothing."""
        if not self.open:
            return None
        if not fresh:
            self._unfresh += 1
            self._last_fault = detail
            return self.tick(now_ns)
        self._unfresh = 0
        self._last_fault = self._unanswered = ""
        self._awaits_first = False
        self._proven_ns = self._imaged_ns = now_ns
        return self._works(CameraState.STREAMING, now_ns)

    def answered(self, now_ns: int) -> CameraStatus | None:
        """Note that the device answers; frames prove more, and of a free-running one are due."""
        if not self.open or not self.answers_count:
            return None
        self._proven_ns = now_ns
        self._unanswered = ""
        idle_s = (now_ns - self._imaged_ns) / 1e9
        if self.status.state is CameraState.STREAMING and idle_s > IDLE_AFTER_S:
            return self._works(self._idle, now_ns)
        return None

    def worked(self, now_ns: int) -> None:
        """Note that the camera is at work on a frame: it is not silent."""
        if self.open:
            self._proven_ns = now_ns

    def unanswered(self, now_ns: int, cause: str) -> CameraStatus | None:
        """Note that the device was asked and did not answer; it is asked again until it is late."""
        if not self.open:
            return None
        self._unanswered = cause
        return self.tick(now_ns)

    @property
    def answers_count(self) -> bool:
        """Whether an answer is a proof: of a triggered camera, and before the first frame."""
        return self._triggered or self._awaits_first

    def silence_s(self, now_ns: int) -> float:
        """Return how long there has been no proof."""
        return (now_ns - self._proven_ns) / 1e9

    def lost(self, now_ns: int, cause: str) -> CameraStatus | None:
        """Note that the camera is gone."""
        return self._away(CameraState.LOST, cause, now_ns)

    def reported(self, report: CameraReport) -> None:
        """Keep what the camera says about itself."""
        self.status = replace(self.status, report=report)

    def tick(self, now_ns: int) -> CameraStatus | None:
        """Do what is due by time: give up an opening or a camera that is silent for too long."""
        if (now_ns - self._looked_ns) / 1e9 > STOOD_STILL_S:
            self._judge_from_ns = now_ns + GRACE_NS
        self._looked_ns = now_ns
        if now_ns < self._judge_from_ns:
            return None
        if not self.open:
            began_ns = self._opening_ns
            if began_ns is None or (now_ns - began_ns) / 1e9 <= self._opening_limit_s:
                return None
            # The call goes on; should it succeed, so much the better.
            return self._away(
                CameraState.LOST,
                f"{self._identity}: no answer within {self._opening_limit_s:g} s. Check that the "
                "camera is switched on and reachable from this machine.",
                now_ns,
            )
        if self.silence_s(now_ns) > self._lost_after_s:
            return self._away(CameraState.LOST, self._silence(), now_ns)
        if self._unfresh >= MAX_UNFRESH and now_ns - self._imaged_ns > self._lost_after_s * 1e9:
            return self._away(CameraState.LOST, self._silence(), now_ns)
        if self._awaits_first and (now_ns - self._opened_ns) / 1e9 > self._opening_limit_s:
            return self._away(CameraState.LOST, self._silence(), now_ns)
        return None

    def _silence(self) -> str:
        if self._unanswered:
            return self._unanswered
        if self._last_fault:
            return (
                f"{self._identity}: sends frames, but no new ones ({self._last_fault}). Check "
                "the camera, and that something moves or is lit in front of it."
            )
        if self._awaits_first:
            return (
                f"{self._identity}: opens, but sends no frames. Check that no other program "
                "uses the camera, and its trigger and network settings."
            )
        what = "answer" if self._triggered else "frame"
        return (
            f"{self._identity}: no {what} for {self._lost_after_s:g} s. Check cable and power of "
            "the camera."
        )

    def _works(self, state: CameraState, now_ns: int) -> CameraStatus | None:
        before = self.status
        if before.state is state:
            return None
        if before.state in AWAY:
            log.warning("%s: the camera is connected again", self._identity)
        elif before.state is CameraState.CONNECTING:
            log.info("%s: the camera works", self._identity)
        self._causes.clear()
        return self._move(state, "", now_ns, came_back=before.state in AWAY)

    def _away(self, state: CameraState, cause: str, now_ns: int) -> CameraStatus | None:
        self.open = False
        if cause not in self._causes and len(self._causes) < MAX_CAUSES:
            self._causes.add(cause)
            log.warning("%s", cause)
        before = self.status
        if before.state is state:
            self.status = replace(before, detail=cause)
            return None
        return self._move(state, cause, now_ns, went_away=before.state not in AWAY)

    def _move(
        self,
        state: CameraState,
        detail: str,
        now_ns: int,
        *,
        went_away: bool = False,
        came_back: bool = False,
    ) -> CameraStatus:
        before = self.status
        if state not in MAY_FOLLOW[before.state]:
            raise AssertionError(f"a camera cannot go from {before.state} to {state}")
        self.status = replace(
            before,
            state=state,
            since_ns=now_ns,
            detail=detail,
            losses=before.losses + went_away,
            recoveries=before.recoveries + came_back,
        )
        return self.status


def delay_s(attempt: int, settings: SupervisionSettings, chance: float) -> float:
    """Return how long to wait before an attempt to open: doubling, ±50 %.

    Args:
        attempt: 0, 1, …; since the camera last worked.
        settings: first and longest delay.
        chance: in [0, 1), so that many stations do not come at once after a power cut.
    """
    doubled = settings.first_delay_s * 2.0 ** min(attempt, 32)
    return min(settings.longest_delay_s, doubled) * (0.5 + chance)
