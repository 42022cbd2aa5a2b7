"""Keeps the station going whatever a verdict port does, and reports what it did not take."""

import logging
from collections.abc import Callable

from edge.contract.event import Event, Severity
from edge.contract.verdict import Verdict
from edge.errors import StationError
from edge.ports.port import PortSettings, VerdictPort
from edge.settings.station import Settings
from edge.station.monitoring.health import Health
from edge.station.pipeline.sinks import Sink
from edge.station.threads import Failures

log = logging.getLogger(__name__)


class PortOutput:
    """One verdict port behind a sink; a fault makes the station degraded until a verdict passes.

    Attributes:
        failed: verdicts that the port did not take.
    """

    def __init__(
        self,
        name: str,
        port: VerdictPort,
        health: Health,
        record_event: Callable[[Event], None],
    ) -> None:
        self.failed = 0
        self._name = name
        self._port = port
        self._health = health
        self._record_event = record_event
        self._stopped = False

    def write(self, verdict: Verdict) -> None:
        """Hand on one verdict; never raises for what the port met."""
        reason = f"{self._name}_stopped"
        try:
            self._port.write(verdict)
        except StationError as error:
            self.failed += 1
            if not self._stopped:
                self._stopped = True
                log.error("%s Inspection continues; verdicts are missing there.", error)
                self._health.set(reason, True, str(error))
                self._record_event(Event(reason, Severity.WARNING, str(error)))
            return
        if self._stopped:
            self._stopped = False
            log.info("%s accepts verdicts again; %d are missing there", self._name, self.failed)
            self._health.set(reason, False)


def port_sinks(
    settings: Settings,
    *,
    can_wait: bool,
    failures: Failures,
    health: Health,
    record_event: Callable[[Event], None],
) -> list[Sink]:
    """Open every verdict port that the settings have a section for, each behind a sink.

    Raises:
        StationError: a port cannot be used.
    """
    found = {name: value for name, value in settings if isinstance(value, PortSettings)}
    outputs = {
        name: PortOutput(name, section.open_port(), health, record_event)
        for name, section in found.items()
    }
    return [
        Sink(
            name=name,
            deliver=outputs[name].write,
            bound=section.queue_bound,
            wait_for_room=can_wait,
            failures=failures,
        )
        for name, section in found.items()
    ]
