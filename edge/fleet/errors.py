"""Why a roll-out does not begin, or does not go on; each message names the next step."""

from edge.errors import ConfigurationError, StationError


class PlanInvalid(ConfigurationError):
    """The plan's file says something that no plan can."""


class ReleaseUnusable(ConfigurationError):
    """The release's file cannot be released, or not be put where stations fetch it."""


class RolloutRefused(StationError):
    """Another roll-out, or another operator, is in the way (EX_TEMPFAIL)."""

    exit_code = 75


class LeadLost(StationError):
    """Another command has taken over; what this one began goes on there."""

    exit_code = 75


class BrokerAway(StationError):
    """The broker cannot be reached (EX_UNAVAILABLE)."""

    exit_code = 69


class AddressTaken(StationError):
    """The overview cannot listen where it should (EX_UNAVAILABLE)."""

    exit_code = 69


class RolloutStopped(StationError):
    """The roll-out ended before all stations had the release."""

    exit_code = 1
