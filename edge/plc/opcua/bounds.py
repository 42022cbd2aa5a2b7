"""What one client of the OPC UA server may take of it, so that the others go on being served.

asyncua ends neither a connection whose client reads no answers nor one whose session has timed
out, works through all that came of a client before it looks at the others, and passes on to who
writes a value or sends an event what a client's filter makes go wrong.
"""

import asyncio
import math
import socket
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any, cast

from asyncua import Server, ua
from asyncua.common.callback import CallbackType
from asyncua.common.connection import TransportLimits
from asyncua.common.events import Event
from asyncua.common.utils import ServiceError
from asyncua.server.binary_server_asyncio import BinaryServer, OPCUAProtocol
from asyncua.server.internal_session import SessionState
from asyncua.server.subscription_service import SubscriptionService
from asyncua.server.user_managers import UserManager
from asyncua.ua.uaprotocol_auto import DataChangeFilter

MAX_PENDING_MESSAGES = 100
MAX_SUBSCRIPTIONS = 200
# Each costs some time of each verdict.
MAX_ITEMS = 500
# What one client may have of them, however often it subscribes: the others find a place.
MAX_CLIENT_SUBSCRIPTIONS, MAX_CLIENT_ITEMS = 160, 400
# Of one item that its client does not fetch; and answers that a client may ask for again.
MAX_QUEUE, MAX_REPEATABLE = 256, 64
MIN_INTERVAL_MS, MAX_INTERVAL_MS = 20.0, 3_600_000.0
# Some PLCs read every few minutes and say nothing between; a session lasts so long at most.
MAX_SESSION_S = 600.0
# A client that is silent for so long makes room where there is none for another one.
SILENT_S = 120.0
# A connection that has had no session for so long makes room before any client.
UNUSED_S = 5.0
# A client that does not read for so long what it asked for is gone.
UNREAD_LIMIT_S = 30.0
# A connection without a session.
NO_SESSION_LIMIT_S = 30.0
MAX_UNREAD_BYTES = 256 * 1024
MAX_CHUNK_BYTES = 65_535
MAX_MESSAGE_BYTES = 16 * 2**20
MAX_NODES_PER_READ = 1000
# A peer that does not answer the kernel: idle, between probes, and how many.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))


class BoundedServer(Server):
    """A server that no client can take from the others."""

    def __init__(self, user_manager: UserManager, max_connections: int) -> None:
        """Prepare one; ``init`` and ``start`` are asyncua's.

        Args:
            max_connections: clients at a time; more are refused.
        """
        super().__init__(user_manager=user_manager)
        inner = self.iserver
        inner.max_connections = max_connections
        inner.max_pending_messages_per_connection = MAX_PENDING_MESSAGES
        inner.max_pending_activation_seconds = NO_SESSION_LIMIT_S
        inner.max_subscriptions = MAX_SUBSCRIPTIONS
        inner.max_session_timeout_ms = 1000.0 * MAX_SESSION_S
        inner.max_monitored_item_queue_size = MAX_QUEUE
        inner.max_unacked_messages_per_subscription = MAX_REPEATABLE
        inner.subscription_service = inner.isession.subscription_service = BoundedSubscriptions(
            inner, self._connected_sessions
        )
        inner.subscribe_server_callback(cast(Any, CallbackType.PreRead), _check_read)
        self.limits = TransportLimits(
            max_recv_buffer=MAX_CHUNK_BYTES,
            max_send_buffer=MAX_CHUNK_BYTES,
            max_chunk_count=math.ceil(MAX_MESSAGE_BYTES / MAX_CHUNK_BYTES),
            max_message_size=MAX_MESSAGE_BYTES,
        )

    async def start(self) -> None:
        """Listen; as asyncua's, which names the class of its connections itself."""
        await self._setup_server_nodes()
        await self.iserver.start()
        limit = ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead
        await self.get_node(ua.NodeId(ua.Int32(limit))).write_value(
            ua.Variant(MAX_NODES_PER_READ, ua.VariantType.UInt32)
        )
        host, port = self._get_bind_socket_info()
        assert host is not None and port is not None
        self.bserver = _BoundedListener(self.iserver, host, port, self.limits)
        self.bserver.set_policies(self._policies)
        try:
            await self.bserver.start()
        except OSError:
            await self.iserver.stop()
            raise

    def end_idle_connections(self, now_s: float) -> None:
        """Hang up on clients whose sessions have ended; to be called now and then."""
        if self.bserver is not None:
            for one in list(self.bserver.clients):
                cast(_BoundedConnection, one).end_without_session(now_s)

    def _connected_sessions(self) -> Collection[ua.NodeId]:
        clients = self.bserver.clients if self.bserver is not None else ()
        sessions = (one.processor.session for one in clients if one.processor is not None)
        return {one.session_id for one in sessions if one is not None}


def _check_read(event: Any, _dispatcher: Any) -> None:
    if event.is_external and len(event.request_params.NodesToRead) > MAX_NODES_PER_READ:
        raise ServiceError(ua.StatusCodes.BadTooManyOperations)


