"""The reload: settings, model, secrets read again and put in force between two parts."""

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from edge.contract.event import Datum, Event, Severity
from edge.errors import ConfigurationError, StationError
from edge.station.model.manager import ModelExchangeFailed
from edge.station.monitoring.systemd import StatusLine

log = logging.getLogger(__name__)

# A model that takes longer to compile and test will not come.
RELOAD_LIMIT_S = 600.0


class Renewable(Protocol):
    """What was made with a file of secrets, and can be made anew with what the file has now."""

    def outdated(self) -> bool:
        """Return whether the file has changed; raises ConfigurationError if it cannot be used."""

    def renew(self) -> None:
        """Put what the file has now in force."""


class Reloader:
    """Takes over what changed, for SIGHUP, command and page; all of it or nothing."""

    def __init__(self, status: StatusLine, record_event: Callable[[Event], None]) -> None:
        """Begin with nothing that a reload renews; see ``add``.

        Args:
            status: shows in ``systemctl status`` why the last reload changed nothing.
        """
        self._status = status
        self._record_event = record_event
        self._renewables: list[tuple[str, Renewable]] = []

    def add(self, what: str, renewable: Renewable) -> None:
        """Add what a reload renews; ``what`` names it in the answer."""
        self._renewables.append((what, renewable))

    def run(self, change: Callable[[], Mapping[str, Datum]]) -> Mapping[str, Datum]:
        """Reload; return what changed.

        Args:
            change: has the model read its settings again, for the same recipe or another.

        Raises:
            StationError: nothing was changed; cause and next step. The journal has it as an event.
        """
        with self._status.reloading("reading the settings", RELOAD_LIMIT_S):
            try:
                outdated = [(what, one) for what, one in self._renewables if one.outdated()]
                done = change()
            except ModelExchangeFailed as error:  # has its event
                self._status.not_reloaded = str(error)
                raise
            except StationError as error:
                self._record_event(Event("reload_refused", Severity.WARNING, str(error)))
                self._status.not_reloaded = str(error)
                raise
            except Exception as error:  # a defect of ours; the station goes on as it was
                log.exception("the reload met a defect")
                detail = f"internal error: {type(error).__name__}: {error}"
                self._record_event(Event("reload_refused", Severity.ALARM, detail))
                self._status.not_reloaded = detail
                raise ConfigurationError(detail) from error
            self._status.not_reloaded = ""
        for what, one in outdated:
            one.renew()
            done = {**done, "changed": f"{done['changed']}, {what}"}
        return done
