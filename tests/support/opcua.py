"""An OPC UA server in its real process over a journal, and certificates for it."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from asyncua import Client, ua
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.contract.encoding import new_id
from edge.contract.verdict import Recipe
from edge.journal.entries import Entry, RecordKind
from edge.journal.open import open_journal
from edge.journal.writer import JournalWriter
from edge.plc.opcua.machine_vision import (
    MACHINE_VISION,
    RECIPE_PREPARED,
    RESULT_READY,
    STATE_CHANGED,
)
from edge.plc.opcua.station_nodes import NAMESPACE
from edge.settings.opcua import OpcUaSettings
from edge.station.monitoring.health import Health
from edge.station.opcua.server_process import OpcUaProcess, StationRecipes
from edge.station.threads import Failures, Worker
from tests.support.broker import GENEROUS_S, free_port
from tests.support.relaying import STATION, VERDICT

EVENT_TYPES = {
    "ResultReadyEventType": RESULT_READY,
    "RecipePreparedEventType": RECIPE_PREPARED,
    "StateChangedEventType": STATE_CHANGED,
}


def vision_id(kind: str, identity: str) -> Any:
    """Return an id of OPC 40100-1; asyncua makes its class from what the server says."""
    return getattr(ua, kind)(Id=identity)


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


class VisionClient:
    """A client that knows OPC 40100-1, on an open connection."""

    def __init__(self, client: Client, types: int, space: int) -> None:
        self._client = client
        self._types, self._space = types, space

    @classmethod
    async def of(cls, client: Client) -> "VisionClient":
        types = await client.get_namespace_index(MACHINE_VISION)
        if not hasattr(ua, "ResultDataType"):
            await client.load_data_type_definitions()
        return cls(client, types, await client.get_namespace_index(NAMESPACE))

    def node(self, path: str) -> Any:
        return self._client.get_node(f"ns={self._space};s=VisionSystem.{path}".removesuffix("."))

    async def listen(self, kind: str) -> Events:
        """Subscribe to events of a type at the vision system."""
        events = Events()
        subscription = await self._client.create_subscription(20, events)
        number = EVENT_TYPES[kind]
        event_type = self._client.get_node(f"ns={self._types};i={number}")
        await subscription.subscribe_events(self.node(""), event_type)
        return events

    async def call(self, owner: str, method: str, *given: Any) -> Any:
        return await self.node(owner).call_method(f"{self._types}:{method}", *given)

    async def results(self, part: str | None = None, max_count: int = 0) -> list[Any]:
        of_part = vision_id("PartIdDataType", part) if part else None
        nothing = [None] * 6
        given = [ua.Variant(0, ua.VariantType.Int32), None, of_part, *nothing]
        limits = [ua.Variant(one, ua.VariantType.UInt32) for one in (max_count, 0)]
        answer = await self.call("ResultManagement", "GetResultListFiltered", *given, *limits, 0)
        assert answer[1] == len(answer[3]) and answer[4] == 0
        return answer[3]

    async def recipes(self) -> list[str]:
        state = ua.Variant(2, ua.VariantType.Int32)  # prepared or not
        limits = [ua.Variant(0, ua.VariantType.UInt32)] * 2
        answer = await self.call(
            "RecipeManagement", "GetRecipeListFiltered", None, None, state, *limits, 0
        )
        return [one.Id for one in answer[3]]

    async def prepare(self, recipe: Any) -> Any:
        return await self.call("RecipeManagement", "PrepareRecipe", recipe, None)

    async def state(self) -> tuple[str, str | None]:
        """Return both states; None of a machine that is not active."""
        names: list[Any] = []
        for path in ("VisionStateMachine", "VisionStateMachine.AutomaticModeStateMachine"):
            value = await self.node(f"{path}.CurrentState").read_data_value(False)
            names.append(value.Value.Value.Text if value.StatusCode.is_good() else None)
        return names[0], names[1]


class ServedJournal:
    """A journal, and the server that shows its verdicts."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.failures = Failures()
        self.settings = OpcUaSettings(host="127.0.0.1", port=free_port(), **settings)
        folder.mkdir(exist_ok=True)
        journal = open_journal(folder)
        self.journal = journal.journal
        self.health = Health()
        self.server = OpcUaProcess(
            settings=self.settings,
            station=STATION,
            triggered=True,
            journal=journal.path,
            health=self.health,
        )
        self.health.subscribe(self.server.on_health)
        self.recipe = Recipe("bottle", 1)
        self.server.set_recipes(
            StationRecipes(
                current=lambda: self.recipe,
                offered=lambda: [Recipe("bottle", 1), Recipe("vial", 3)],
                choose=self._choose,
            )
        )
        self.url = self.server.status().address
        self.writer = JournalWriter(journal=journal, on_commit=self.server.wake)
        self._threads = [
            Worker("journal", self.writer.run, self.failures),
            Worker("opcua", self.server.run, self.failures),
        ]
        for thread in self._threads:
            thread.start()
        deadline = time.monotonic() + GENEROUS_S
        while not self.server.status().serving:
            self.failures.raise_first()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def _choose(self, recipe: Recipe, user: str) -> None:
        self.asked_by, self.recipe = user, recipe

    def decide(self, parts: int, **fields: Any) -> None:
        for _ in range(parts):
            content = {**VERDICT, "id": new_id(time.time_ns()), **fields}
            self.writer.submit(Entry(RecordKind.VERDICT, content, str(content["result"])))
        assert self.writer.flush(GENEROUS_S)

    def close(self) -> None:
        self.server.stop()
        assert self._threads[1].join(GENEROUS_S)
        self.writer.close()
        assert self._threads[0].join(GENEROUS_S)
        self.failures.raise_first()


@contextmanager
def served_journal(folder: Path, **settings: Any) -> Iterator[ServedJournal]:
    one = ServedJournal(folder, **settings)
    try:
        yield one
    finally:
        one.close()


def write_certificate(
    folder: Path,
    name: str,
    *,
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | None = None,
    days: tuple[int, int] = (-1, 365),
    uri: str | None = "urn:test:",
    encipherment: bool = True,
    purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
) -> tuple[Path, Path]:
    """Write a self-signed certificate of an OPC UA application, and its key; return both.

    Args:
        days: from and until when it is valid, counted from now.
        uri: what its application URI begins with; the name follows.
    """
    key = key or rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    usage = dict.fromkeys(("digital_signature", "content_commitment", "key_cert_sign"), True)
    usage |= {"key_encipherment": encipherment, "data_encipherment": encipherment}
    rest = dict.fromkeys(("key_agreement", "crl_sign", "encipher_only", "decipher_only"), False)
    names: list[x509.GeneralName] = [x509.DNSName("localhost")]
    if uri is not None:
        names.append(x509.UniformResourceIdentifier(f"{uri}{name}"))
    both = [purpose, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(x509.SubjectAlternativeName(names), False)
        .add_extension(x509.BasicConstraints(False, None), True)
        .add_extension(x509.KeyUsage(**usage, **rest), True)
        .add_extension(x509.ExtendedKeyUsage(both), False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.pem", folder / f"{name}-key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths
