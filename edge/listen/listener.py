"""edge-listen's connection: a session that persists, acknowledged once all is on the disk.

What waits is kept by an executor, so that a database that is slow, or away, holds up no keep-alive:
messages that are not kept stay unacknowledged, and the broker sends no more than a bound of them.
"""

import json
import logging
import random
import re
import secrets
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.contract.commands import RecordKind, Status
from edge.contract.encoding import to_json, utc_text
from edge.contract.state import Condition
from edge.contract.topics import ROOT, StationNameInvalid, StationTopic
from edge.errors import ConfigurationError, OutputNotWritable, StationError
from edge.listen.columns import check_storable
from edge.listen.gap_repair import Ask, GiveUp, Repair, believed
from edge.listen.joined_parts import Parts
from edge.listen.known_journals import ReportedJournal
from edge.listen.records import (
    Arrived,
    Batch,
    Kept,
    NotStoredNow,
    RecordStore,
    ReportedState,
)
from edge.listen.sequence_ranges import SequenceRanges, Stretch
from edge.mqtt.broker_login import read_broker_login
from edge.mqtt.broker_options import PASSWORD_OPTION
from edge.mqtt.broker_reason_codes import (
    SESSION_TAKEN_OVER,
    UNSUPPORTED_VERSION,
    Packet,
    describe_code,
    tls_alert_in,
    tls_alert_meaning,
    tls_meaning,
)
from edge.mqtt.connection import NOT_MQTT
from edge.mqtt.reconnect import MAX_SHORT_CONNECTIONS, Backoff
from edge.settings.mqtt import MqttSettings

log = logging.getLogger(__name__)

_HEAD = re.compile("[0-9a-f]{64}")
_RESEND_ANSWER = "/cmd/resend/res"

KEEP_ALIVE_S = 10
SESSION_EXPIRY_S = 7 * 86_400
# Of listeners that share: the broker gives one that does not come back its part as long as this.
# What was in its session is missing then, and asked for again.
SHARED_SESSION_EXPIRY_S = 300
# And what another listener of them has and keeps just now is missing for a moment only.
SHARED_GRACE_S = 20.0
# Messages of one transaction, and those that the broker sends ahead of their acknowledgement.
MAX_AT_ONCE = 1000
MAX_UNACKNOWLEDGED = 2 * MAX_AT_ONCE
# Between attempts to keep a batch.
KEEP_BACK_OFF_S = (0.1, 5.0)
# While a batch is being kept, between two looks whether it is.
KEEPING_LOOK_S = 0.01
BACK_OFF_S = (1.0, 30.0)
REPAIR_INTERVAL_S = 0.5
MAX_MESSAGE_BYTES = 65_536
# Requests whose answer is waited for; a station answers within moments.
MAX_REQUESTS = 1000
# Refusals that say nothing of the records: the station has too much to do just now.
NO_TIME = frozenset({"rate_limited", "busy"})
# States of a station that does not run.
AWAY = (Condition.STOPPED, Condition.OFFLINE)
# Runs of numbers in one line of the log.
MAX_NAMED = 20


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """What to listen to.

    Attributes:
        pattern: ``SITE/LINE/STATION/CAMERA``, ``+`` for any in each place.
        client_id: names the session that the broker keeps while nobody listens.
        repair: ask stations for what is missing.
        share: listeners of one such name share the records; None is alone.
    """

    pattern: str = "+/+/+/+"
    client_id: str = "edge-listen"
    repair: bool = True
    share: str | None = None


@dataclass(frozen=True, slots=True)
class LastReport:
    """The newest that a station said of its journal."""

    journal: str
    last_seq: int


