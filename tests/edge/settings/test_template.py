"""Settings are described once, in their fields: template and schema are made of them."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from edge.bundle.input_spec import Crop
from edge.cli.main import main
from edge.ports.port import PortSettings
from edge.settings.camera import CameraSettings
from edge.settings.loading import load_settings
from edge.settings.model import ModelSettings
from edge.settings.station import Settings
from edge.settings.template import WIDTH, settings_schema, settings_template

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.mark.parametrize(
    ("option", "name"),
    [("--settings-template", "station.yaml"), ("--settings-schema", "station.schema.json")],
)
def test_the_files_in_configs_are_what_the_command_prints(
    option: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([option]) == 0
    assert capsys.readouterr().out == (CONFIGS / name).read_text(), (
        f"run edge-run {option} > configs/{name}"
    )


def sections(section: type[BaseModel] = Settings) -> dict[str, type[BaseModel]]:
    """Return every section by its keys, as ``code.recipe``, and the whole."""
    found: dict[str, type[BaseModel]] = {"": section} if section is Settings else {}
    for name, field in section.model_fields.items():
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel) and kind is not section:
                inner = {f"{name}.{key}": one for key, one in sections(kind).items()}
                found |= {name: kind} | inner
    return found


def test_every_key_is_described_once_and_is_in_the_template() -> None:
    text = settings_template()
    for name, section in sections().items():
        for key, field in section.model_fields.items():
            assert re.search(rf"\b{key}:", text), f"{name}.{key}"
            assert field.description or section is Crop, f"{name}.{key}"
    assert all(len(line) <= WIDTH for line in text.splitlines())


def test_the_module_of_a_section_is_called_like_the_section() -> None:
    for name, field in Settings.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        (section,) = (
            kind for kind in kinds if isinstance(kind, type) and hasattr(kind, "model_fields")
        )
        room = "ports" if issubclass(section, PortSettings) else "settings"
        assert section.__module__ == f"edge.{room}.{name}"


def test_the_template_as_it_is_holds_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "station.yaml"
    path.write_text(settings_template())
    found = load_settings(path)
    camera = CameraSettings(uri=str(tmp_path / "demo/frames"))
    model = ModelSettings(path=str(tmp_path / "demo/bottle.xml"))
    assert found == Settings(camera=camera, model=model)


def test_what_is_switched_off_in_the_template_is_valid_when_switched_on(tmp_path: Path) -> None:
    names = {key for section in sections().values() for key in section.model_fields}
    lines = []
    for line in settings_template().splitlines():
        for _ in range(3):  # a section that is off has sections that are off, and these keys
            key = re.match(r"(\s*)# ((?:\s|# )*)(\w+):(\s|$)", line)
            if key and key[3] in names:
                line = key[1] + line[key.end(1) + 2 :]
        lines.append(line)
    text = "\n".join(lines)
    # Certificates belong to what is encrypted.
    text = text.replace("url: mqtt:", "url: mqtts:").replace("demo/frames", "https://camera/", 1)
    # Registers belong to parts that are triggered.
    text = text.replace("mode: free_run", "mode: software", 1)
    # Registers are served here, or visited in a PLC.
    text = text.replace("host: 192.168.0.10 ", "# host: ", 1)
    # A delay is a time, or counts.
    text = text.replace("    delay_counts: 1200 ", "    # delay_counts: ", 1)
    path = tmp_path / "station.yaml"
    path.write_text(text)

    found = load_settings(path).model_dump()

    empty = [
        f"{name}.{key}" for name, keys in found.items() for key in keys if keys[key] in (None, [])
    ]
    assert empty == ["modbus.host"]
    jsonschema.validate(yaml.safe_load(text), json.loads(settings_schema()))


@pytest.mark.parametrize(
    ("section", "keys"),
    [
        ("camera", {"uri": 0, "colour": "red"}),
        ("decision", {"guard_band": 0.5}),
        ("journal", {"overflow": "forget"}),
        ("model", {}),
    ],
)
def test_an_editor_finds_with_the_schema_what_the_station_refuses(
    section: str, keys: dict[str, Any]
) -> None:
    schema = json.loads(settings_schema())
    good = {"camera": {"uri": 0}, "model": {"path": "b.xml"}}
    jsonschema.validate(good, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(good | {section: keys}, schema)
