"""Every parser that takes bytes from outside, and what it may raise."""

import io
import json
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from safetensors.numpy import save

from edge.bundle.loading import load_bundle
from edge.bundle.manifest import parse_manifest
from edge.bundle.mask_file import read_mask_file
from edge.bundle.teacher import parse_teacher
from edge.cameras.capture.stream_login import raise_if_refused
from edge.cameras.genicam import gvcp
from edge.contract.topics import StationTopic
from edge.errors import StationError
from edge.imaging.image_file_integrity import image_file_fault
from edge.imaging.image_files import read_image
from edge.imaging.image_header import image_header
from edge.mqtt.command_gate import AcceptedCommand, CommandGate, RefusedCommand
from edge.mqtt.connection import Incoming
from edge.mqtt.sparkplug.payload import DataType, Metric, PayloadInvalid, decode, encode
from edge.recipes.archive import export_recipe, import_recipe
from edge.recipes.folder import RecipeFolder
from edge.settings.loading import load_settings
from tests.support.recipes import add_recipe
from tests.support.small_bundle import good_image, write_bundle
from training.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[2]
_MESSAGES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("trigger", {"trigger_id": "1", "part_id": "p", "recipe": {"id": "a", "version": 1}}),
    ("trigger", {"trigger_id": "2", "deadline_ms": 250.0}),
    ("ack", {"seq": 1, "accepted": True}),
    ("cmd/resend", {"from_seq": 1, "to_seq": 9, "kind": "verdict"}),
    ("cmd/set_recipe", {"id": "b", "version": 1}),
    ("cmd/reload", {}),
    ("cmd/snapshot", {}),
    ("cmd/selftest", {}),
)
_LIMIT_S = 0.02


@dataclass(frozen=True, slots=True)
class Target:
    """A parser.

    Attributes:
        parse: takes bytes, and raises only what it should not.
        corpus: right ones, to begin with.
        ending: ends what it started.
    """

    parse: Callable[[bytes], None]
    corpus: tuple[bytes, ...]
    ending: Callable[[], None] = lambda: None

    def close(self) -> None:
        self.ending()


def messages(_: Path) -> Target:
    """What PLC and MES send: suffix of the topic, a zero byte, the payload."""
    topic = StationTopic.parse("site/line/cell/top")
    gate = CommandGate(topic, 10**9, 10**9)

    def parse(content: bytes) -> None:
        suffix, _, payload = content.partition(b"\0")
        name = f"{topic.root}/{suffix.decode(errors='replace')}"
        judged = gate.examine(Incoming(topic=name, payload=payload), 0)
        assert isinstance(judged, AcceptedCommand | RefusedCommand)

    corpus = [f"{suffix}\0{json.dumps(content)}".encode() for suffix, content in _MESSAGES]
    return Target(parse, tuple(corpus))


def settings(folder: Path) -> Target:
    """A station's YAML."""
    found = ["configs/station.yaml", "configs/demo/station.yaml", "tests/data/kept/every-key.yaml"]
    whole = [(ROOT / path).read_bytes() for path in found]
    return _of_file(folder / "station.yaml", load_settings, whole)


def manifest(folder: Path) -> Target:
    """The description of a bundle."""
    text = write_bundle(folder).with_suffix(".json").read_bytes()
    demo = (ROOT / "configs/demo/bottle.json").read_bytes()
    return _of_bytes(lambda content: parse_manifest(content, folder / "m.json"), [text, demo])


def teacher(folder: Path) -> Target:
    """The description of a teacher."""
    text = (ROOT / "configs/demo/teacher.json").read_bytes()
    return _of_bytes(lambda content: parse_teacher(content, folder / "t.json"), [text])


def graph(folder: Path) -> Target:
    """The header of an IR, whose hash the manifest names: nothing but the whole one is taken."""
    path = write_bundle(folder)
    whole = path.read_bytes()

    def parse(content: bytes) -> None:
        path.write_bytes(content)
        try:
            load_bundle(path)
        except StationError:
            return
        assert content == whole, "a changed graph was taken"

    return Target(parse, (whole,))


def mask(folder: Path) -> Target:
    """A mask, drawn as YAML."""
    text = b"width: 640\nheight: 480\nignore:\n  - [[0, 0], [100, 0], [100, 50]]\n"
    return _of_file(folder / "mask.yaml", read_mask_file, [text])


def checkpoint(folder: Path) -> Target:
    """The header of a checkpoint."""
    kept = (ROOT / "tests/data/kept/checkpoint.safetensors").read_bytes()
    length = int.from_bytes(kept[:8], "little")
    own = save({"a": np.zeros(3, np.float32)}, {"checkpoint": "{}"})
    # The tensors are large and not read before the header is believed.
    return _of_file(folder / "c.safetensors", load_checkpoint, [own, kept[: 8 + length + 64]])


