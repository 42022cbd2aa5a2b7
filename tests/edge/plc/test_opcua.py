"""The OPC UA server: asyncua's client, and node-opcua where it is there."""

import asyncio
import json
import math
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.ua.uaerrors import UaError

from edge.cli.main import main
from edge.doctor.finding import Grade
from edge.doctor.opcua import opcua_finding
from edge.plc.opcua.station_nodes import NAMESPACE
from edge.plc.opcua.usable import OpcUaUnusable, check_usable
from edge.settings.opcua import OpcUaSettings
from tests.support.broker import GENEROUS_S
from tests.support.opcua import ServedJournal, served_journal, write_certificate
from tests.support.relaying import write_secret

# A folder in which `npm install node-opcua-client` was run; it is not installed for this test.
NODE_OPCUA = os.environ.get("NODE_OPCUA", "")
PROGRAM = Path(__file__).parents[2] / "support" / "opcua_client.js"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedJournal]:
    """One server for this module: its start takes seconds."""
    folder = tmp_path_factory.mktemp("opcua")
    with served_journal(folder / "journal") as one:
        yield one


async def station_of(client: Client) -> Any:
    space = await client.get_namespace_index(NAMESPACE)
    return client.get_node(f"ns={space};s=Station"), space


async def values(client: Client, *names: str) -> list[Any]:
    _, space = await station_of(client)
    nodes = [client.get_node(f"ns={space};s=Station.{name}") for name in names]
    return await client.read_values(nodes)


