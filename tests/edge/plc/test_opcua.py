"""The OPC UA server in its process: asyncua's client, and that of node-opcua."""

import asyncio
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml
from asyncua import Client, ua
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.ua.uaerrors import UaError
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge.cli.main import main
from edge.contract.state import HINDERING, Condition
from edge.doctor.finding import Grade
from edge.doctor.opcua import opcua_finding
from edge.plc.opcua.machine_vision import MACHINE_VISION
from edge.plc.opcua.startup_check import OpcUaUnusable, check_usable
from edge.plc.opcua.station_nodes import NAMESPACE
from edge.plc.opcua.vision_state import TRANSITIONS, VisionStates, vision_states
from edge.settings.opcua import OpcUaSettings
from tests.edge.conftest import edge_run_command
from tests.soak import times
from tests.support.broker import GENEROUS_S, free_port
from tests.support.opcua import (
    Events,
    ServedJournal,
    VisionClient,
    served_journal,
    vision_id,
    write_certificate,
)
from tests.support.relaying import write_secret

ROOT = Path(__file__).parents[3]
# The other client: 33 MB of packages of npm.
NODE_OPCUA = "node-opcua-client@2.186.4"
NODE_FOLDER = ROOT / "build" / "node"
PROGRAM = ROOT / "tests" / "support" / "opcua_client.js"


class Secured:
    """A server with a certificate and an account, the only one of this module: it takes seconds."""

    def __init__(self, served: ServedJournal, folder: Path) -> None:
        self.served, self._folder = served, folder

    @asynccontextmanager
    async def client(
        self, user: str | None = "scada", password: str = "secret"
    ) -> AsyncIterator[Client]:
        client = Client(self.served.url)
        client.application_uri = "urn:test:client"
        if user is not None:
            client.set_user(user)
            client.set_password(password)
        files = (str(self._folder / "client.pem"), str(self._folder / "client-key.pem"))
        await client.set_security(SecurityPolicyBasic256Sha256, *files)
        async with client:
            yield client


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    certificate, key = write_certificate(folder, "server")
    write_certificate(folder, "client")
    write_secret(folder / "password", "secret")
    account = {"username": "scada", "password_file": str(folder / "password")}
    files = {"certificate_file": str(certificate), "key_file": str(key)}
    with served_journal(folder / "journal", **account, **files) as one:
        yield Secured(one, folder)


@pytest.fixture
def served(secured: Secured) -> ServedJournal:
    return secured.served


async def values(client: Client, *names: str) -> list[Any]:
    space = await client.get_namespace_index(NAMESPACE)
    return await client.read_values(
        [client.get_node(f"ns={space};s=Station.{name}") for name in names]
    )


def test_each_verdict_is_an_event_and_the_newest_stands_in_the_variables(
    secured: Secured,
) -> None:
    served = secured.served

    async def listen() -> tuple[list[Any], list[Any]]:
        async with secured.client() as client:
            space = await client.get_namespace_index(NAMESPACE)
            kind = await client.nodes.base_event_type.get_child([f"{space}:VerdictEventType"])
            events = Events()
            subscription = await client.create_subscription(20, events)
            await subscription.subscribe_events(client.get_node(f"ns={space};s=Station"), kind)
            before = served.writer.last_seq
            await asyncio.to_thread(served.decide, 3, part_id="p1")
            lost = {"result": "ERROR", "reason": "camera_lost", "anomaly_score": None}
            await asyncio.to_thread(served.decide, 1, **lost)
            seen = await events.wait_for(4)
            assert [one.Seq for one in seen] == [before + n for n in (1, 2, 3, 4)]
            names = ("Result", "Seq", "Score", "PartId", "Record", "Name", "DecidedUtc", "Recipe")
            return seen, await values(client, *names)

    seen, (result, seq, score, part, record, name, decided, recipe) = asyncio.run(listen())
    assert [one.Result for one in seen] == ["OK", "OK", "OK", "ERROR"]
    assert [one.PartId for one in seen] == ["p1", "p1", "p1", None]
    assert [one.Severity for one in seen] == [1, 1, 1, 500]
    assert math.isnan(seen[3].Score) and math.isnan(score)
    assert (result, part, name, recipe) == ("ERROR", None, "site/line/cell/top", "bottle")
    whole = json.loads(record)
    assert (whole["seq"], whole["reason"]) == (seq, "camera_lost")
    assert decided.isoformat(timespec="microseconds").startswith(whole["time"]["decided_utc"][:26])


