"""What one client of the OPC UA server does leaves it to the others."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest
from asyncua import Client, ua
from asyncua.server.internal_session import SessionState
from asyncua.ua.uaerrors import BadTooManySubscriptions, UaStatusCodeError

from edge.plc.opcua import bounds
from edge.plc.opcua.access import Users
from edge.plc.opcua.bounds import BoundedServer
from edge.plc.opcua.station_nodes import NAMESPACE
from tests.support.broker import GENEROUS_S, free_port
from tests.support.opcua import Events, ServedJournal, VisionClient, served_journal
from tests.support.relaying import STATION

NO_FILTER = ua.StatusCodes.BadMonitoredItemFilterInvalid


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedJournal]:
    with served_journal(tmp_path_factory.mktemp("open") / "journal") as one:
        one.decide(3, part_id="teil ü 부품")
        yield one


class Values:
    """Hears of changed values."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def datachange_notification(self, _node: Any, value: Any, _data: Any) -> None:
        self.seen.append(value)


async def variable(client: Client, name: str) -> Any:
    space = await client.get_namespace_index(NAMESPACE)
    return client.get_node(f"ns={space};s=Station.{name}".removesuffix("."))


async def eventually(condition: Any, what: str) -> None:
    deadline_s = time.monotonic() + GENEROUS_S
    while not condition():
        assert time.monotonic() < deadline_s, what
        await asyncio.sleep(0.02)


async def verdict_events(client: Client) -> tuple[Events, Any, int]:
    """Subscribe to verdicts; return them, the subscription and the item."""
    space = await client.get_namespace_index(NAMESPACE)
    kind = await client.nodes.base_event_type.get_child([f"{space}:VerdictEventType"])
    events = Events()
    subscription = await client.create_subscription(20, events)
    return (
        events,
        subscription,
        await subscription.subscribe_events(await variable(client, ""), kind),
    )


def item(node: Any, attribute: ua.AttributeIds, asked: Any) -> ua.MonitoredItemCreateRequest:
    return ua.MonitoredItemCreateRequest(
        ItemToMonitor=ua.ReadValueId(NodeId=node.nodeid, AttributeId=attribute),
        MonitoringMode=ua.MonitoringMode.Reporting,
        RequestedParameters=ua.MonitoringParameters(ClientHandle=7, Filter=asked, QueueSize=5),
    )


def test_a_filter_that_cannot_be_used_is_refused_and_everybody_has_the_next_verdict(
    served: ServedJournal,
) -> None:
    async def visit() -> None:
        async with Client(served.url) as good, Client(served.url) as other:
            wanted, _, _ = await verdict_events(good)
            _, subscription, number = await verdict_events(other)
            change = ua.MonitoredItemModifyRequest(
                MonitoredItemId=number,
                RequestedParameters=ua.MonitoringParameters(Filter=ua.DataChangeFilter()),
            )
            given = ua.ModifyMonitoredItemsParameters(
                SubscriptionId=subscription.subscription_id, ItemsToModify=[change]
            )
            (changed,) = await other.uaclient.modify_monitored_items(given)
            assert changed.StatusCode.value == NO_FILTER
            change.RequestedParameters.Filter = None
            (changed,) = await other.uaclient.modify_monitored_items(given)
            assert changed.StatusCode.is_good()
            inner = ua.SimpleAttributeOperand(
                BrowsePath=[ua.QualifiedName("data_types")], AttributeId=ua.AttributeIds.Value
            )
            station = await variable(other, "")
            notifier = ua.AttributeIds.EventNotifier
            asked = (ua.DataChangeFilter(), ua.EventFilter(SelectClauses=[inner]))
            new = ua.CreateMonitoredItemsParameters(
                SubscriptionId=subscription.subscription_id,
                ItemsToCreate=[item(station, notifier, one) for one in asked],
            )
            made = await other.uaclient.create_monitored_items(new)
            refusals = [NO_FILTER, ua.StatusCodes.BadEventFilterInvalid]
            assert [one.StatusCode.value for one in made] == refusals
            await asyncio.to_thread(served.decide, 2)
            assert [one.Seq for one in await wanted.wait_for(2)][-1] == served.writer.last_seq

    asyncio.run(visit())