class _BoundedListener(BinaryServer):
    def _make_protocol(self) -> OPCUAProtocol:
        return _BoundedConnection(
            iserver=self.iserver,
            policies=self._policies,
            clients=self.clients,
            closing_tasks=self.closing_tasks,
            limits=self.limits,
        )


class _BoundedConnection(OPCUAProtocol):
    """One client, which is asked nothing more of while it does not read its answers."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._is_read = asyncio.Event()
        self._is_read.set()
        self._unread_limit: asyncio.TimerHandle | None = None
        self._without_session_s: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if len(self.clients) >= self.iserver.max_connections:
            self._make_room(time.monotonic())
        super().connection_made(transport)
        if self.transport is None:  # refused
            return
        self.transport.set_write_buffer_limits(high=MAX_UNREAD_BYTES)
        connected = transport.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            connected.setsockopt(socket.IPPROTO_TCP, option, value)

    def connection_lost(self, ex: BaseException | None) -> None:
        self._expect_reading(False)
        session = self.processor.session if self.processor is not None else None
        others = (one.processor for one in self.clients if one is not self)
        if self.processor is not None and any(one and one.session is session for one in others):
            self.processor.session = None  # it goes on over that connection, and must not end here
        super().connection_lost(ex)

    def pause_writing(self) -> None:
        self._is_read.clear()
        self._expect_reading(True)
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        self._is_read.set()
        self._expect_reading(False)
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport is not None and len(self._buffer) > MAX_CHUNK_BYTES:
            self.transport.abort()  # a chunk that nobody may send

    def end_without_session(self, now_s: float) -> None:
        """Hang up where there has been no session for a while."""
        session = self.processor.session if self.processor is not None else None
        if session is not None and session.state is not SessionState.Closed:
            self._without_session_s = None
        elif self._without_session_s is None:
            self._without_session_s = now_s
        elif now_s - self._without_session_s > NO_SESSION_LIMIT_S and self.transport is not None:
            self.transport.abort()

    async def _process_one_msg(self, header: Any, buf: Any) -> bool:
        await self._is_read.wait()
        await asyncio.sleep(0)  # the others' turn; and of who has gone nothing more is answered
        if self.transport is None or self.transport.is_closing():
            return False
        return await super()._process_one_msg(header, buf)

    def _make_room(self, now_s: float) -> None:
        """Hang up on who has no session or, of the others, has been silent for long."""
        unused_since = {
            one._without_session_s: one
            for one in self.clients
            if isinstance(one, _BoundedConnection) and one._without_session_s is not None
        }
        first_s = min(unused_since, default=now_s)
        if now_s - first_s >= UNUSED_S:
            self._give_up(unused_since[first_s])
            return
        silent_since = {
            one.processor.session_last_activity: one
            for one in self.clients
            if one.processor is not None and one.processor.session_last_activity is not None
        }
        longest_s = min(silent_since, default=now_s)
        if now_s - longest_s < SILENT_S:
            return
        self._give_up(silent_since[longest_s])

    def _give_up(self, gone: OPCUAProtocol) -> None:
        self.clients.remove(gone)
        if gone.transport is not None:
            gone.transport.abort()

    def _expect_reading(self, expected: bool) -> None:
        if self._unread_limit is not None:
            self._unread_limit.cancel()
        self._unread_limit = None
        if expected and self.transport is not None:
            loop = asyncio.get_running_loop()
            self._unread_limit = loop.call_later(UNREAD_LIMIT_S, self.transport.abort)


class BoundedSubscriptions(SubscriptionService):
    """Subscriptions whose filters were tried before they are used, and so many of them."""

    def __init__(self, inner: Any, connected: Callable[[], Collection[ua.NodeId]]) -> None:
        """Begin with none.

        Args:
            inner: asyncua's server.
            connected: sessions whose clients are connected.
        """
        super().__init__(inner.aspace, inner)
        self._connected = connected

    async def create_subscription(
        self,
        params: ua.CreateSubscriptionParameters,
        callback: Callable[..., Any],
        session_id: ua.NodeId,
        request_callback: Callable[..., Any] | None = None,
    ) -> ua.CreateSubscriptionResult:
        """Make one; where there are too many, those of clients that are gone make room."""
        asked_ms = params.RequestedPublishingInterval
        # NaN is none of them.
        interval_ms = asked_ms if MIN_INTERVAL_MS <= asked_ms <= MAX_INTERVAL_MS else None
        if interval_ms is None:
            interval_ms = MAX_INTERVAL_MS if asked_ms > MAX_INTERVAL_MS else MIN_INTERVAL_MS
        params.RequestedPublishingInterval = ua.Double(interval_ms)
        if len(self.subscriptions) >= MAX_SUBSCRIPTIONS:
            await self._delete_left()
        if len(self._of(session_id)) >= MAX_CLIENT_SUBSCRIPTIONS:
            raise ServiceError(ua.StatusCodes.BadTooManySubscriptions)
        return await super().create_subscription(params, callback, session_id, request_callback)

    async def create_monitored_items(
        self, params: ua.CreateMonitoredItemsParameters
    ) -> list[ua.MonitoredItemCreateResult]:
        """Make items; each has its own answer. Those of clients that are gone make room."""
        asked = params.ItemsToCreate
        if len(asked) > self._free_items():
            await self._delete_left()
        wanted = self.subscriptions.get(params.SubscriptionId)
        own = self._of(wanted.session_id) if wanted is not None else []
        places = min(self._free_items(), MAX_CLIENT_ITEMS - sum(len(_items(one)) for one in own))
        refused: dict[int, int] = {}
        for index, item in enumerate(asked):
            is_event = item.ItemToMonitor.AttributeId == ua.AttributeIds.EventNotifier
            fault = _fault(item.RequestedParameters, is_event)
            if fault is None and index - len(refused) >= places:
                fault = ua.StatusCodes.BadTooManyMonitoredItems
            if fault is not None:
                refused[index] = fault
        params.ItemsToCreate = [one for n, one in enumerate(asked) if n not in refused]
        made = iter(await super().create_monitored_items(params))
        return [
            ua.MonitoredItemCreateResult(StatusCode=_status(refused[n]))
            if n in refused
            else next(made)
            for n in range(len(asked))
        ]

    def modify_monitored_items(
        self, params: ua.ModifyMonitoredItemsParameters
    ) -> list[ua.MonitoredItemModifyResult]:
        """Change items; each has its own answer."""
        if params.SubscriptionId not in self.subscriptions:
            raise ServiceError(ua.StatusCodes.BadSubscriptionIdInvalid)
        known = _items(self.subscriptions[params.SubscriptionId])
        return list(self._modified(params, known))

    async def trigger_event(self, event: Any, subscription_id: int | None = None) -> None:
        """Send an event to all who listen; none of them keeps it from the others."""
        for number in [subscription_id] if subscription_id is not None else [*self.subscriptions]:
            try:
                await super().trigger_event(event, number)
            except Exception:
                self.logger.exception("subscription %s cannot have an event", number)

    def _of(self, session_id: ua.NodeId) -> list[Any]:
        return [one for one in self.subscriptions.values() if one.session_id == session_id]

    def _free_items(self) -> int:
        return MAX_ITEMS - sum(len(_items(one)) for one in self.subscriptions.values())

    async def _delete_left(self) -> None:
        """Delete what clients left that are gone."""
        connected = self._connected()
        left = [n for n, one in self.subscriptions.items() if one.session_id not in connected]
        await self.delete_subscriptions(left)

    def _modified(
        self, params: ua.ModifyMonitoredItemsParameters, known: dict[int, Any]
    ) -> Iterator[ua.MonitoredItemModifyResult]:
        for item in params.ItemsToModify:
            before, wanted = known.get(item.MonitoredItemId), item.RequestedParameters
            if before is None:
                fault: int | None = ua.StatusCodes.BadMonitoredItemIdInvalid
            elif not wanted.Filter:
                wanted.Filter, fault = None, None  # it keeps the one that it has
            else:
                fault = _fault(wanted, before.where_clause_evaluator is not None)
            if fault is not None:
                yield ua.MonitoredItemModifyResult(StatusCode=_status(fault))
                continue
            wanted.QueueSize = ua.UInt32(min(int(wanted.QueueSize) or MAX_QUEUE, MAX_QUEUE))
            one = ua.ModifyMonitoredItemsParameters(
                SubscriptionId=params.SubscriptionId,
                TimestampsToReturn=params.TimestampsToReturn,
                ItemsToModify=[item],
            )
            yield from super().modify_monitored_items(one)


def _items(subscription: Any) -> dict[int, Any]:
    return cast(dict[int, Any], subscription.monitored_item_srv._monitored_items)


def _fault(asked: Any, is_event: bool) -> int | None:
    """Return why an item cannot be as it is asked for; take the deadband out of its filter.

    A deadband would keep values back that no number tells apart (a text, NaN), and asyncua measures
    it from the value before and not from the one sent last: clients would go on showing an old
    verdict.
    """
    wanted = asked.Filter
    if is_event:
        if not isinstance(wanted, ua.EventFilter):
            return ua.StatusCodes.BadMonitoredItemFilterInvalid
        try:
            Event().to_event_fields(wanted.SelectClauses)
        except Exception:
            return ua.StatusCodes.BadEventFilterInvalid
        return None
    if not wanted:  # None, or a structure without content
        return None
    if not isinstance(wanted, DataChangeFilter):
        return ua.StatusCodes.BadMonitoredItemFilterUnsupported
    wanted.DeadbandType = ua.UInt32(ua.DeadbandType.None_)
    return None


def _status(code: int) -> ua.StatusCode:
    return ua.StatusCode(ua.UInt32(code))