def test_a_vision_system_of_opc_40100_has_results_recipes_and_a_state(secured: Secured) -> None:
    served = secured.served
    recipe = {"id": "bottle", "version": 1}

    async def visit() -> None:
        async with secured.client() as client:
            vision = await VisionClient.of(client)
            ready = await vision.listen("ResultReadyEventType")
            await asyncio.to_thread(served.decide, 1, part_id="p7", trigger_id="t7", recipe=recipe)
            await asyncio.to_thread(served.decide, 1, result="ERROR", reason="camera_lost")
            first, second = await ready.wait_for(2)
            assert (first.PartId.Id, first.MeasId.Id) == ("p7", "t7")
            assert first.InternalRecipeId.Id == "bottle@1" and first.ExternalRecipeId.Id == "bottle"
            assert (first.ResultState, second.ResultState) == (1, 4)  # completed, failed
            assert [one.Value for one in first.ResultContent][:2] == ["OK", "score_below"]
            assert second.PartId is None and second.IsPartial is False

            handle, result, error = await vision.call(
                "ResultManagement", "GetResultById", first.ResultId, 0
            )
            assert (handle, error) == (0, 0)
            assert (result.ResultId, result.PartId.Id) == (first.ResultId, "p7")
            assert result.InternalConfigurationId.Id == "bottle" and result.JobId == first.JobId
            _, _, error = await vision.call(
                "ResultManagement", "GetResultById", vision_id("ResultIdDataType", "other/1"), 0
            )
            assert error == -1
            parts = await vision.call(
                "ResultManagement", "GetResultComponentsById", first.ResultId, 0
            )
            assert (parts[4], parts[6].Id, parts[-1]) == (1, "p7", 0)
            of_part = await vision.results(part="p7")
            assert [one.ResultId for one in of_part] == [first.ResultId]
            assert len(await vision.results(max_count=1)) == 1

            prepared = await vision.listen("RecipePreparedEventType")
            assert await vision.recipes() == ["bottle@1", "vial@3"]
            wanted = vision_id("RecipeIdExternalDataType", "vial")
            inner, done, error = await vision.prepare(wanted)
            assert (inner.Id, done, error) == ("vial@3", False, 0)
            (event,) = await prepared.wait_for(1)
            assert (event.InternalId.Id, served.asked_by) == ("vial@3", "OPC UA scada")
            assert (await vision.prepare(vision_id("RecipeIdExternalDataType", "none")))[2] == -1

            steps = await vision.listen("StateChangedEventType")
            assert await vision.state() == ("Operational", "Ready")
            served.health.set("camera_lost", True)
            served.health.set("drift", True)
            (to_error,) = await steps.wait_for(1)
            assert (to_error.FromState.Text, to_error.ToState.Text) == ("Operational", "Error")
            assert await vision.state() == ("Error", None)
            served.health.set("camera_lost", False)
            assert (await steps.wait_for(2))[1].ToState.Text == "Operational"

    asyncio.run(visit())


def test_a_station_is_ready_when_it_would_take_a_part() -> None:
    names = {}
    for condition in (Condition.STARTING, Condition.ONLINE, Condition.STOPPED):
        for triggered in (True, False):
            states = vision_states(condition, (), triggered)
            automatic = states.automatic.name if states.automatic else None
            names[condition, triggered] = (states.vision.name, automatic)
    assert names == {
        (Condition.STARTING, True): ("Preoperational", None),
        (Condition.STARTING, False): ("Preoperational", None),
        (Condition.ONLINE, True): ("Operational", "Ready"),
        (Condition.ONLINE, False): ("Operational", "ContinuousExecution"),
        (Condition.STOPPED, True): ("Halted", None),
        (Condition.STOPPED, False): ("Halted", None),
    }
    for reason in HINDERING:
        degraded = vision_states(Condition.DEGRADED, (reason, "drift"), True)
        assert degraded.vision.name == "Error" and not degraded.is_ready
    assert vision_states(Condition.DEGRADED, ("drift",), True).is_ready
    started, online = VisionStates(), vision_states(Condition.ONLINE, (), True)
    assert [step.transition for step in started.to(online)] == [
        TRANSITIONS[started.vision, online.vision]
    ]
    assert online.to(online) == ()