class InlineExecutor(Executor):
    """Does what it is given before it returns; for stores on this machine's own disk."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@dataclass(slots=True)
class _Keeping:
    """A batch on its way into the store.

    Attributes:
        client: of the connection on which it came; another one cannot acknowledge it.
        future: None while it waits for the next attempt.
    """

    client: paho.Client
    messages: list[paho.MQTTMessage]
    batch: Batch
    future: Future[Kept] | None = None


@dataclass(frozen=True, slots=True)
class _Request:
    """A request for records on its way.

    Attributes:
        of: station, journal and kind of record.
    """

    of: tuple[str, str, RecordKind]
    ask: Ask


@dataclass(slots=True)
class _Read:
    """What was read of the messages of a batch."""

    arrived: list[Arrived] = field(default_factory=list)
    reported_journals: list[ReportedJournal] = field(default_factory=list)
    states: list[ReportedState] = field(default_factory=list)


class Listener:
    """Receives, keeps, finds gaps, asks; one thread does it all, but for what the store does."""

    def __init__(
        self,
        *,
        settings: MqttSettings,
        wanted: ListenOptions,
        store: RecordStore,
        executor: Executor | None = None,
        parts: Parts | None = None,
        back_off_s: tuple[float, float] = BACK_OFF_S,
        repair: Callable[[], Repair] | None = None,
        clock_s: Callable[[], float] = time.monotonic,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            executor: in which batches are kept, one at a time; None keeps them in this thread.

        Raises:
            ConfigurationInvalid: the password file or the certificates cannot be used.
        """
        self._settings = settings
        self._wanted = wanted
        self._store = store
        self._executor = executor or InlineExecutor()
        self._keeping: _Keeping | None = None
        self._keep_patience = Backoff(KEEP_BACK_OFF_S, random.random)
        self._keep_due_s = self._look_due_s = 0.0
        self._keep_complaint = ""
        self._parts = parts
        self._login = read_broker_login(settings, PASSWORD_OPTION)
        self._reload_asked = False
        self._renewing = False
        self._backoff = Backoff(back_off_s, random.random)
        shared = partial(Repair, grace_s=SHARED_GRACE_S, again_s=SHARED_GRACE_S)
        self._new_repair = repair or (shared if wanted.share else Repair)
        self._clock_s = clock_s
        self._utc_ns = utc_ns
        self._version = MQTTProtocolVersion.MQTTv5
        self.has_listened = False
        self._connected = False
        self._version_refused = False
        self._ended_with: ReasonCode | None = None
        self._protocol_broken = self._refused = False
        self._tls_alert = ""
        self._complaint = ""
        self._received: list[paho.MQTTMessage] = []
        self._last_reports: dict[str, LastReport] = {}
        self._reported_seq: dict[tuple[str, str], int] = {}
        self._doubted: set[tuple[str, str]] = set()
        self._writes: dict[str, str] = {}
        self._away: set[str] = set()
        self._left: set[tuple[str, str]] = set()
        self._other_heads: set[tuple[str, str]] = set()
        self._repairs: dict[tuple[str, str, RecordKind], Repair] = {}
        self._repair_due_s = 0.0
        self._requests: dict[str, _Request] = {}
        self._session, self._requested = secrets.token_hex(4), 0
        self._answers_mid: int | None = None
        self._busy: set[str] = set()

    def run(self, done: Callable[[], bool]) -> None:
        """Listen until ``done``, through every outage of the broker.

        Raises:
            OutputNotWritable: verdicts cannot be kept.
        """
        while not done():
            try:
                self._login = read_broker_login(self._settings, PASSWORD_OPTION)
            except ConfigurationError as error:
                self._complain(f"{error} Trying again.")
                self._rest(done)
                continue
            client = self._new_client()
            began_s = self._clock_s()
            self._renewing = False
            self._connected = self._version_refused = self._protocol_broken = False
            self._ended_with, self._tls_alert, self._refused = None, "", False
            try:
                self._use(client, done)
            finally:
                with suppress(OSError, ValueError):
                    client.disconnect()
            if self._renewing:
                continue
            if self._version_refused and self._version is MQTTProtocolVersion.MQTTv5:
                if self._wanted.share:
                    self._complain(
                        "the broker speaks MQTT 3.1.1 alone, which has no shared subscriptions. "
                        "Leave out --share and run one listener, or use another "
                        "broker; trying again"
                    )
                    self._rest(done)
                    continue
                self._version = MQTTProtocolVersion.MQTTv311
                continue
            lasted_s = self._clock_s() - began_s
            if self._connected and self._backoff.ended(lasted_s, self._session_taken_over):
                known = (
                    "If another edge-listen has the same --client-id, give it one of its own; "
                    "else see the broker's log."
                )
                if self._ended_with is not None:
                    known = describe_code(self._ended_with, Packet.DISCONNECT)
                log.warning(
                    "the broker accepted %s and ended the connection at once, %d times in a row. "
                    "%s",
                    *(self._wanted.client_id, MAX_SHORT_CONNECTIONS, known),
                )
            self._rest(done)

    @property
    def cannot_store(self) -> bool:
        """Whether the last attempt to keep records failed; they are still at the broker."""
        return bool(self._keep_complaint)

    def reload(self) -> None:
        """Read password and certificates again, soon; may be called by a signal's handler."""
        self._reload_asked = True

    def _rest(self, done: Callable[[], bool]) -> None:
        until_s = self._clock_s() + self._backoff.delay_s()
        while not done() and self._clock_s() < until_s and not self._reload_asked:
            time.sleep(0.05)
        self._reload_asked = False  # what comes next reads all of it

    def _renewed(self) -> bool:
        """Tell whether the connection has to be made anew for what a reload found."""
        if not self._reload_asked:
            return False
        self._reload_asked = False
        try:
            changed = (
                read_broker_login(self._settings, PASSWORD_OPTION).sha256 != self._login.sha256
            )
        except ConfigurationError as error:
            log.error("not reloaded; continuing with the old settings: %s", error)
            return False
        if not changed:
            log.info("reloaded: password and certificates are as they were")
            return False
        log.info("reloaded: reconnecting with the current password and certificates")
        return True

    def _use(self, client: paho.Client, done: Callable[[], bool]) -> None:
        is_5 = self._version is MQTTProtocolVersion.MQTTv5
        host, port = self._settings.host, self._settings.port
        address = f"{host}:{port}"
        try:
            if is_5:
                properties = Properties(PacketTypes.CONNECT)
                properties.SessionExpiryInterval = (
                    SHARED_SESSION_EXPIRY_S if self._wanted.share else SESSION_EXPIRY_S
                )
                properties.ReceiveMaximum = MAX_UNACKNOWLEDGED
                # A clean start would drop what waits in the session.
                client.connect(host, port, KEEP_ALIVE_S, clean_start=False, properties=properties)
            else:
                client.connect(host, port, KEEP_ALIVE_S)
        except ssl.SSLError as error:
            self._complain(
                f"TLS with the broker at {address} failed, {tls_meaning(error)} Trying again"
            )
            return
        except (OSError, ValueError) as error:
            self._complain(f"the broker at {address} cannot be reached ({error}); trying again")
            return
        while not done():
            try:
                ended = not self._receive(client)
            except NOT_MQTT as error:
                self._complain(
                    f"what answers at {address} is not an MQTT broker ({error!r}); trying again"
                )
                return
            self._keep(client)
            if self._parts is not None and self._connected and not ended:
                try:
                    self._parts.tick(time.monotonic_ns(), self._utc_ns())
                    self._parts.publish(client, time.monotonic_ns())
                except NotStoredNow as error:
                    self._complain(f"{error} Trying again")
            if not ended and self._renewed():
                self._renewing = True
                return
            # What cannot be stored is not missing, and what came again could not be stored either.
            may_repair = self._store.may_repair and not self.cannot_store
            if self._connected and not ended and self._wanted.repair and may_repair:
                self._repair(client)
            if ended:
                self._log_end(address)
                return
        self._finish(client)

    def _receive(self, client: paho.Client) -> bool:
        """Wait for a message, and take what else has come; False when the connection has ended."""
        before = len(self._received)
        result = client.loop(self._wait_s() if self._keeping is None else KEEPING_LOOK_S)
        # ``loop`` waits for each packet; what has come is read without.
        while result is MQTTErrorCode.MQTT_ERR_SUCCESS:
            if not before < len(self._received) < MAX_AT_ONCE:
                return True
            before = len(self._received)
            result = client.loop_read()
        return False

    def _wait_s(self) -> float:
        """Return how long to wait for the network."""
        max_wait_s = 0.2
        return max_wait_s if self._parts is None else self._parts.wait_s(time.monotonic_ns())

    @property
    def _session_taken_over(self) -> bool:
        return self._ended_with is not None and self._ended_with.value == SESSION_TAKEN_OVER

    def _log_end(self, address: str) -> None:
        if self._session_taken_over:
            self._complain(
                f"another edge-listen listens as {self._wanted.client_id} and takes its "
                "messages. Give one of them another --client-id; trying again"
            )
        elif self._connected:
            why = (
                f" ({describe_code(self._ended_with, Packet.DISCONNECT)})"
                if self._ended_with
                else ""
            )
            self._complain(f"the broker at {address} closed the connection{why}; trying again")
        elif self._tls_alert:
            meaning = tls_alert_meaning(self._tls_alert)
            self._complain(f"TLS with the broker at {address} failed, {meaning} Trying again")
        elif self._protocol_broken and self._version is MQTTProtocolVersion.MQTTv311:
            refused = describe_code(
                UNSUPPORTED_VERSION, Packet.CONNACK
            )  # paho keeps code 1 to itself
            self._complain(f"the broker refuses {self._wanted.client_id}. {refused} Trying again")
        elif not self._refused:
            self._complain(
                f"the broker at {address} did not answer the CONNECT. Check that it is an MQTT "
                "broker, whether mqtt:// or mqtts:// is right, and that it trusts "
                "mqtt.certificate_file (--certificate-file) where it asks for one; trying again"
            )

    def _new_client(self) -> paho.Client:
        is_5 = self._version is MQTTProtocolVersion.MQTTv5
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._wanted.client_id,
            clean_session=None if is_5 else False,
            protocol=self._version,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.on_connect = lambda one, _u, _f, reason, _p: self._on_connack(one, reason)
        client.on_subscribe = lambda _c, _u, mid, reasons, _p: self._on_suback(mid, reasons)
        client.on_disconnect = lambda _c, _u, flags, reason, _p: self._on_end(
            reason, flags.is_disconnect_packet_from_server
        )
        client.on_log = lambda _c, _u, _level, text: self._on_log(text)
        client.on_publish = lambda _c, _u, mid, reason, _p: self._on_puback(mid, reason)
        client.on_message = lambda _c, _u, message: self._received.append(message)
        if self._settings.username is not None:
            client.username_pw_set(self._settings.username, self._login.password)
        if self._login.tls is not None:
            client.tls_set_context(self._login.tls)
        self._received.clear()  # of the session before; unacknowledged, so they come again
        return client

    def _on_connack(self, client: paho.Client, reason: ReasonCode) -> None:
        if reason.is_failure:
            self._refused = True
            self._version_refused = reason.value == UNSUPPORTED_VERSION
            if not self._version_refused or self._version is MQTTProtocolVersion.MQTTv311:
                self._complain(
                    f"the broker refuses {self._wanted.client_id}. "
                    f"{describe_code(reason, Packet.CONNACK)} Trying again"
                )
            return
        self._connected = True
        self._complaint = ""
        if self._parts is not None:
            self._parts.connected(time.monotonic_ns())
        root = f"{ROOT}/{self._wanted.pattern}"
        share = f"$share/{self._wanted.share}/" if self._wanted.share else ""
        kinds = ("verdict", "event") if self._store.keeps_events else ("verdict",)
        # States to everybody: each has to know how far a station is.
        client.subscribe([*((f"{share}{root}/{kind}", 1) for kind in kinds), (f"{root}/state", 1)])
        if self._wanted.repair:  # on its own: a broker may allow the rest and not this
            _, self._answers_mid = client.subscribe(f"{root}{_RESEND_ANSWER}", 1)

    def _on_suback(self, mid: int, reasons: Sequence[ReasonCode]) -> None:
        if mid == self._answers_mid:
            if any(reason.is_failure for reason in reasons):
                log.warning(
                    "the broker does not let %s read the answers of stations (cmd/resend/res): a "
                    "request that one refuses counts as asked. Add it to the access rules.",
                    self._wanted.client_id,
                )
            return
        if any(reason.is_failure for reason in reasons):
            refused = next(reason for reason in reasons if reason.is_failure)
            self._complain(
                f"the broker does not let {self._wanted.client_id} listen to "
                f"{self._wanted.pattern}. {describe_code(refused, Packet.SUBACK)}"
            )
            return
        self.has_listened = True
        log.info("listening to %s on %s", self._wanted.pattern, self._settings.url)

    def _on_puback(self, mid: int, reason: ReasonCode) -> None:
        if self._parts is not None:
            refused = describe_code(reason, Packet.PUBACK) if reason.is_failure else None
            self._parts.on_published(mid, refused, time.monotonic_ns())

    def _on_end(self, reason: ReasonCode, by_broker: bool) -> None:
        if by_broker:
            self._ended_with = self._ended_with or reason
        else:
            self._protocol_broken = reason.getName() == "Protocol error"

    def _on_log(self, text: str) -> None:
        self._tls_alert = self._tls_alert or tls_alert_in(text)

    def _keep(self, client: paho.Client) -> None:
        """Keep what arrived with one flush of the disk, then let the broker forget it."""
        if self._keeping is None and not self._begin(client):
            return
        keeping = self._keeping
        assert keeping is not None
        if keeping.future is None:
            if self._clock_s() < self._keep_due_s:
                return
            keeping.future = self._executor.submit(self._store.keep_batch, keeping.batch)
        if keeping.future.done():
            self._settle(keeping, client)

    def _begin(self, client: paho.Client) -> bool:
        """Make a batch of what arrived; False when there is nothing to do."""
        every_s, now_s = self._store.look_every_s, self._clock_s()
        due = every_s is not None and now_s >= self._look_due_s
        if not self._received and not due:
            return False
        self._look_due_s = now_s + (every_s or 0.0)
        messages = self._received[:MAX_AT_ONCE]
        del self._received[:MAX_AT_ONCE]
        read = _Read()
        for message in messages:
            self._read(message, read)
        batch = Batch(
            arrived=tuple(read.arrived),
            reported_journals=tuple(read.reported_journals),
            states=tuple(read.states),
        )
        self._keeping = _Keeping(client, messages, batch)
        return True

    def _settle(self, keeping: _Keeping, client: paho.Client) -> None:
        """Acknowledge a batch that is kept; let one that is not wait, and then try it again."""
        assert keeping.future is not None
        try:
            kept = keeping.future.result()
            self._report_conflicts(kept.conflicts)
            self._report_other_heads(kept.other_heads)
            if self._parts is not None:
                self._parts.add(keeping.batch.arrived, time.monotonic_ns(), self._utc_ns())
        except StationError as error:
            if not self._passes(error):
                raise
            if str(error) != self._keep_complaint:
                self._keep_complaint = str(error)
                log.error(
                    "%s; records not yet stored stay at the broker; trying again",
                    self._keep_complaint.removesuffix("."),
                )
            self._keep_due_s = self._clock_s() + self._keep_patience.delay_s()
            keeping.future = None
            if keeping.client is not client:  # its messages come again on the new connection
                self._keeping = None
            return
        if self._keep_complaint:
            log.info("the database or file accepts records again")
        self._keep_complaint, self._keeping = "", None
        self._keep_patience = Backoff(KEEP_BACK_OFF_S, random.random)
        for one in keeping.batch.arrived:
            last_report = self._last_reports.get(one.station)
            if one.kind == "verdict" and (
                last_report is None
                or (last_report.journal != one.journal and not one.content["replayed"])
            ):
                self._last_reports[one.station] = LastReport(one.journal, one.seq)
        if keeping.client is client:
            for message in keeping.messages:
                client.ack(message.mid, message.qos)

    def _passes(self, error: StationError) -> bool:
        """Tell whether another attempt may help; none does where a file has gone."""
        if isinstance(error, OutputNotWritable):
            return isinstance(error, NotStoredNow)
        return self._store.look_every_s is not None

    def _finish(self, client: paho.Client) -> None:
        """At the end, wait for the batch that is being kept, so that it need not come again."""
        if self._keeping is not None and self._keeping.future is not None:
            with suppress(StationError):
                self._keeping.future.result()
                self._settle(self._keeping, client)

    def _read(self, message: paho.MQTTMessage, read: _Read) -> None:
        try:
            station = StationTopic.of_topic(message.topic).name
            if len(message.payload) > MAX_MESSAGE_BYTES:
                raise ValueError("too large")
            payload = message.payload.decode()
            content = json.loads(payload)
            if message.topic.endswith(_RESEND_ANSWER):
                self._on_answer(station, content, message.properties)
                return
            if message.topic.endswith("/state"):
                reported = self._on_state(station, content)
                if reported is not None:
                    read.reported_journals.append(reported)
                if self._store.keeps_events:
                    read.states.append(
                        ReportedState(station=station, content=content, payload=payload)
                    )
                return
            kind: RecordKind = "event" if message.topic.endswith("/event") else "verdict"
            arrived_utc = utc_text(self._utc_ns())
            read.arrived.append(
                _arrived(
                    kind, station=station, content=content, payload=payload, arrived_utc=arrived_utc
                )
            )
        except (ValueError, KeyError, TypeError, RecursionError, StationNameInvalid) as error:
            log.warning("%s: not a valid message (%s); ignored", message.topic, error)

    def _on_answer(self, station: str, content: Any, properties: Properties | None) -> None:
        """Learn whether a station had time for a request."""
        if not isinstance(content, dict):
            raise ValueError("it is no object")
        refused = content["status"] == Status.REFUSED
        if self._version is MQTTProtocolVersion.MQTTv5:
            key = getattr(properties, "CorrelationData", b"").decode(errors="replace")
        else:  # which knows no correlation: a refusal is of the newest request
            asked = [key for key, one in self._requests.items() if one.of[0] == station]
            key = asked[-1] if asked and refused else ""
        request = self._requests.pop(key, None)
        if request is None or request.of[0] != station or not refused:
            return
        reason, detail = str(content["reason"])[:40], str(content["detail"])[:200]
        if reason not in NO_TIME:
            log.warning("%s: refuses a request for records (%s): %s", station, reason, detail)
            return
        repair = self._repairs.get(request.of)
        if repair is not None:
            repair.refused(request.ask, self._clock_s())
        if station not in self._busy:
            self._busy.add(station)
            log.warning(
                "%s: has no time for a request for records now (%s); it is asked again until it "
                "has. See what else sends it commands.",
                *(station, reason),
            )

    def _on_state(self, station: str, content: Any) -> ReportedJournal | None:
        """Learn how far a station is, when all of that has been sent."""
        if not isinstance(content, dict):
            raise ValueError("it is not a JSON object")
        away = content.get("state") in AWAY
        (self._away.add if away else self._away.discard)(station)
        journal = content.get("journal")
        if journal is None:  # not opened yet, or a will
            return None
        name, last_seq = journal["journal"], journal["last_seq"]
        if not isinstance(name, str) or not (last_seq == 0 or _is_seq(last_seq)):
            raise ValueError("journal or last_seq is none")
        reported = _reported_journal(station, journal)
        self._watch_name(reported)
        self._reported_seq[station, name] = last_seq
        if journal["backlog"] == 0:
            self._last_reports[station] = LastReport(name, last_seq)
        return reported

    def _watch_name(self, reported: ReportedJournal) -> None:
        """Notice a name that another station has taken over, or that two have at a time."""
        before = self._writes.get(reported.station)
        self._writes[reported.station] = reported.journal
        if before in (None, reported.journal):
            return
        assert before is not None
        self._left.add((reported.station, before))
        if (reported.station, reported.journal) in self._left:
            log.error(
                "%s: CONFLICT: two stations have this name; they write the journals %s and "
                "%s in turn. Both are kept, each under its journal. Change mqtt.station of "
                "one of them.",
                *(reported.station, before, reported.journal),
            )
        elif reported.follows != before:
            log.warning(
                "%s: now writes journal %s, which does not continue %s: its PC was replaced, "
                "its journal was removed, or its name was given to another station",
                *(reported.station, reported.journal, before),
            )

    def _report_conflicts(self, conflicts: Sequence[Arrived]) -> None:
        """Name the numbers that came with other verdicts than before; one line for a journal."""
        numbers: dict[tuple[str, str], SequenceRanges] = {}
        for one in conflicts:
            numbers.setdefault((one.station, one.journal), SequenceRanges()).add(one.seq)
        for (station, journal), found in numbers.items():
            log.error(
                "%s: CONFLICT: verdicts %s of journal %s came with different ids than "
                "before. Both are kept. The station's journal was restored from a backup, or "
                "two stations write copies of one: stop the station, remove journal.witness "
                "from its journal's folder and start it again.",
                *(station, _named(list(found)), journal),
            )

    def _report_other_heads(self, reported_journals: Sequence[ReportedJournal]) -> None:
        for reported in reported_journals:
            if (reported.station, reported.journal) in self._other_heads:
                continue
            self._other_heads.add((reported.station, reported.journal))
            known = self._store.reported(reported.station, reported.journal)
            log.error(
                "%s: CONFLICT: journal %s says %s of row %d, and said %s before. It was "
                "restored from a backup, or its records were changed. Compare with edge-run "
                "--journal --verify --head there.",
                *(
                    reported.station,
                    reported.journal,
                    reported.head,
                    reported.position,
                    known and known.head,
                ),
            )

    def _repair(self, client: paho.Client) -> None:
        now_s = self._clock_s()
        if now_s < self._repair_due_s:
            return
        self._repair_due_s = now_s + REPAIR_INTERVAL_S
        try:
            self._repair_all(client, now_s)
        except NotStoredNow as error:  # of a loss: it is one still when the file takes it
            self._repair_due_s = now_s + KEEP_BACK_OFF_S[1]
            self._complain(f"{error} Trying again")

    def _repair_all(self, client: paho.Client, now_s: float) -> None:
        for station, journal in self._store.journals():
            last_report = self._last_reports.get(station)
            if last_report is None:
                continue  # not a word from it yet
            if station in self._away:  # nobody would answer; its journal has them all the same
                self._repairs.pop((station, journal, "verdict"), None)
                continue
            newest = last_report.journal == journal
            current = self._store.goes_on_as(station, journal, last_report.journal)
            gaps = self._store.missing(station, journal, last_report.last_seq if newest else 0)
            if current:
                gaps = self._believed(station, journal, gaps)
            asked = self._repairs.setdefault((station, journal, "verdict"), self._new_repair())
            steps = asked.decide(gaps, now_s, current)
            self._do_steps(client, (station, journal, "verdict"), steps)
        for station, journal, gaps in self._store.event_gaps():
            last_report = self._last_reports.get(station)
            if last_report is None:
                continue
            if station in self._away:
                self._repairs.pop((station, journal, "event"), None)
                continue
            current = self._store.goes_on_as(station, journal, last_report.journal)
            asked = self._repairs.setdefault((station, journal, "event"), self._new_repair())
            steps = asked.decide(believed(gaps, 0), now_s, current)
            self._do_steps(client, (station, journal, "event"), steps)

    def _do_steps(
        self, client: paho.Client, of: tuple[str, str, RecordKind], steps: Iterable[Ask | GiveUp]
    ) -> None:
        station, journal, kind = of
        # What is decided is asked, also where a loss finds no room.
        for step in sorted(steps, key=lambda one: isinstance(one, GiveUp)):
            if isinstance(step, GiveUp):
                self._store.give_up(station, journal, step.gap, kind)
                log.error(
                    "%s: %ss %s of journal %s are LOST: the station does not have them, "
                    "or does not answer. Look for them with edge-run --journal there.",
                    *(station, kind, step.gap, journal),
                )
                continue
            if step.first_time:
                named = _named(step.gaps)
                log.warning("%s: %ss %s are missing; asking again", station, kind, named)
            topic = StationTopic.parse(station).command("resend")
            wanted: dict[str, Any] = {"from_seq": step.wanted.first, "to_seq": step.wanted.last}
            if kind == "event":
                wanted = {**wanted, "kind": kind}
            self._request(client, topic, to_json(wanted), _Request(of, step))

    def _request(
        self, client: paho.Client, topic: str, content: str | bytes, request: _Request
    ) -> None:
        """Ask, and remember for what until the answer is there."""
        self._requested += 1
        key = f"{self._session}-{self._requested}"
        self._requests[key] = request
        while len(self._requests) > MAX_REQUESTS:
            del self._requests[next(iter(self._requests))]
        properties = None
        if self._version is MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.PUBLISH)
            properties.CorrelationData = key.encode()
        client.publish(topic, content, 1, properties=properties)

    def _believed(self, station: str, journal: str, gaps: list[Stretch]) -> list[Stretch]:
        key = (station, journal)
        reported_seq = max(self._reported_seq.get(key, 0), self._store.followed_at(*key))
        found = believed(gaps, reported_seq)
        if found != gaps and reported_seq and key not in self._doubted:
            self._doubted.add(key)
            log.warning(
                "%s: verdict %d of journal %s is far ahead of what the station reports (%d): "
                "it is kept, and missing records are requested only up to what the station "
                "reports. Check in the broker's access rules who else may publish as this "
                "station.",
                *(station, self._store.numbers(*key).last, journal, reported_seq),
            )
        return found

    def _complain(self, message: str) -> None:
        if message != self._complaint:
            self._complaint = message
            log.warning("%s", message)


