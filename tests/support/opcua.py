"""An OPC UA server in its real process over a journal, and certificates for it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.contract.encoding import new_id
from edge.contract.verdict import Recipe
from edge.journal.entries import Entry, RecordKind
from edge.journal.open import open_journal
from edge.journal.writer import JournalWriter
from edge.settings.opcua import OpcUaSettings
from edge.station.monitoring.health import Health
from edge.station.opcua_process import OpcUaProcess, StationRecipes
from edge.station.threads import Failures, Worker
from tests.support.broker import GENEROUS_S, free_port
from tests.support.relaying import STATION, VERDICT


class ServedJournal:
    """A journal, and the server that shows its verdicts."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.failures = Failures()
        self.settings = OpcUaSettings(host="127.0.0.1", port=free_port(), **settings)
        folder.mkdir(exist_ok=True)
        journal = open_journal(folder)
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


def write_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Write a self-signed certificate of an OPC UA application, and its key; return both."""
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    usage = {"digital_signature": True, "content_commitment": True, "key_encipherment": True}
    usage |= {"data_encipherment": True, "key_cert_sign": True}
    rest = dict.fromkeys(("key_agreement", "crl_sign", "encipher_only", "decipher_only"), False)
    uri = x509.UniformResourceIdentifier(f"urn:test:{name}")
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([uri, x509.DNSName("localhost")]), False)
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