def test_a_deadband_keeps_no_verdict_back(served: ServedJournal) -> None:
    async def visit() -> None:
        async with Client(served.url) as client:
            values = Values()
            subscription = await client.create_subscription(20, values)
            await asyncio.to_thread(served.decide, 1, result="OK")
            await subscription.deadband_monitor(await variable(client, "Result"), ua.Double(0.5))
            for result in ("NOK", "OK"):
                await asyncio.to_thread(served.decide, 1, result=result)
            await eventually(lambda: values.seen[-2:] == ["NOK", "OK"], str(values.seen))

    asyncio.run(visit())


def test_who_reads_no_answer_is_asked_nothing_more_and_has_them_all_later(
    served: ServedJournal,
) -> None:
    process = psutil.Process(served.server._child.process.pid)  # type: ignore[union-attr]

    async def visit() -> None:
        async with Client(served.url) as good, Client(served.url) as deaf:
            record = await variable(deaf, "Record")
            ids = [
                ua.ReadValueId(NodeId=record.nodeid, AttributeId=ua.AttributeIds.Value)
            ] * bounds.MAX_NODES_PER_READ
            size = len(await record.read_value()) * len(ids)
            before = process.memory_info().rss
            transport: Any = deaf.uaclient.protocol.transport  # type: ignore[union-attr]
            transport.pause_reading()
            request = ua.ReadRequest(Parameters=ua.ReadParameters(NodesToRead=ids))
            send = deaf.uaclient._send_request
            asked = [asyncio.create_task(send(request, 0)) for _ in range(60)]
            name = await variable(good, "Name")
            for _ in range(20):
                assert await name.read_value() == STATION
            assert process.memory_info().rss - before < 20 * size
            transport.resume_reading()
            answers = await asyncio.gather(*asked)
            assert min(len(one) for one in answers) > size

    asyncio.run(visit())


def test_many_searches_of_one_client_keep_no_other_waiting(served: ServedJournal) -> None:
    served.decide(bounds.MAX_NODES_PER_READ)

    async def visit() -> None:
        async with Client(served.url) as good, Client(served.url) as busy:
            vision = await VisionClient.of(busy)
            name = await variable(good, "Name")
            searches = [asyncio.create_task(vision.results(part="nobody")) for _ in range(40)]
            await asyncio.wait(searches, return_when=asyncio.FIRST_COMPLETED)
            assert await name.read_value() == STATION
            assert not all(one.done() for one in searches)
            await asyncio.gather(*searches)

    asyncio.run(visit())


@asynccontextmanager
async def running_server(max_connections: int) -> AsyncIterator[tuple[BoundedServer, str]]:
    server = BoundedServer(Users(None, None), max_connections)
    await server.init()
    url = f"opc.tcp://127.0.0.1:{free_port()}/"
    server.set_endpoint(url)
    async with server:
        yield server, url


def test_a_client_that_is_gone_without_a_word_leaves_its_place() -> None:
    async def visit() -> None:
        async with running_server(1) as (server, url):
            silent = Client(url)
            silent.session_timeout = 1000
            await silent.connect()
            for task in asyncio.all_tasks():  # it hangs
                if "Client" in repr(task.get_coro()):
                    task.cancel()
            (place,) = server.bserver.clients  # type: ignore[union-attr]
            session: Any = place.processor.session  # type: ignore[union-attr]
            await eventually(lambda: session.state is SessionState.Closed, "its session ends")
            now_s = time.monotonic()
            server.end_idle_connections(now_s)
            assert server.bserver.clients == [place]  # type: ignore[union-attr]
            server.end_idle_connections(now_s + bounds.NO_SESSION_LIMIT_S + 1.0)
            await eventually(lambda: not server.bserver.clients, "its place is free")  # type: ignore[union-attr]
            async with Client(url) as client:
                await client.nodes.root.read_browse_name()

    asyncio.run(visit())


