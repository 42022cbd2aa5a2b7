"""The register table for people and for PLC projects, made of ``registers`` alone."""

import io
from collections.abc import Iterator
from enum import StrEnum
from xml.etree import ElementTree as ET

from edge.csv_table import write_rows
from edge.plc import registers as table
from edge.plc.registers import Bit, Register

# Names of PLC variables that stand for a block.
COMMAND_ARRAY, STATUS_ARRAY = "command", "status"
GLOBALS = "GVL_Inspection"
# As CODESYS V3 exports and imports it: the variables lie in a part of its own of the project.
_PLCOPEN = "http://www.plcopen.org/xml/tc6_0200"
_CODESYS_GLOBALS = "http://www.3s-software.com/plcopenxml/globalvars"
_XHTML = "http://www.w3.org/1999/xhtml"
# Not the moment of the export: the same table gives the same file.
_DATED = "2026-01-01T00:00:00"


class TableFormat(StrEnum):
    """What the table can be written as."""

    CSV = "csv"
    MARKDOWN = "markdown"
    PLCOPEN = "plcopen"


def register_table(form: TableFormat) -> str:
    """Return the whole table."""
    match form:
        case TableFormat.CSV:
            return _csv()
        case TableFormat.MARKDOWN:
            return _markdown()
        case TableFormat.PLCOPEN:
            return _plcopen()


def _csv() -> str:
    text = io.StringIO(newline="")
    write_rows(text, _csv_rows(), "\n")
    return text.getvalue()


def _csv_rows() -> Iterator[tuple[object, ...]]:
    yield ("area", "address", "count", "name", "type", "access", "meaning")
    for one in table.COMMAND:
        yield ("holding", one.address, one.kind.words, one.name, one.kind.value, "rw", one.meaning)
    for one in table.STATUS:
        yield ("input", one.address, one.kind.words, one.name, one.kind.value, "r", one.meaning)
    for one in table.STATUS:
        address = one.address + table.STATUS_IN_HOLDING
        yield ("holding", address, one.kind.words, one.name, one.kind.value, "r", one.meaning)
    for area, access, address, bit in _bit_rows():
        yield (area, address, 1, bit.name, "bit", access, bit.meaning)


def _bit_rows() -> Iterator[tuple[str, str, int, Bit]]:
    for word in table.COMMAND:
        for bit in word.bits:
            yield "coil", "rw", table.BITS_PER_WORD * word.address + bit.number, bit
    for word in table.STATUS:
        for bit in word.bits:
            yield "discrete input", "r", table.BITS_PER_WORD * word.address + bit.number, bit


def _markdown() -> str:
    return "\n".join(_markdown_lines()) + "\n"


def _markdown_lines() -> Iterator[str]:
    yield "The master writes holding registers 0 to " + f"{table.COMMAND_WORDS - 1}:"
    yield ""
    yield "| holding | name | type | meaning |"
    yield "|---|---|---|---|"
    for one in table.COMMAND:
        yield f"| {_span(one, 0)} | `{one.name}` | {one.kind.value} | {one.meaning} |"
    yield ""
    yield (
        f"The station writes input registers 0 to {table.STATUS_WORDS - 1}; the same as holding "
        f"registers from {table.STATUS_IN_HOLDING} on, which are read-only:"
    )
    yield ""
    yield "| input | holding | name | type | meaning |"
    yield "|---|---|---|---|---|"
    for one in table.STATUS:
        yield (
            f"| {_span(one, 0)} | {_span(one, table.STATUS_IN_HOLDING)} | `{one.name}` "
            f"| {one.kind.value} | {one.meaning} |"
        )
    yield ""
    yield "Bits, as bits of their word, as coils and as discrete inputs:"
    yield ""
    yield "| word | bit | coil or discrete input | name | meaning |"
    yield "|---|---|---|---|---|"
    for block, kind in ((table.COMMAND, "coil"), (table.STATUS, "input")):
        for word in block:
            for bit in word.bits:
                number = table.BITS_PER_WORD * word.address + bit.number
                yield (
                    f"| `{word.name}` | {bit.number} | {kind} {number} | `{bit.name}` "
                    f"| {bit.meaning} |"
                )
    for name, codes in table.CODES.items():
        yield ""
        yield f"| `{name}` | |"
        yield "|---|---|"
        for code, meaning in codes.items():
            yield f"| {code} | {meaning} |"


