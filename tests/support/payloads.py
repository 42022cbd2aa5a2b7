"""Checks payloads against the schemas that are shipped with the package."""

import json
from functools import cache
from importlib import resources
from typing import Any

import jsonschema_rs
from jsonschema import Draft202012Validator

from edge.contract.fleet import FLEET_ROOT
from edge.contract.topics import ROOT

_FILES = resources.files("edge.contract.schemas")


def schema_names() -> list[str]:
    """Return the names of all shipped schemas, for example ``verdict/1``."""
    stems = (file.name.removesuffix(".json") for file in _FILES.iterdir() if "json" in file.name)
    return sorted("/".join(stem.rsplit("-", 1)) for stem in stems)


def read_schema(name: str) -> dict[str, Any]:
    """Read a schema by the name that its payload carries in ``schema``."""
    text = _FILES.joinpath(name.replace("/", "-") + ".json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


@cache
def validator(schema: str) -> Draft202012Validator:
    """Return the validator of a schema, for example ``verdict/1``."""
    return Draft202012Validator(read_schema(schema))


@cache
def _quick_check(schema: str) -> tuple[jsonschema_rs.Draft202012Validator, dict[str, Any]]:
    """Return a validator of a schema that takes microseconds, and the schema."""
    content = read_schema(schema)
    return jsonschema_rs.Draft202012Validator(content), content


def check_payload(topic: str, content: dict[str, Any]) -> None:
    """Check one message as it was received: its schema is the topic's, and nothing is undocumented.

    Raises:
        ValidationError: it breaks its schema.
    """
    sent = {name: value for name, value in content.items() if not name.startswith("_")}
    suffix = "/".join(topic.removeprefix(ROOT).split("/")[5:])
    if topic.startswith(f"{FLEET_ROOT}/"):
        suffix = topic.removeprefix(f"{ROOT}/")
    expected = "response/1" if suffix.endswith("/res") else f"{suffix.replace('/', '-')}/1"
    expected = expected.replace("_", "-")
    if suffix.startswith(("cmd/", "trigger", "ack")) and expected != "response/1":
        return  # from tests to the station; what is wrong there is part of the test
    assert sent["schema"] == expected, f"{sent['schema']} on {topic}"
    quick, schema = _quick_check(expected)
    if not quick.is_valid(sent):
        validator(expected).validate(sent)  # names what is wrong
        raise AssertionError(f"{topic}: {sent} breaks {expected}")
    unknown = undocumented(sent, schema)
    assert not unknown, f"{topic}: {unknown} not in the schema"


def undocumented(content: Any, schema: dict[str, Any], path: str = "") -> list[str]:
    """Return the fields that a schema lets pass and does not describe."""
    if isinstance(content, list):
        items = schema.get("items") or {}
        return [name for one in content for name in undocumented(one, items or {}, path)]
    if not isinstance(content, dict):
        return []
    described, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    found = []
    for name, value in content.items():
        if name in described:
            found += undocumented(value, described[name], f"{path}{name}.")
        elif isinstance(others, dict):
            found += undocumented(value, others, f"{path}{name}.")
        else:
            found.append(path + name)
    return found
