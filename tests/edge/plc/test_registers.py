"""The register table: in the documents as in the code, and importable."""

import csv
import io
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from edge.plc import registers as table
from edge.plc.register_exports import TableFormat, plc_constants, register_table
from edge.plc.registers import Kind, Order
from tests.edge.conftest import edge_run_command

ROOT = Path(__file__).parents[3]
SPACE = {"p": "http://www.plcopen.org/xml/tc6_0200"}


def test_the_document_holds_the_table_that_the_command_prints() -> None:
    text = (ROOT / "docs" / "modbus.md").read_text("utf-8")
    begin, end = "(edge-run --modbus-table markdown) -->\n", "<!-- modbus table: end"
    assert text.partition(begin)[2].partition(end)[0].strip() == (
        register_table(TableFormat.MARKDOWN).strip()
    )


def test_blocks_have_no_gap_and_no_overlap_and_names_are_unique() -> None:
    for block in (table.COMMAND, table.STATUS):
        assert [one.address for one in block] == [0, *(one.end for one in block[:-1])]
        assert len({one.name for one in block}) == len(block)
    assert table.COMMAND_WORDS < table.STATUS_IN_HOLDING
    assert table.STATUS_WORDS <= 125  # of one request
    names = [bit.name for word in (*table.COMMAND, *table.STATUS) for bit in word.bits]
    assert len(set(names)) == len(names)


def test_the_csv_names_each_register_and_bit_with_its_address() -> None:
    printed = subprocess.run(
        edge_run_command("--modbus-table", "csv"), capture_output=True, text=True, check=True
    ).stdout
    rows = {(row["area"], row["name"]): row for row in csv.DictReader(io.StringIO(printed))}
    assert (rows["holding", "part_id"]["address"], rows["holding", "part_id"]["count"]) == (
        "6",
        "16",
    )
    assert rows["holding", "seq"]["address"] == "114" and rows["holding", "seq"]["access"] == "r"
    assert rows["input", "seq"]["address"] == "14"
    assert rows["discrete input", "camera_missing"]["address"] == "16"
    assert rows["coil", "ack"]["address"] == "1"


def test_the_plcopen_file_declares_both_blocks_and_every_address() -> None:
    root = ET.fromstring(register_table(TableFormat.PLCOPEN))
    lists = {one.get("name"): one for one in root.iterfind(".//p:globalVars", SPACE)}
    arrays = {
        one.get("name"): one.find(".//p:dimension", SPACE)
        for one in lists["GVL_Inspection"].iterfind("p:variable", SPACE)
    }
    upper = {name: found.get("upper") for name, found in arrays.items() if found is not None}
    assert upper == {"command": "21", "status": "33"}
    constants = {
        one.get("name"): one.find(".//p:simpleValue", SPACE)
        for one in lists["GVL_Inspection_Table"].iterfind("p:variable", SPACE)
    }
    values = {name: one.get("value") for name, one in constants.items() if one is not None}
    assert values == {name: str(value) for name, value, _ in plc_constants()}
    assert values["STS_SEQ"] == "14" and values["CMD_BIT_ACK"] == "1"


@pytest.mark.parametrize(
    ("order", "number", "text"),
    [
        (Order(), [0x0102, 0x0304], [0x4142, 0x4300]),
        (Order(low_word_first=True), [0x0304, 0x0102], [0x4142, 0x4300]),
        (Order(swap_bytes=True), [0x0201, 0x0403], [0x4241, 0x0043]),
        (Order(low_word_first=True, swap_bytes=True), [0x0403, 0x0201], [0x4241, 0x0043]),
    ],
)
def test_values_lie_in_registers_in_the_order_that_is_set(
    order: Order, number: list[int], text: list[int]
) -> None:
    assert table.encoded(0x01020304, Kind.UINT32, order) == number
    assert table.decoded_number(number, Kind.UINT32, order) == 0x01020304
    words = table.encoded(b"ABC", Kind.TEXT, order)
    assert words[:2] == text and not any(words[2:])
    assert table.decoded_text(words, order) == "ABC"
    negative = table.encoded(-5, Kind.INT32, order)
    assert table.decoded_number(negative, Kind.INT32, order) == -5


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"a\x07b", "Teil ä".encode("latin-1")])
def test_what_is_no_text_is_none(raw: bytes) -> None:
    assert table.decoded_text(table.encoded(raw, Kind.TEXT, Order()), Order()) is None
