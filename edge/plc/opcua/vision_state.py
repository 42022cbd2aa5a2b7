"""What state a station is in, in the words of OPC 40100-1 (8.2 and 8.3); pure.

A station has of its transitions those that it makes by itself, the automatic ones.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from edge.contract.state import HINDERING, Condition

VISION, AUTOMATIC = "VisionStateMachine", "AutomaticModeStateMachine"


@dataclass(frozen=True, slots=True)
class VisionState:
    """A state or a transition, and the node id of its object in the specification's namespace."""

    name: str
    node: int


PREOPERATIONAL = VisionState("Preoperational", 5028)
HALTED = VisionState("Halted", 5029)
ERROR = VisionState("Error", 5030)
OPERATIONAL = VisionState("Operational", 5031)
READY = VisionState("Ready", 5057)
CONTINUOUS_EXECUTION = VisionState("ContinuousExecution", 5059)

TRANSITIONS = {
    (PREOPERATIONAL, OPERATIONAL): VisionState("PreoperationalToOperationalAuto", 5254),
    (PREOPERATIONAL, ERROR): VisionState("PreoperationalToErrorAuto", 5034),
    (PREOPERATIONAL, HALTED): VisionState("PreoperationalToHaltedAuto", 5033),
    (OPERATIONAL, ERROR): VisionState("OperationalToErrorAuto", 5051),
    (OPERATIONAL, HALTED): VisionState("OperationalToHaltedAuto", 5050),
    (OPERATIONAL, PREOPERATIONAL): VisionState("OperationalToPreoperationalAuto", 5048),
    (ERROR, OPERATIONAL): VisionState("ErrorToOperationalAuto", 5255),
    (ERROR, HALTED): VisionState("ErrorToHaltedAuto", 5042),
    (ERROR, PREOPERATIONAL): VisionState("ErrorToPreoperationalAuto", 5040),
}

# SystemStateDataType (12.20, after SEMI E10).
PRODUCTIVE, STANDBY, UNSCHEDULED_DOWN, NOT_SCHEDULED = 1, 2, 5, 6


@dataclass(frozen=True, slots=True)
class StateStep:
    before: VisionState
    after: VisionState
    transition: VisionState


@dataclass(frozen=True, slots=True)
class VisionStates:
    """Where a station is.

    Attributes:
        automatic: of the machine within ``Operational``; None outside of it.
        system_state: as SystemStateDataType counts.
    """

    vision: VisionState = PREOPERATIONAL
    automatic: VisionState | None = None
    system_state: int = STANDBY

    @property
    def is_ready(self) -> bool:
        """A trigger would be taken."""
        return self.automatic == READY

    def to(self, after: "VisionStates") -> Sequence[StateStep]:
        """Return the steps to another place."""
        if self.vision == after.vision:
            return ()
        return (StateStep(self.vision, after.vision, TRANSITIONS[self.vision, after.vision]),)


def vision_states(condition: Condition, reasons: Collection[str], triggered: bool) -> VisionStates:
    """Return where a station is.

    Args:
        reasons: for which it is degraded.
        triggered: parts come with triggers, else with the camera's own clock.
    """
    if condition is Condition.STOPPED:
        return VisionStates(HALTED, None, NOT_SCHEDULED)
    if condition is Condition.STARTING:
        return VisionStates()
    if HINDERING.intersection(reasons):
        return VisionStates(ERROR, None, UNSCHEDULED_DOWN)
    return VisionStates(OPERATIONAL, READY if triggered else CONTINUOUS_EXECUTION, PRODUCTIVE)
