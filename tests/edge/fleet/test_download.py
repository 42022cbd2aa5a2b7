"""A release fetched over HTTP and S3: bounded, of its hash, and from nowhere else."""

import hashlib
import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from edge.contract.fleet import ReleaseFile
from edge.fleet.plan import Plan
from edge.fleet.release_file import put_release
from edge.settings.fleet import FleetSettings
from edge.station.fleet.download import ReleaseDownload, check_allowed
from edge.station.fleet.errors import ReleaseRefused
from tests.soak import times
from tests.support.broker import free_port
from tests.support.station_process import until

CONTENT = bytes(range(256)) * 5000


class Server(BaseHTTPRequestHandler):
    """Answers by the path."""

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        of_path = {"/r/cut": CONTENT[:-1], "/r/more": 9 * CONTENT, "/r/moved": b"elsewhere"}
        self._answer(of_path.get(self.path, CONTENT))

    def _answer(self, content: bytes) -> None:
        moved = self.path == "/r/moved"
        self.send_response(404 if self.path == "/r/none" else 302 if moved else 200)
        if moved:
            self.send_header("location", "/r/whole")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/r"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("whole", None),
        ("cut", "other_file"),
        ("more", "other_file"),
        ("none", "not_fetched"),
        ("moved", "other_file"),
    ],
)
def test_a_release_comes_whole_over_http_or_not_at_all(
    tmp_path: Path, address: str, name: str, reason: str | None
) -> None:
    release = ReleaseFile(
        name="nut",
        version=1,
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        bytes=len(CONTENT),
        address=f"{address}/{name}",
    )
    settings = FleetSettings(addresses=(address,), public_key="key.pem")
    download = ReleaseDownload(
        settings=settings,
        clock_s=lambda: 0.0,
        free_bytes=lambda _: 2**40,
        ending=lambda: False,
    )
    target = tmp_path / "file"
    if reason is None:
        download.fetch(release, target)
        assert target.read_bytes() == CONTENT
        return
    with pytest.raises(ReleaseRefused) as refused:
        download.fetch(release, target)
    assert refused.value.reason == reason
    assert not target.exists() or target.stat().st_size <= len(CONTENT)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")
def test_a_disk_that_fills_during_the_download_is_named(tmp_path: Path) -> None:
    disk, file = tmp_path / "disk", tmp_path / "released"
    disk.mkdir()
    file.write_bytes(2 * CONTENT)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not permitted here")
    download = ReleaseDownload(
        settings=FleetSettings(addresses=(str(tmp_path),), public_key="key.pem"),
        clock_s=lambda: 0.0,
        free_bytes=lambda _: 2**40,  # when it began
        ending=lambda: False,
    )
    release = ReleaseFile(
        name="nut",
        version=1,
        sha256=hashlib.sha256(2 * CONTENT).hexdigest(),
        bytes=2 * len(CONTENT),
        address=str(file),
    )
    try:
        with pytest.raises(ReleaseRefused, match=f"^{disk}: .*No space left") as refused:
            download.fetch(release, disk / "file")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert refused.value.reason == "disk_full"
    with pytest.raises(ReleaseRefused, match=r"not be written") as refused:
        download.fetch(release, tmp_path / "released" / "file")  # below a file
    assert refused.value.reason == "not_writable"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3-compatible server with a bucket; its login and place are in the environment."""
    port = free_port()
    login = {"AWS_ACCESS_KEY_ID": "edge", "AWS_SECRET_ACCESS_KEY": "secret"}
    place = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**login, **place}.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until(lambda: listens(port), "the store")
        fsspec.filesystem("s3").mkdir("plant")
        yield "s3://plant/edge"
    finally:
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        server.kill()
        server.wait()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not times(0, 1), reason="an S3-compatible server comes with make soak")
def test_a_release_goes_through_an_s3_store_whole_or_not_at_all(tmp_path: Path, store: str) -> None:
    content = random.Random(1).randbytes(12_000_000)  # in parts: S3 takes 5 MB at a time
    file = tmp_path / "nut.recipe"
    file.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    release = ReleaseFile(
        name="nut", version=1, sha256=sha256, bytes=len(content), address=f"{store}/{sha256}.recipe"
    )
    put_release(file, release, Plan(stations=("a/b/c/d",), address=store))
    download = ReleaseDownload(
        settings=FleetSettings(addresses=(store,), public_key="key.pem"),
        clock_s=lambda: 0.0,
        free_bytes=lambda _: 2**40,
        ending=lambda: False,
    )
    download.fetch(release, tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == content

    with fsspec.open(f"{store}/cut", "wb") as cut:
        cut.write(content[:-1])
    for name, reason in (("cut", "other_file"), ("none", "not_fetched")):
        other = release.model_copy(update={"address": f"{store}/{name}"})
        with pytest.raises(ReleaseRefused) as refused:
            download.fetch(other, tmp_path / "got")
        assert refused.value.reason == reason


@pytest.mark.parametrize(
    "address",
    [
        "https://releases.plant.example/edge/../other/a",
        "https://releases.plant.example/edge/%2e%2e/other/a",
        "https://releases.plant.example.evil/edge/a",
        "https://releases.plant.example/edges/a",
        "https://user@releases.plant.example/edge/a",
        "http://releases.plant.example/edge/a",
        "file:///srv/releases/a",
        "/srv/releases/../secret",
        "srv/releases/a",
        "s3://other/a",
    ],
)
def test_an_address_that_the_settings_do_not_allow_is_refused(address: str) -> None:
    allowed = ("https://releases.plant.example/edge", "/srv/releases", "s3://bucket/edge")
    with pytest.raises(ReleaseRefused, match="is not below any of fleet"):
        check_allowed(address, allowed)
    check_allowed("https://releases.plant.example/edge/a", allowed)