def test_nobody_writes_or_adds_and_nothing_but_the_recipe_is_controlled(secured: Secured) -> None:
    async def attack() -> list[Any]:
        async with secured.client() as client:
            space = await client.get_namespace_index(NAMESPACE)
            types = await client.get_namespace_index(MACHINE_VISION)
            result = client.get_node(f"ns={space};s=Station.Result")
            machine = client.get_node(f"ns={space};s=VisionSystem.VisionStateMachine")
            refused = []
            for attempt in (
                lambda: result.write_value("OK"),
                lambda: client.nodes.objects.add_variable(space, "mine", 1),
                lambda: result.read_raw_history(),
                lambda: machine.delete(),
                lambda: machine.call_method(f"{types}:Halt", 0, "because"),
            ):
                try:
                    await attempt()
                except UaError as error:
                    refused.append(type(error).__name__)
            return refused

    assert asyncio.run(attack()) == ["BadUserAccessDenied"] * 4 + ["BadNotSupported"]


def test_what_is_no_opc_ua_ends_that_connection_alone(secured: Secured) -> None:
    served = secured.served

    async def knock() -> str:
        for nonsense in (b"GET / HTTP/1.0\r\n\r\n", b"HELF\xff\xff\xff\xff", b"OPNF" + bytes(40)):
            _, writer = await asyncio.open_connection("127.0.0.1", served.settings.port)
            writer.write(nonsense)
            await writer.drain()
            writer.close()
        async with secured.client() as client:
            return (await values(client, "Name"))[0]

    assert asyncio.run(knock()) == "site/line/cell/top"
    assert opcua_finding(served.settings, running=True).grade is Grade.GOOD
    taken = opcua_finding(served.settings, running=False)
    assert taken.grade is Grade.FAULT and "opcua.port" in taken.found


def test_with_a_certificate_and_an_account_nobody_else_reads(secured: Secured) -> None:
    async def connect(user: str | None, password: str) -> None:
        async with secured.client(user, password):
            pass

    for user, password in (("scada", "wrong"), ("admin", "secret"), (None, "")):
        with pytest.raises(UaError):
            asyncio.run(connect(user, password))

    async def policies() -> set[tuple[str, int]]:
        endpoints = await Client(secured.served.url).connect_and_get_server_endpoints()
        return {(one.SecurityPolicyUri.rpartition("#")[2], one.SecurityMode) for one in endpoints}

    mode = ua.MessageSecurityMode
    wanted = {("Basic256Sha256", mode.Sign), ("Basic256Sha256", mode.SignAndEncrypt)}
    assert asyncio.run(policies()) == wanted


