"""The station's connection to the broker: the publisher, its thread, and how it ends."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from edge.contract.announcements import Meta, Metrics
from edge.contract.delivery import VerdictsUndelivered
from edge.contract.encoding import utc_text
from edge.contract.event import Event
from edge.contract.state import Condition, State, StationReport
from edge.journal.outbox import Outbox
from edge.journal.writer import JournalWriter
from edge.mqtt.command_queue import CommandQueue
from edge.mqtt.publisher import MqttPublisher
from edge.settings.station import MqttSettings
from edge.station.threads import Failures, Worker

log = logging.getLogger(__name__)

DELIVERY_LIMIT_S = 10.0
STOP_DELIVERY_LIMIT_S = 5.0
NETWORK_STOP_LIMIT_S = 8.0


class MqttThread:
    """The MQTT publisher and its thread.

    Attributes:
        publisher: relays the journal, says state and metrics, hears commands.
    """

    def __init__(
        self,
        *,
        mqtt: MqttSettings,
        camera: str,
        meta: Meta,
        journal: Path,
        writer: JournalWriter,
        messages: CommandQueue,
        on_event: Callable[[Event], None],
        report: Callable[[], StationReport],
        metrics: Callable[[], Metrics],
        beat: Callable[[], None],
        kept: Callable[[], str],
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            camera: redacted URI.
            journal: the database whose rows are relayed.
            writer: where the broker's acknowledgements go.
            messages: where what PLC and MES ask for goes.
            kept: tells where the records are that the broker does not have.

        Raises:
            ConfigurationError: the password file or a certificate cannot be used.
            JournalError: the journal cannot be read.
        """
        self.publisher = MqttPublisher(
            settings=mqtt,
            state=State(
                condition=Condition.STARTING,
                since_utc=utc_text(time.time_ns()),
                reasons=(),
                camera=camera,
                model=meta.model_name,
            ),
            meta=meta,
            outbox=Outbox(journal),
            marks=writer,
            control=messages,
            on_event=on_event,
            report=report,
            metrics=metrics,
            beat=beat,
        )
        self._kept = kept
        self._address = mqtt.url
        self._worker: Worker | None = None

    def start(self, failures: Failures) -> None:
        self._worker = Worker("mqtt", self.publisher.run, failures)
        self._worker.start()

    def set_reasons(self, reasons: tuple[str, ...]) -> None:
        """Say what is wrong with the station that runs; nothing is ``online``."""
        self.publisher.set_state(Condition.DEGRADED if reasons else Condition.ONLINE, *reasons)

    def wait_until_delivered(
        self, limit_s: float, given_up: Callable[[], bool]
    ) -> VerdictsUndelivered | None:
        """Wait for the broker's acknowledgements; return the error if some do not come."""
        delivery = self.publisher.wait_until_delivered(limit_s, given_up)
        if delivery.verdicts_complete:
            if not delivery.complete:
                log.warning("the broker does not have all events. %s", self._kept())
            return None
        return VerdictsUndelivered(
            f"not all verdicts were acknowledged by the broker at {self._address}. {self._kept()}"
        )

    def stop(self, *reasons: str) -> None:
        """Say ``stopped`` and hang up."""
        self.publisher.stop(*reasons)
        if self._worker and not self._worker.join(NETWORK_STOP_LIMIT_S):
            log.warning("the connection to the broker did not end in time")