def images(folder: Path) -> Target:
    """Image files, as they lie in a watched folder."""
    pixels = good_image(height=24, width=32)
    corpus = []
    for suffix in (".png", ".jpg", ".bmp", ".tif", ".webp"):
        done, encoded = cv2.imencode(suffix, pixels)
        assert done
        corpus.append(encoded.tobytes())
    names = {b"\x89PNG": "a.png", b"\xff\xd8\xff": "a.jpg", b"BM": "a.bmp", b"RIFF": "a.webp"}

    def parse(content: bytes) -> None:
        image_header(io.BytesIO(content))
        image_file_fault(np.frombuffer(content, np.uint8))
        name = next((n for start, n in names.items() if content.startswith(start)), "a.tif")
        path = folder / name
        path.write_bytes(content)
        with suppress(StationError):
            assert read_image(path, max_pixels=2**20).size <= 4 * 2**20

    return Target(parse, tuple(corpus))


def archive(folder: Path) -> Target:
    """A recipe in one file, from another station or from a stick."""
    own = RecipeFolder(folder / "own")
    export_recipe(own, add_recipe(own, "part", write_bundle(folder)), folder / "whole.recipe")
    other = RecipeFolder(folder / "other")
    other.path.mkdir()
    whole = (folder / "whole.recipe").read_bytes()
    return _of_file(folder / "a.recipe", lambda path: import_recipe(other, path), [whole])


def sparkplug(_: Path) -> Target:
    """A command to an edge node."""
    rebirth = Metric(
        name="Node Control/Rebirth", datatype=DataType.BOOLEAN, value=True, timestamp_ms=1
    )
    one = encode([rebirth], 1, 1, datatypes=True)
    return Target(lambda content: _refused(decode, content, PayloadInvalid), (one,))


def gvcp_answers(_: Path) -> Target:
    """What a GigE camera answers; the number of the question is put in, as any camera can."""
    answer = [b""]
    address = "127.14.7.1"
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, gvcp.PORT))

    def serve() -> None:
        with suppress(OSError):
            while True:
                question, sender = server.recvfrom(2048)
                content = answer[0]
                right = content[:6] + question[6:8] + content[8:]
                server.sendto(right, sender)

    threading.Thread(target=serve, daemon=True).start()

    def parse(content: bytes) -> None:
        answer[0] = content[:1400]
        gvcp.discover(address, _LIMIT_S)
        gvcp.control(address, _LIMIT_S)

    seen = struct.pack(">HHHH", 0, 3, 0xF8, 0) + bytes(0x48) + b"Maker".ljust(0xB0, b"\0")
    register = struct.pack(">HHHHI", 0, 0x81, 4, 0, 2)
    return Target(parse, (seen, register), server.close)


def rtsp_answers(_: Path) -> Target:
    """What a network camera answers over RTSP."""
    return _camera(
        "rtsp",
        (
            b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nPublic: DESCRIBE\r\n\r\n",
            b'RTSP/1.0 401 Unauthorized\r\nCSeq: 2\r\nWWW-Authenticate: Digest realm="a", '
            b'nonce="b", qop="auth", algorithm=MD5\r\nContent-Length: 0\r\n\r\n',
            b"RTSP/1.0 302 Moved\r\nLocation: rtsp://other/\r\n\r\n",
        ),
    )


def http_answers(_: Path) -> Target:
    """What a network camera answers over HTTP."""
    return _camera(
        "http",
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 0\r\n\r\n",
            b'HTTP/1.1 401 No\r\nWWW-Authenticate: Digest realm="a", nonce="b", qop="auth"\r\n'
            b"Content-Length: 0\r\n\r\n",
            b"HTTP/1.1 302 Moved\r\nLocation: http://other/\r\n\r\n",
        ),
    )


def _camera(scheme: str, corpus: tuple[bytes, ...]) -> Target:
    answer = [b""]
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]

    def serve() -> None:
        while True:
            try:
                guest, _ = server.accept()
            except OSError:
                return
            with closing(guest), suppress(OSError):
                guest.settimeout(1.0)
                while guest.recv(4096):
                    guest.sendall(answer[0])
                    if b"\r\n\r\n" not in answer[0]:
                        break

    threading.Thread(target=serve, daemon=True).start()

    def parse(content: bytes) -> None:
        answer[0] = content
        uri = f"{scheme}://user:word@127.0.0.1:{port}/stream"
        with suppress(StationError):
            raise_if_refused(uri, "127.0.0.1", port, limit_s=10 * _LIMIT_S, context=None)

    return Target(parse, corpus, server.close)


def _of_bytes(parse: Callable[[bytes], object], corpus: list[bytes]) -> Target:
    return Target(lambda content: _refused(parse, content, StationError), tuple(corpus))


def _of_file(path: Path, parse: Callable[[Path], object], corpus: list[bytes]) -> Target:
    def written(content: bytes) -> None:
        path.write_bytes(content)
        parse(path)

    return _of_bytes(written, corpus)


def _refused(parse: Callable[[bytes], object], content: bytes, allowed: type[Exception]) -> None:
    with suppress(allowed):
        parse(content)


TARGETS: dict[str, Callable[[Path], Target]] = {
    "messages": messages,
    "settings": settings,
    "manifest": manifest,
    "teacher": teacher,
    "graph": graph,
    "mask": mask,
    "checkpoint": checkpoint,
    "images": images,
    "archive": archive,
    "sparkplug": sparkplug,
    "gvcp": gvcp_answers,
    "rtsp": rtsp_answers,
    "http": http_answers,
}
