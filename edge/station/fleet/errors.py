"""Why a station does not take a release; each message names the cause and the next step."""

from edge.contract.fleet import NOT_FETCHED
from edge.errors import StationError


class ReleaseRefused(StationError):
    """The release must not come in force here; nothing was changed.

    Attributes:
        reason: machine-readable, in the station's report.
    """

    exit_code = 78

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ReleaseNotFetched(ReleaseRefused):
    """The release did not arrive; later it may."""

    def __init__(self, message: str) -> None:
        super().__init__(NOT_FETCHED, message)