def test_connections_without_a_session_make_room_before_a_client() -> None:
    async def visit() -> None:
        async with running_server(3) as (server, url):
            address = ("127.0.0.1", int(url.rstrip("/").rpartition(":")[2]))
            async with Client(url) as quiet:
                crowd = [await asyncio.open_connection(*address) for _ in range(2)]
                await eventually(lambda: len(server.bserver.clients) == 3, "it is full")  # type: ignore[union-attr]
                place: Any = server.bserver.clients[0]  # type: ignore[union-attr]
                place.processor.session_last_activity -= 2 * bounds.SILENT_S
                server.end_idle_connections(time.monotonic() - bounds.UNUSED_S)
                async with Client(url) as client:
                    await client.nodes.root.read_browse_name()
                    assert place in server.bserver.clients  # type: ignore[union-attr]
                await quiet.nodes.root.read_browse_name()
                for _, writer in crowd:
                    writer.close()

    asyncio.run(visit())


def test_a_session_that_goes_on_over_another_connection_outlives_the_one_before() -> None:
    """As of a PLC whose network was away: the server hears of the old connection's end later."""

    async def visit() -> None:
        async with running_server(3) as (server, url), Client(url) as client:
            (before,) = server.bserver.clients  # type: ignore[union-attr]
            processor: Any = before.processor
            again = Client(url)
            await again.connect_socket()
            await again.send_hello()
            await again.open_secure_channel()
            again.uaclient.protocol.authentication_token = processor.session.auth_token  # type: ignore[union-attr]
            again._server_nonce = processor.session.nonce
            await again.activate_session()
            client.uaclient.protocol.transport.abort()  # type: ignore[union-attr]
            await eventually(lambda: before not in server.bserver.clients, "it is gone")  # type: ignore[union-attr]
            await asyncio.gather(*server.bserver.closing_tasks)  # type: ignore[union-attr]
            (place,) = server.bserver.clients  # type: ignore[union-attr]
            assert place.processor.session.state is SessionState.Activated  # type: ignore[union-attr]
            again.disconnect_socket()

    asyncio.run(visit())


def test_subscriptions_of_clients_that_are_gone_make_room_and_no_others() -> None:
    async def visit() -> None:
        async with running_server(3) as (server, url), Client(url) as good:
            one, other = Client(url), Client(url)
            places = bounds.MAX_SUBSCRIPTIONS
            for gone in (one, other):
                await gone.connect()
                for _ in range(min(places, bounds.MAX_CLIENT_SUBSCRIPTIONS)):
                    await gone.create_subscription(1000.0, Values())
                    places -= 1
            with pytest.raises(BadTooManySubscriptions):
                await good.create_subscription(100.0, Values())
            for gone in (one, other):
                gone.uaclient.protocol.transport.abort()  # type: ignore[union-attr]
            await eventually(lambda: len(server.bserver.clients) == 1, "they are gone")  # type: ignore[union-attr]
            await good.create_subscription(100.0, Values())
            assert len(server.iserver.subscription_service.subscriptions) == 1

    asyncio.run(visit())


def test_a_client_that_subscribes_without_end_leaves_the_others_their_places() -> None:
    async def visit() -> None:
        async with running_server(3) as (_, url), Client(url) as greedy, Client(url) as modest:
            subscription = await greedy.create_subscription(1000.0, Values())
            asked = ua.CreateMonitoredItemsParameters(
                SubscriptionId=subscription.subscription_id,
                ItemsToCreate=[item(greedy.nodes.server, ua.AttributeIds.BrowseName, None)]
                * bounds.MAX_ITEMS,
            )
            made = await greedy.uaclient.create_monitored_items(asked)
            assert sum(one.StatusCode.is_good() for one in made) == bounds.MAX_CLIENT_ITEMS
            with pytest.raises(BadTooManySubscriptions):
                for _ in range(bounds.MAX_SUBSCRIPTIONS):
                    await greedy.create_subscription(1000.0, Values())
            own = await modest.create_subscription(100.0, Values())
            await own.subscribe_data_change(modest.nodes.server_state)
            await own.subscribe_events()

    asyncio.run(visit())