def test_the_program_of_the_docs_reads_the_results_of_the_demo(tmp_path: Path) -> None:
    demo = ROOT / "configs" / "demo"
    settings = yaml.safe_load((demo / "opcua.yaml").read_text())
    settings["camera"]["uri"] = str(demo / "frames")
    settings["model"]["path"] = str(demo / "bottle.xml")
    settings["journal"]["folder"] = str(tmp_path / "journal")
    settings["opcua"]["port"] = port = free_port()
    settings["hmi"]["port"] = 0
    (tmp_path / "station.yaml").write_text(yaml.safe_dump(settings))
    text = (ROOT / "docs" / "opcua.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "results.py").write_text(program.replace(":4840", f":{port}"))
    with (tmp_path / "log").open("w") as log:
        station = subprocess.Popen(
            edge_run_command("--config", tmp_path / "station.yaml"),
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
    try:
        page = logged(tmp_path / "log", r"the page is at (http://127\.0\.0\.1:\d+)")
        logged(tmp_path / "log", "(OPC UA at)")
        printed = subprocess.run(
            [sys.executable, tmp_path / "results.py"],
            capture_output=True,
            text=True,
            timeout=GENEROUS_S,
            check=False,
        )
        assert len(re.findall(r"/\d+: bottle (?:OK|NOK), score_", printed.stdout)) == 6, printed
        with urlopen(f"{page}/metrics") as answer:
            assert "edge_opcua_serving 1.0" in answer.read().decode()
    finally:
        station.terminate()
        assert station.wait(GENEROUS_S) == 0


def logged(log: Path, pattern: str) -> str:
    deadline_s = time.monotonic() + GENEROUS_S
    while (found := re.search(pattern, log.read_text())) is None:
        assert time.monotonic() < deadline_s, log.read_text()
        time.sleep(0.1)
    return found[1]


@pytest.fixture
def node_modules() -> Path:
    """Packages of Node.js with the client in them; installed once for all runs."""
    if not times(0, 1):
        pytest.skip(f"make soak installs {NODE_OPCUA}, and runs this")
    folder = NODE_FOLDER / NODE_OPCUA
    if not folder.exists():
        if shutil.which("npm") is None:
            pytest.skip("there is no npm (apt install npm)")
        part = NODE_FOLDER / "part"
        part.mkdir(parents=True, exist_ok=True)
        options = ("--no-audit", "--no-fund", "--ignore-scripts")
        done = subprocess.run(
            ["npm", "install", *options, "--prefix", part, NODE_OPCUA],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            pytest.skip(f"npm does not give {NODE_OPCUA}: {done.stderr.strip()[-300:]}")
        part.replace(folder)
    return folder / "node_modules"


def test_node_opcua_reads_values_and_events(tmp_path: Path, node_modules: Path) -> None:
    folders = {"HOME": str(tmp_path), "NODE_PATH": str(node_modules)}
    with (
        served_journal(tmp_path / "journal") as served,
        subprocess.Popen(
            ["node", str(PROGRAM), served.url, NAMESPACE, "3"],
            env={**os.environ, **folders},
            stdout=subprocess.PIPE,
            text=True,
        ) as client,
    ):
        assert client.stdout is not None
        assert "subscribed\n" in iter(client.stdout.readline, "")
        before, journal = served.writer.last_seq, served.journal
        served.decide(3, part_id="p2")
        printed, _ = client.communicate(timeout=GENEROUS_S)
    found = json.loads(printed.splitlines()[-1])
    assert found["events"] == [[before + n, "OK", "p2", 0.32] for n in (1, 2, 3)]
    assert found["values"] == ["OK", before + 3, "p2", 0.32]
    assert found["results"] == [[1, "p2", f"{journal}/{before + n}"] for n in (1, 2, 3)]


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


def opcua_settings(files: tuple[Path, Path]) -> OpcUaSettings:
    certificate, key = map(str, files)
    return OpcUaSettings(
        host="127.0.0.1", port=free_port(), certificate_file=certificate, key_file=key
    )


def test_a_key_that_no_client_could_connect_with_is_refused(tmp_path: Path) -> None:
    elliptic = ec.generate_private_key(ec.SECP256R1())
    settings = opcua_settings(write_certificate(tmp_path, "server", key=elliptic))
    with pytest.raises(OpcUaUnusable, match="no RSA key") as refused:
        check_usable(settings)
    assert refused.value.exit_code == 78
    assert opcua_finding(settings, running=False).grade is Grade.FAULT


@pytest.mark.parametrize(
    ("certificate", "doubt"),
    [
        ({"days": (-30, -1)}, "expired on "),
        ({"days": (3, 365)}, "is valid only from "),
        ({"days": (-1, 20)}, "expires on "),
        ({"uri": None}, "has no application URI"),
        ({"encipherment": False}, "keyEncipherment"),
        ({"purpose": ExtendedKeyUsageOID.CODE_SIGNING}, "serverAuth"),
        ({"key": rsa.generate_private_key(65537, 1024)}, "has a key of 1024 bits"),
    ],
)
def test_a_certificate_that_clients_may_refuse_is_named_by_the_doctor(
    tmp_path: Path, certificate: dict[str, Any], doubt: str
) -> None:
    settings = opcua_settings(write_certificate(tmp_path, "server", **certificate))
    found = opcua_finding(settings, running=False)
    assert found.grade is Grade.ADVICE and doubt in found.found
    with socket.create_server(("127.0.0.1", settings.port)) as listening:
        threading.Thread(target=acknowledge, args=(listening,), daemon=True).start()
        found = opcua_finding(settings, running=True)
    assert found.grade is Grade.ADVICE and doubt in found.found


def acknowledge(listening: socket.socket) -> None:
    """Answer one Hello."""
    connection, _ = listening.accept()
    with connection:
        connection.recv(1000)
        connection.sendall(b"ACKF\x08\0\0\0")


def test_what_programs_write_above_a_certificate_and_its_key_is_passed_over(tmp_path: Path) -> None:
    files = write_certificate(tmp_path, "server")
    for file in files:
        file.write_bytes(b"Bag Attributes\n    friendlyName: server\n" + file.read_bytes())
    assert check_usable(opcua_settings(files)) == ()
    with served_journal(
        tmp_path / "journal", certificate_file=str(files[0]), key_file=str(files[1])
    ) as served:
        assert served.server.status().serving
