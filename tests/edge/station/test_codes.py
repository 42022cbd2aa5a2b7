"""The code on a part is its id, where the trigger gives none."""

import json
import threading
import time
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import zxingcpp
from numpy.typing import NDArray

from edge.bundle.input_spec import Crop
from edge.cli.main import main as edge_run
from edge.contract.verdict import payload
from edge.imaging.codes import CodeReading, CodesNotInstalled, demand_readable, read_code
from edge.imaging.frame import Frame
from edge.inspection.decision import Decision, Reason, Result
from edge.inspection.inspector import Inspection
from edge.recipes.part_codes import CodeContent, CodePattern
from edge.settings.code import CodeSettings
from edge.station.pipeline.code_reading import CodeReader
from tests.support.sample_verdict import IDENTITY, sample_verdict
from tests.support.small_bundle import good_image, write_bundle

KINDS = {"qr": zxingcpp.BarcodeFormat.QRCode, "datamatrix": zxingcpp.BarcodeFormat.DataMatrix}
OK = Decision(Result.OK, Reason.SCORE_BELOW)


def code(text: str, kind: str, **options: Any) -> NDArray[np.uint8]:
    """Return a printed code with its white border, four pixels a module."""
    made = np.asarray(zxingcpp.create_barcode(text, KINDS[kind], **options).to_image(scale=4))
    return np.pad(made, 16, constant_values=255)


def with_code(text: str, kind: str, angle_deg: float = 0.0, **options: Any) -> NDArray[np.uint8]:
    """Return a grey part of 480×360 with a code on it."""
    pixels = good_image(0, 360, 480)
    label = code(text, kind, **options)
    matrix = cv2.getRotationMatrix2D((label.shape[1] / 2, label.shape[0] / 2), angle_deg, 1.0)
    label = cv2.warpAffine(label, matrix, label.shape[::-1], borderValue=(255,))
    pixels[60 : 60 + label.shape[0], 200 : 200 + label.shape[1]] = label[:, :, None]
    return pixels


def reader(**changes: Any) -> CodeReader:
    given = {"kinds": ("qr", "datamatrix"), "timeout_ms": 9e3} | changes
    return CodeReader(CodeSettings.model_validate(given), 1)


def found(codes: CodeReader, pixels: NDArray[np.uint8], decision: Decision = OK) -> Inspection:
    inspection = Inspection(decision=decision, threshold=1.0, pixel_threshold=1.0)
    frame = Frame(pixels=pixels, number=1, captured_ns=0, captured_utc_ns=0)
    return codes.identified(inspection, codes.start(frame))


@pytest.mark.parametrize("kind", ["qr", "datamatrix"])
@pytest.mark.parametrize("angle_deg", [0.0, 8.0])
def test_a_code_is_read_as_the_id(kind: str, angle_deg: float) -> None:
    pixels = with_code("SN-2026/00417", kind, angle_deg)
    assert found(reader(), pixels).part_id == "SN-2026/00417"
    assert found(reader(), pixels.mean(2).astype(np.uint16) * 200).part_id == "SN-2026/00417"
    there = Crop(x=190, y=50, width=200, height=200)
    assert found(reader(region=there), pixels).part_id == "SN-2026/00417"


def test_opencv_alone_reads_qr_and_datamatrix_asks_for_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edge.imaging.codes._has_zxing", lambda: False)
    assert read_code(with_code("A-17", "qr"), ["qr"], None).text == "A-17"
    assert read_code(good_image(), ["qr"], None).text is None
    with pytest.raises(CodesNotInstalled, match=r"inspection-station\[codes\]"):
        demand_readable(["qr", "datamatrix"])


ISO_15434 = "[)>\x1e06\x1dP123\x1dS9\x1e\x04"