class Events:
    """Hears of events, and lets a test wait for them."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self._came = asyncio.Event()

    def event_notification(self, event: Any) -> None:
        self.seen.append(event)
        self._came.set()

    async def wait_for(self, count: int) -> list[Any]:
        async with asyncio.timeout(GENEROUS_S):
            while len(self.seen) < count:
                self._came.clear()
                await self._came.wait()
        return self.seen


def test_each_verdict_is_an_event_and_the_newest_stands_in_the_variables(
    served: ServedJournal,
) -> None:
    async def listen() -> tuple[list[Any], list[Any]]:
        async with Client(served.url) as client:
            station, space = await station_of(client)
            kind = await client.nodes.base_event_type.get_child([f"{space}:VerdictEventType"])
            events = Events()
            subscription = await client.create_subscription(20, events)
            await subscription.subscribe_events(station, kind)
            before = served.writer.last_seq
            await asyncio.to_thread(served.decide, 3, part_id="p1")
            lost = {"result": "ERROR", "reason": "camera_lost", "anomaly_score": None}
            await asyncio.to_thread(served.decide, 1, **lost)
            seen = await events.wait_for(4)
            assert [one.Seq for one in seen] == [before + n for n in (1, 2, 3, 4)]
            names = ("Result", "Seq", "Score", "PartId", "Record", "Name", "DecidedUtc")
            return seen, await values(client, *names)

    seen, (result, seq, score, part, record, name, decided) = asyncio.run(listen())
    assert [one.Result for one in seen] == ["OK", "OK", "OK", "ERROR"]
    assert [one.PartId for one in seen] == ["p1", "p1", "p1", None]
    assert [one.Severity for one in seen] == [1, 1, 1, 500]
    assert math.isnan(seen[3].Score) and math.isnan(score)
    assert (result, part, name) == ("ERROR", None, "site/line/cell/top")
    whole = json.loads(record)
    assert (whole["seq"], whole["reason"]) == (seq, "camera_lost")
    assert decided.isoformat(timespec="microseconds").startswith(whole["time"]["decided_utc"][:26])


def test_nobody_writes_calls_or_adds(served: ServedJournal) -> None:
    async def attack() -> list[Any]:
        async with Client(served.url) as client:
            station, space = await station_of(client)
            result = client.get_node(f"ns={space};s=Station.Result")
            refused = []
            for attempt in (
                lambda: result.write_value("OK"),
                lambda: client.nodes.objects.add_variable(space, "mine", 1),
                lambda: client.nodes.server.call_method("0:GetMonitoredItems", 1),
                lambda: result.read_raw_history(),
                lambda: station.delete(),
            ):
                try:
                    await attempt()
                except UaError as error:
                    refused.append(type(error).__name__)
            return refused

    refused = asyncio.run(attack())
    # Of a method nobody has written there is nothing to call.
    assert refused == ["BadUserAccessDenied"] * 2 + ["BadNothingToDo"] + ["BadUserAccessDenied"] * 2


def test_what_is_no_opc_ua_ends_that_connection_alone(served: ServedJournal) -> None:
    async def knock() -> str:
        for nonsense in (b"GET / HTTP/1.0\r\n\r\n", b"HELF\xff\xff\xff\xff", b"OPNF" + bytes(40)):
            _, writer = await asyncio.open_connection("127.0.0.1", served.settings.port)
            writer.write(nonsense)
            await writer.drain()
            writer.close()
        async with Client(served.url) as client:
            return (await values(client, "Name"))[0]

    assert asyncio.run(knock()) == "site/line/cell/top"
    assert opcua_finding(served.settings, running=True).grade is Grade.GOOD
    taken = opcua_finding(served.settings, running=False)
    assert taken.grade is Grade.FAULT and "opcua.port" in taken.found


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServedJournal, Path]]:
    folder = tmp_path_factory.mktemp("secured")
    certificate, key = write_certificate(folder, "server")
    write_certificate(folder, "client")
    write_secret(folder / "password", "secret")
    account = {"username": "scada", "password_file": str(folder / "password")}
    files = {"certificate_file": str(certificate), "key_file": str(key)}
    with served_journal(folder / "journal", **account, **files) as one:
        yield one, folder


def connected(served: ServedJournal, folder: Path, user: str | None, password: str | None) -> Any:
    async def connect() -> Any:
        client = Client(served.url)
        client.application_uri = "urn:test:client"
        if user is not None:
            client.set_user(user)
            client.set_password(password or "")
        await client.set_security(
            SecurityPolicyBasic256Sha256, str(folder / "client.pem"), str(folder / "client-key.pem")
        )
        async with client:
            return (await values(client, "Name"))[0]

    return asyncio.run(connect())


def test_with_a_certificate_and_an_account_nobody_else_reads(
    secured: tuple[ServedJournal, Path],
) -> None:
    served, folder = secured
    assert connected(served, folder, "scada", "secret") == "site/line/cell/top"
    for user, password in (("scada", "wrong"), ("admin", "secret"), (None, None)):
        with pytest.raises(UaError):
            connected(served, folder, user, password)

    async def policies() -> set[tuple[str, int]]:
        endpoints = await Client(served.url).connect_and_get_server_endpoints()
        return {(one.SecurityPolicyUri.rpartition("#")[2], one.SecurityMode) for one in endpoints}

    mode = ua.MessageSecurityMode
    wanted = {("Basic256Sha256", mode.Sign), ("Basic256Sha256", mode.SignAndEncrypt)}
    assert asyncio.run(policies()) == wanted


def test_node_opcua_reads_values_and_events(served: ServedJournal, tmp_path: Path) -> None:
    if not NODE_OPCUA:
        pytest.skip("NODE_OPCUA names no folder in which npm install node-opcua-client was run")
    folders = {"HOME": str(tmp_path), "NODE_PATH": f"{NODE_OPCUA}/node_modules"}
    with subprocess.Popen(
        ["node", str(PROGRAM), served.url, NAMESPACE, "3"],
        env={**os.environ, **folders},
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stdout is not None
        assert "subscribed\n" in iter(client.stdout.readline, "")
        before = served.writer.last_seq
        served.decide(3, part_id="p2")
        printed, _ = client.communicate(timeout=GENEROUS_S)
    found = json.loads(printed.splitlines()[-1])
    assert found["events"] == [[before + n, "OK", "p2", 0.32] for n in (1, 2, 3)]
    assert found["values"] == ["OK", before + 3, "p2", 0.32]


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ("{host: everywhere}", "opcua.host"),
        ("{host: 127.0.0.1, port: 0}", "opcua.port"),
        ("{host: 127.0.0.1, certificate_file: a.pem}", "certificate_file and key_file need"),
        ("{host: 127.0.0.1, username: u, password_file: p}", "needs a certificate_file"),
        ("{host: 127.0.0.1, username: u}", "username and password_file need each other"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], section: str, fault: str
) -> None:
    config = tmp_path / "station.yaml"
    config.write_text(
        "camera: {uri: in}\nmodel: {path: part.xml}\njournal: {folder: journal}\n"
        f"opcua: {section}\n"
    )
    assert main(["--config", str(config), "--check"]) == 78
    assert fault in capsys.readouterr().err


def test_a_key_that_is_not_the_certificates_is_named(tmp_path: Path) -> None:
    certificate, _ = write_certificate(tmp_path, "one")
    _, key = write_certificate(tmp_path, "other")
    files: Any = {"certificate_file": str(certificate), "key_file": str(key)}
    with pytest.raises(OpcUaUnusable, match=r"opcua\.key_file") as refused:
        check_usable(OpcUaSettings(host="127.0.0.1", port=4841, **files))
    assert refused.value.exit_code == 78