def test_items_of_clients_that_are_gone_make_room_for_who_comes_back() -> None:
    async def visit() -> None:
        async with running_server(3) as (server, url):
            for _ in range(3):
                client = Client(url)
                await client.connect()
                subscription = await client.create_subscription(1000.0, Values())
                node = client.nodes.server
                new = ua.CreateMonitoredItemsParameters(
                    SubscriptionId=subscription.subscription_id,
                    ItemsToCreate=[item(node, ua.AttributeIds.BrowseName, None)]
                    * (bounds.MAX_ITEMS * 3 // 5),
                )
                made = await client.uaclient.create_monitored_items(new)
                assert all(one.StatusCode.is_good() for one in made)
                client.uaclient.protocol.transport.abort()  # type: ignore[union-attr]
                await eventually(lambda: not server.bserver.clients, "it is gone")  # type: ignore[union-attr]

    asyncio.run(visit())


def test_who_reads_every_five_minutes_keeps_its_session_and_makes_room_where_there_is_none() -> (
    None
):
    async def visit() -> None:
        async with running_server(1) as (server, url), Client(url):
            (place,) = server.bserver.clients  # type: ignore[union-attr]
            processor: Any = place.processor
            assert processor.session.session_timeout >= 2 * 300.0
            with pytest.raises((ConnectionError, TimeoutError)):
                await Client(url, timeout=1).connect()
            processor.session_last_activity -= bounds.SILENT_S
            for task in asyncio.all_tasks():  # it says nothing more
                if "Client" in repr(task.get_coro()):
                    task.cancel()
            async with Client(url) as client:
                await client.nodes.root.read_browse_name()
                assert place not in server.bserver.clients  # type: ignore[union-attr]

    asyncio.run(visit())


def test_items_queues_and_intervals_are_bounded() -> None:
    async def visit() -> None:
        async with running_server(1) as (server, url), Client(url) as client:
            subscription = await client.create_subscription(0, Values())
            (inner,) = server.iserver.subscription_service.subscriptions.values()
            assert inner.data.RevisedPublishingInterval == bounds.MIN_INTERVAL_MS
            clock = client.nodes.server.nodeid
            asked = [
                item(client.get_node(clock), ua.AttributeIds.BrowseName, None)
                for _ in range(bounds.MAX_CLIENT_ITEMS + 2)
            ]
            new = ua.CreateMonitoredItemsParameters(
                SubscriptionId=subscription.subscription_id, ItemsToCreate=asked
            )
            made = await client.uaclient.create_monitored_items(new)
            refused = [one.StatusCode.value for one in made if not one.StatusCode.is_good()]
            assert refused == [ua.StatusCodes.BadTooManyMonitoredItems] * 2
            change = ua.MonitoredItemModifyRequest(
                MonitoredItemId=made[0].MonitoredItemId,
                RequestedParameters=ua.MonitoringParameters(QueueSize=2**32 - 1),
            )
            given = ua.ModifyMonitoredItemsParameters(
                SubscriptionId=subscription.subscription_id, ItemsToModify=[change]
            )
            (changed,) = await client.uaclient.modify_monitored_items(given)
            assert changed.RevisedQueueSize == bounds.MAX_QUEUE
            too_many = ua.ReadParameters(
                NodesToRead=[ua.ReadValueId(NodeId=clock, AttributeId=ua.AttributeIds.BrowseName)]
                * (bounds.MAX_NODES_PER_READ + 1)
            )
            with pytest.raises(UaStatusCodeError):
                await client.uaclient.read(too_many)

    asyncio.run(visit())