@pytest.mark.parametrize(
    ("text", "part_id"),
    [
        (ISO_15434, "[)>␞06␝P123␝S9␞␄"),
        ("A\x1dB", "A␝B"),
        ("A<GS>B", "A<GS>B"),
        ("A\0B\x7f\n", "A␀B␡␊"),
    ],
)
@pytest.mark.parametrize("kind", ["qr", "datamatrix"])
def test_control_characters_of_a_code_are_their_symbols(
    kind: str, text: str, part_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = with_code(text, kind)
    assert found(reader(), pixels).part_id == part_id
    if kind == "qr":
        monkeypatch.setattr("edge.imaging.codes._has_zxing", lambda: False)
        assert read_code(pixels, ["qr"], None).text == part_id


@pytest.mark.parametrize("kind", ["qr", "datamatrix"])
def test_a_gs1_code_is_read_as_people_read_it(kind: str) -> None:
    text = "(01)09501101530003(10)ABC(21)X1"
    pixels = with_code(text, kind, gs1=True)
    assert found(reader(), pixels).part_id == text
    sent = payload(replace(sample_verdict(), inspection=found(reader(), pixels)), IDENTITY, None)
    assert sent["part_id"] == text


def test_a_pattern_finds_the_recipe_between_group_separators() -> None:
    pattern = r"\[\)>␞06␝P(?P<recipe>[^␝]+)␝S(?P<part>[^␞]+)␞␄"
    text = read_code(with_code(ISO_15434, "datamatrix"), ["datamatrix"], None).text
    assert CodePattern(pattern, {}).read(text or "") == CodeContent("123", "9")


def test_a_part_whose_code_cannot_be_read_is_an_error_or_has_no_id() -> None:
    blank, two = good_image(0, 360, 480), with_code("one", "qr")
    label = code("two", "qr")
    two[200 : 200 + len(label), 20 : 20 + len(label)] = label[:, :, None]
    away = Crop(x=400, y=0, width=100, height=100)
    for pixels, region, words in (
        (blank, None, "no readable code"),
        (two, None, "2 codes with different texts"),
        (with_code("x" * 101, "qr"), None, "101 characters"),
        (with_code("A\u202eB", "qr"), None, "cannot be printed"),
        (blank, away, "does not fit"),
    ):
        inspection = found(reader(region=region), pixels)
        assert inspection.decision == Decision(Result.ERROR, Reason.CODE_UNREADABLE)
        assert words in inspection.detail and inspection.part_id is None
        kept = found(reader(region=region, unreadable="empty"), pixels)
        assert kept.decision == OK and kept.part_id is None
    lost = Decision(Result.ERROR, Reason.PART_NOT_FOUND)
    assert found(reader(), blank, lost).decision == lost


def test_a_reading_that_takes_too_long_is_given_up() -> None:
    codes = reader(timeout_ms=1e-3)
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200), np.uint8)
    inspection = found(codes, noise)
    assert inspection.decision.reason is Reason.CODE_UNREADABLE
    assert "not read within" in inspection.detail


def test_a_decoder_that_hangs_holds_a_bounded_number_of_frames(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> CodeReading:
        begun.set()
        assert go_on.wait(60.0)
        return CodeReading("A-17")

    monkeypatch.setattr("edge.station.pipeline.code_reading.read_code", hang)
    codes = reader(timeout_ms=1.0)
    held = []
    for _ in range(10):
        pixels = good_image()
        held.append(weakref.ref(pixels))
        inspection = found(codes, pixels)
        assert inspection.decision.reason is Reason.CODE_UNREADABLE
        assert "code.region" in inspection.detail
        assert begun.wait(60.0)
        del pixels
    assert sum(one() is not None for one in held) == 2  # one is read, one waits

    go_on.set()
    end = time.monotonic() + 60.0
    while any(one() is not None for one in held):
        assert time.monotonic() < end
        time.sleep(0.01)
    monkeypatch.undo()
    codes = reader()
    for _ in range(4):  # a place is free again before its reading is known
        assert found(codes, with_code("B-4711", "qr")).part_id == "B-4711"


def test_the_verdict_has_the_code_as_part_id_also_where_a_mask_ignores_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bundle(tmp_path)
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "1.png"), with_code("B-4711", "datamatrix"))
    cv2.imwrite(str(tmp_path / "images" / "2.png"), with_code("B-4712", "qr"))
    label = "[[190, 50], [300, 50], [300, 160], [190, 160]]"
    (tmp_path / "mask.yaml").write_text(f"size: [480, 360]\nignore: [{label}]\n")
    settings = tmp_path / "station.yaml"
    settings.write_text(
        "camera: {uri: images}\nmodel: {path: part.xml}\n"
        "code: {kinds: [datamatrix], timeout_ms: 9000}\n"
        "decision: {mask: mask.yaml, image_threshold: 1.5}\n"
    )
    edge_run(["--config", str(settings), "--once"])
    read, unread = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (read["part_id"], read["result"]) == ("B-4711", "OK")
    assert unread["part_id"] is None
    assert (unread["result"], unread["reason_code"]) == ("ERROR", 24)