def _span(one: Register, base: int) -> str:
    first, last = base + one.address, base + one.end - 1
    return str(first) if first == last else f"{first}–{last}"


def _plcopen() -> str:
    """Return PLCopen XML (TC6 2.0) with one list of global variables, as CODESYS V3 imports it.

    Two arrays stand for the blocks, to be mapped to the channels of the Modbus device; constants
    say where in them each value lies.
    """
    project = ET.Element("project", {"xmlns": _PLCOPEN})
    ET.SubElement(
        project,
        "fileHeader",
        {
            "companyName": "",
            "productName": "inspection-station",
            "productVersion": "1",
            "creationDateTime": _DATED,
        },
    )
    header = ET.SubElement(project, "contentHeader", {"name": "inspection-station"})
    scales = ET.SubElement(header, "coordinateInfo")
    for language in ("fbd", "ld", "sfc"):
        ET.SubElement(ET.SubElement(scales, language), "scaling", {"x": "1", "y": "1"})
    types = ET.SubElement(project, "types")
    ET.SubElement(types, "dataTypes")
    ET.SubElement(types, "pous")
    ET.SubElement(ET.SubElement(project, "instances"), "configurations")
    data = ET.SubElement(
        ET.SubElement(project, "addData"),
        "data",
        {"name": _CODESYS_GLOBALS, "handleUnknown": "implementation"},
    )
    variables = ET.SubElement(data, "globalVars", {"name": GLOBALS})
    for name, words, meaning in (
        (COMMAND_ARRAY, table.COMMAND_WORDS, "Written to holding registers from 0 on."),
        (STATUS_ARRAY, table.STATUS_WORDS, "Read from input registers from 0 on, in one request."),
    ):
        kind = ET.SubElement(ET.SubElement(variables, "variable", {"name": name}), "type")
        array = ET.SubElement(kind, "array")
        ET.SubElement(array, "dimension", {"lower": "0", "upper": str(words - 1)})
        ET.SubElement(ET.SubElement(array, "baseType"), "WORD")
        _document(variables[-1], meaning)
    constants = ET.SubElement(data, "globalVars", {"name": f"{GLOBALS}_Table", "constant": "true"})
    for name, value, meaning in plc_constants():
        one = ET.SubElement(constants, "variable", {"name": name})
        ET.SubElement(ET.SubElement(one, "type"), "UINT")
        ET.SubElement(ET.SubElement(one, "initialValue"), "simpleValue", {"value": str(value)})
        _document(one, meaning)
    ET.indent(project)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(project, "unicode") + "\n"


def plc_constants() -> Iterator[tuple[str, int, str]]:
    """Yield name, value and meaning of what a PLC program needs of the table."""
    for prefix, block in (("CMD", table.COMMAND), ("STS", table.STATUS)):
        for one in block:
            yield f"{prefix}_{one.name.upper()}", one.address, f"{one.kind.value}: {one.meaning}"
        for one in block:
            for bit in one.bits:
                name = f"{prefix}_BIT_{bit.name.upper()}"
                yield name, bit.number, f"Bit of {one.name}: {bit.meaning}"
    for code, meaning in table.CODES["result"].items():
        yield f"RESULT_{meaning.upper()}", code, "Value of result."


def _document(variable: ET.Element, meaning: str) -> None:
    text = ET.SubElement(ET.SubElement(variable, "documentation"), "xhtml", {"xmlns": _XHTML})
    text.text = meaning.replace("`", "")
