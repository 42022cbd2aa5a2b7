"""The report of a study as an HTML page.

It is built as a tree of elements, whose writer escapes every text: Jinja2 would be one more package
on the inspection PC for one page.
"""

import json
from collections.abc import Sequence
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from edge.challenge.report import percent
from edge.wording import counted

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; width: 100%; }
th, td { border-bottom: 1px solid #bbb; padding: .25rem .6rem .25rem 0; text-align: left; }
td { overflow-wrap: break-word; vertical-align: top; }
td:first-child { min-width: 10rem; } td:nth-child(2) { min-width: 6rem; }
.judgement { border-left: .6rem solid; padding: .5rem 1rem; font-size: 1.3rem; }
.acceptable { border-color: #0a7d33; } .marginal { border-color: #b26b00; }
.not_acceptable { border-color: #b3001b; } .unsupported { border-color: #777; }
.wrong td { background: #fdecea; }
@media (max-width: 40rem) { table { display: block; overflow-x: auto; } }
@media print { body { margin: 0; } tr { break-inside: avoid; } }
"""
_NAMES = {
    "effectiveness": "Effectiveness: parts judged right in all rounds",
    "miss_rate": "Miss rate: showings of defective parts judged OK",
    "false_alarm_rate": "False-alarm rate: showings of good parts judged NOK",
}


def as_page(report: bytes, report_name: str, report_sha256: str) -> bytes:
    """Return the page of a report.

    Args:
        report: ``challenge/1`` as JSON: the page shows what it says and nothing else.
        report_name, report_sha256: of that file.
    """
    content = json.loads(report)
    html = Element("html", lang="en")
    head, body = SubElement(html, "head"), SubElement(html, "body")
    SubElement(head, "meta", charset="utf-8")
    SubElement(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    title = f"Capability study of {content['model']['name']}"
    _add(head, "title", title)
    _add(head, "style", _STYLE)
    _add(body, "h1", title)
    banner = _add(body, "p", _sentence(content["summary"]))
    colour = content["judgement"] if content["supported"] else "unsupported"
    banner.set("class", f"judgement {colour}")
    _criteria(body, content)
    _agreement(body, content)
    _add(body, "h2", "What this rests on")
    notes = SubElement(body, "ul")
    for note in content["notes"]:
        _add(notes, "li", note)
    wrong = [part for part in content["parts"] if not part["right"]]
    _add(body, "h2", "Parts not judged right in every round")
    if wrong:
        _parts(body, wrong)
    else:
        _add(body, "p", "None.")
    _add(body, "h2", "What inspected")
    _identity(body, content, report_name, report_sha256)
    _add(body, "h2", "Every part")
    _parts(body, content["parts"])
    indent(body)
    return b"<!DOCTYPE html>\n" + tostring(html, "utf-8", method="html") + b"\n"


def _criteria(body: Element, content: dict[str, Any]) -> None:
    rows = []
    for one in content["criteria"]:
        sign = "≥" if one["name"] == "effectiveness" else "≤"
        low, high = one["interval"]
        rows.append(
            (
                _NAMES[one["name"]],
                f"{percent(one['value'])} ({one['hits']} of {one['of']})",
                f"{percent(low)} to {percent(high)}",
                f"{sign} {percent(one['acceptable'])}",
                f"{sign} {percent(one['marginal'])}",
                one["judgement"].replace("_", " "),
                f"{'yes' if one['supported'] else 'no'}, {counted(one['parts'], 'part')}",
            )
        )
    confidence = percent(content["confidence"])
    heads = ("", "found", f"{confidence} interval", "acceptable", "marginal", "judged", "supported")
    _table(body, heads, rows)


def _agreement(body: Element, content: dict[str, Any]) -> None:
    own, reference = content["agreement_with_itself"], content["agreement_with_reference"]
    low, high = own["interval"]
    alike = (
        f"{percent(own['value'])} ({own['hits']} of {counted(own['of'], 'part')} in all rounds "
        "alike)"
    )
    rows = [
        ("with itself", alike, f"{percent(low)} to {percent(high)}", _kappa(own["fleiss_kappa"])),
        ("with the reference", "", "", _kappa(reference["cohen_kappa"])),
    ]
    _table(body, ("Agreement", "found", "interval", "kappa (Fleiss, Cohen)"), rows)
    counts = (
        f"{counted(content['not_decidable'], 'showing')} NOT_DECIDABLE, {content['errors']} ERROR."
    )
    _add(body, "p", counts)


def _parts(body: Element, parts: Sequence[dict[str, Any]]) -> None:
    rounds = len(parts[0]["showings"])
    heads = ("Part", "Kind", *(f"Round {turn}" for turn in range(1, rounds + 1)))
    rows = [
        (part["part"], part["kind"], *(_shown(one) for one in part["showings"])) for part in parts
    ]
    table = _table(body, heads, rows)
    for row, part in zip(table.findall("tbody/tr"), parts, strict=True):
        if not part["right"]:
            row.set("class", "wrong")


def _shown(one: dict[str, Any]) -> str:
    score = one["anomaly_score"]
    why = one["detail"] or one["reason"]
    return f"{one['result']} {score:.4f}" if score is not None else f"{one['result']}: {why}"


def _identity(body: Element, content: dict[str, Any], report_name: str, sha256: str) -> None:
    model, decision, signature = content["model"], content["decision"], content["signature"]
    recipe = content["recipe"]
    signed = f"{signature['file']} (ed25519, key {signature['key_sha256']})" if signature else "no"
    rows = [
        ("Station", content["station"] or "not named in the settings"),
        ("PC", content["host"]),
        ("Begun", content["begun_utc"]),
        ("Ended", content["ended_utc"]),
        ("Images", content["camera"] or "from files"),
        ("Reference parts", content["folder"]),
        ("Parts", f"{content['good_parts']} good, {content['defective_parts']} defective"),
        ("Rounds", str(content["rounds"])),
        ("Model", f"{model['name']} {model['version']}, {model['precision']} on {model['device']}"),
        ("Model SHA-256", model["sha256"]),
        ("Threshold", f"{decision['threshold']:g}, guard band {decision['guard_band']:g}"),
        ("Crop", json.dumps(decision["crop"]) if decision["crop"] else "none of the station's own"),
        ("Decision SHA-256", decision["sha256"]),
        ("Recipe", f"{recipe['id']} version {recipe['version']}" if recipe else "none"),
        ("Settings SHA-256", content["config_sha256"]),
        ("Software", f"{content['software']}, {model['runtime']}"),
        ("Report", report_name),
        ("Report SHA-256", sha256),
        ("Signed", signed),
    ]
    _table(body, (), rows)


def _table(body: Element, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Element:
    table = SubElement(body, "table")
    if heads:
        row = SubElement(SubElement(table, "thead"), "tr")
        for text in heads:
            _add(row, "th", text)
    filled = SubElement(table, "tbody")
    for cells in rows:
        row = SubElement(filled, "tr")
        for text in cells:
            _add(row, "td", text)
    return table


def _add(parent: Element, tag: str, text: str) -> Element:
    made = SubElement(parent, tag)
    made.text = text
    return made


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _kappa(kappa: dict[str, Any]) -> str:
    value = kappa["value"]
    return kappa["words"] if value is None else f"{value:.3f}: {kappa['words']}"