def _named(stretches: Sequence[Stretch]) -> str:
    """Return numbers for a line of the log, which is not to be without an end."""
    more = f" and {len(stretches) - MAX_NAMED} more" * (len(stretches) > MAX_NAMED)
    return ", ".join(map(str, stretches[:MAX_NAMED])) + more


def _arrived(
    kind: RecordKind, *, station: str, content: Any, payload: str, arrived_utc: str
) -> Arrived:
    if content["schema"] != f"{kind}/1":
        raise ValueError(f"schema {content['schema']!r}")
    seq, journal = content["seq"], content["journal"]
    if not _is_seq(seq):
        raise ValueError("seq is not a journal number")
    if not isinstance(content["id"], str):
        raise ValueError("id is no text")
    if not isinstance(journal, str) or not isinstance(content["replayed"], bool):
        raise ValueError("journal or replayed is missing")
    arrived = Arrived(
        station=station,
        journal=journal,
        seq=seq,
        content=content,
        payload=payload,
        arrived_utc=arrived_utc,
        kind=kind,
    )
    check_storable(arrived)
    return arrived


def _reported_journal(station: str, journal: dict[str, Any]) -> ReportedJournal:
    """Read what a state says of a journal beyond its numbers; older stations say none of it."""
    name, first_seq, follows = (
        journal["journal"],
        journal.get("first_seq", 1),
        journal.get("follows"),
    )
    if not _is_seq(first_seq) or not (follows is None or isinstance(follows, str)):
        raise ValueError("first_seq or follows is none")
    for text in (name, follows or ""):
        text.encode()  # a database holds no half of a surrogate
    head = journal.get("head")
    if head is None:
        return ReportedJournal(station=station, journal=name, first_seq=first_seq, follows=follows)
    position, seq, value = head["position"], head["seq"], head["sha256"]
    if not all(number == 0 or _is_seq(number) for number in (position, seq)):
        raise ValueError("position or seq of the head is none")
    if not isinstance(value, str) or not _HEAD.fullmatch(value):
        raise ValueError("the head's sha256 is none")
    return ReportedJournal(
        station=station,
        journal=name,
        first_seq=first_seq,
        follows=follows,
        position=position,
        seq=seq,
        head=value,
    )


def _is_seq(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**63
