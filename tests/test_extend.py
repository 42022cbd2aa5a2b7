"""What docs/extend.md shows is what the code has."""

import re
from pathlib import Path
from typing import Any

import pytest

import edge
from edge.cameras.interface import Camera, EndOfFrames

ROOT = Path(__file__).parents[1]


def test_the_worked_port_is_one_short_file_and_two_lines() -> None:
    guide = (ROOT / "docs" / "extend.md").read_text("utf-8")
    (lines,) = re.findall(r"in edge/settings/station.py -->\n```python\n(.*?)```", guide, re.DOTALL)
    settings = (ROOT / "edge" / "settings" / "station.py").read_text("utf-8").splitlines()
    assert lines.splitlines() == [line for line in settings if "FileDrop" in line]
    port = (ROOT / "edge" / "ports" / "file_drop.py").read_text("utf-8").splitlines()
    assert len(port) <= 150
    others = [
        path
        for path in (ROOT / "edge").rglob("*.py")
        if re.search("FileDrop|file_drop", path.read_text("utf-8"))
    ]
    assert sorted(path.name for path in others) == ["file_drop.py", "station.py"]


def test_the_worked_camera_gives_frames_that_are_inspected() -> None:
    guide = (ROOT / "docs" / "extend.md").read_text("utf-8")
    (code,) = re.findall(r"test: camera -->\n```python\n(.*?)```", guide, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, "extend.md", "exec"), names)
    camera: Camera = names["GreyCamera"]("grey", 1)
    model = edge.load_model(ROOT / "configs" / "demo" / "bottle.xml")

    frame = camera.read(1.0)

    assert frame is not None
    assert model.inspect(frame.pixels).decision.result is not edge.Result.OK
    with pytest.raises(EndOfFrames):
        camera.read(1.0)
