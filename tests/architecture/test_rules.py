"""The rules of the house hold in the code, and each of them would be noticed if it did not."""

from pathlib import Path

import pytest

from tests.support.source_rules import (
    Module,
    all_faults,
    missing_modules,
    private_words,
    read_modules,
    sections_first,
)

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("rule", all_faults([]))
def test_a_rule_holds_in_the_code(rule: str, faults: dict[str, list[str]]) -> None:
    assert faults[rule] == []


def test_tests_and_tools_use_the_words_of_the_field_too(tests_and_tools: list[Module]) -> None:
    assert private_words(tests_and_tools) == []
    assert sections_first(tests_and_tools) == []


def test_every_module_that_is_imported_is_there(
    packages: list[Module], tests_and_tools: list[Module]
) -> None:
    assert missing_modules([*packages, *tests_and_tools]) == []


def test_an_import_of_a_module_that_is_gone_is_named(tmp_path: Path) -> None:
    (tmp_path / "edge").mkdir()
    (tmp_path / "edge" / "__init__.py").touch()
    (tmp_path / "edge" / "a.py").write_text(
        "import edge.a, os\nfrom edge import a\ndef f():\n    from edge.gone import b\n"
    )
    assert missing_modules(read_modules(tmp_path)) == ["edge/a.py:4: edge.gone"]


@pytest.fixture(scope="module")
def packages() -> list[Module]:
    modules = read_modules(ROOT)
    assert len(modules) > 300
    return modules


@pytest.fixture(scope="module")
def tests_and_tools() -> list[Module]:
    return read_modules(ROOT, ("tests", "tools"))


@pytest.fixture(scope="module")
def faults(packages: list[Module]) -> dict[str, list[str]]:
    return dict(all_faults(packages))


LONG = "class {name}:\n    def __init__(self, a, b, c, d, e): ...\n"
RECORD = (
    "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Row:\n"
    "    a: int\n    b: int\n    c: int\n    d: int\n    e: int = 0\n"
)


@pytest.mark.parametrize(
    ("rule", "files", "named"),
    [
        (
            "a count agrees with what is counted",
            {
                "edge/a.py": "import logging\nlog = logging.getLogger()\n"
                "def f(n):\n    log.info('%d images', n)\n"
            },
            "edge/a.py:4: {%d} images",
        ),
        (
            "no record reads the clock",
            {
                "edge/a.py": "import time\nfrom dataclasses import dataclass, field\n@dataclass\n"
                "class A:\n    since_s: float = field(default_factory=time.monotonic)\n"
            },
            "edge/a.py:5: time.monotonic",
        ),
        (
            "a count agrees with what is counted",
            {"edge/a.py": "def f(n):\n    return f'{n} good images look bad'\n"},
            "edge/a.py:2: {n} good images look bad",
        ),
        (
            "imports go downwards",
            {"edge/settings/a.py": "def late():\n    from edge.station import b\n"},
            "edge/settings/a.py:2: settings imports edge.station.b",
        ),
        (
            "imports go downwards",
            {"edge/mqtt/a.py": "import edge.cameras.interface\n"},
            "edge/mqtt/a.py:1: mqtt imports edge.cameras.interface",
        ),
        (
            "imports go downwards",
            {"edge/redaction.py": "from edge.imaging.frame import Frame\n"},
            "edge/redaction.py:1: redaction imports edge.imaging.frame.Frame",
        ),
        (
            "imports go downwards",
            {"edge/garage/a.py": "import os\n"},
            "edge/garage/a.py: the room 'garage' has no rank",
        ),
        (
            "training and export know nothing of the station",
            {"export/a.py": "from edge.station.model import trial\n"},
            "export/a.py:1: export imports edge.station.model.trial",
        ),
        (
            "training and export know nothing of the station",
            {"edge/imaging/a.py": "import training\n"},
            "edge/imaging/a.py:1: edge imports training",
        ),
        (
            "the page's process loads nothing of the station's end",
            {
                "edge/hmi/server/a.py": "from edge.hmi import between\n",
                "edge/hmi/between.py": "import edge.hmi.station_end.b\n",
                "edge/hmi/station_end/b.py": "",
            },
            "edge.hmi.station_end.b",
        ),
        (
            "the station never names the page",
            {"edge/station/a.py": "from edge.hmi.page import Page\n", "edge/hmi/page.py": ""},
            "edge.hmi.page",
        ),
        (
            "only app builds station and page",
            {"edge/doctor/a.py": "from edge.hmi.station_end.status import Sources\n"},
            "edge/doctor/a.py:1: edge.doctor.a imports edge.hmi.station_end.status.Sources",
        ),
        (
            "no circle of files",
            {
                "training/a.py": "from training.b import f\n",
                "training/b.py": "from training import c\n",
                "training/c.py": "import training.a\n",
            },
            "training.a → training.b → training.c → training.a",
        ),
        (
            "no lambda stands in for a part",
            {
                "edge/app/a.py": "class A:\n    def __init__(self):\n"
                "        g(lambda: self.b.run())\n        self.b = B()\n"
            },
            "edge/app/a.py:3: self.b",
        ),
        (
            "no lambda stands in for a part",
            {"edge/app/a.py": "def f():\n    g(lambda x: b.run(x))\n    b, c = B(), C()\n"},
            "edge/app/a.py:2: b",
        ),
        (
            "a docstring begins with a sentence",
            {"edge/app/a.py": 'class A:\n    """Attributes:\n    b: one.\n    """\n'},
            "edge/app/a.py:1: A",
        ),
        (
            "no public class name twice",
            {"edge/mqtt/a.py": "class Seen: ...\n", "training/b.py": "class Seen: ...\n"},
            "Seen: edge/mqtt/a.py, training/b.py",
        ),
        (
            "long constructors take names",
            {"edge/mqtt/a.py": LONG.format(name="Relay")},
            "edge/mqtt/a.py:1: Relay takes 5",
        ),
        (
            "long constructors take names",
            {"edge/mqtt/a.py": RECORD},
            "edge/mqtt/a.py:3: Row takes 5",
        ),
        (
            "long functions take names",
            {"export/a.py": "class Gate:\n    async def judge(self, a, b, c, d, e): ...\n"},
            "export/a.py:2: judge takes 5",
        ),
        (
            "long functions take names",
            {"edge/api/a.py": "@staticmethod\ndef load(a, b, c, d, e=None): ...\n"},
            "edge/api/a.py:2: load takes 5",
        ),
        (
            "an import in a function names the library it delays",
            {"training/a.py": "def late():\n    # slow\n    import torch\n    import numpy\n"},
            "training/a.py:3: import torch",
        ),
        (
            "the contract knows no I/O and no thread",
            {"edge/contract/a.py": "import threading\n"},
            "edge/contract/a.py:1: imports threading",
        ),
        (
            "the contract knows no I/O and no thread",
            {"edge/contract/a.py": "import os\nos.unlink('a')\n"},
            "edge/contract/a.py:2: os",
        ),
        (
            "the contract knows no I/O and no thread",
            {"edge/contract/a.py": "text = open('a').read()\n"},
            "edge/contract/a.py:1: open()",
        ),
        (
            "names are words of the field",
            {"edge/mqtt/a.py": "def tell_plc(): ...\n"},
            "edge/mqtt/a.py:1: tell_plc (use report, log, publish or notify)",
        ),
        (
            "names are words of the field",
            {"training/a.py": "MOST_PARTS = 3\n"},
            "training/a.py:1: MOST_PARTS (use MAX_ or MIN_)",
        ),
        (
            "names are words of the field",
            {"export/a.py": "class Port:\n    def on_end(self, said): ...\n"},
            "export/a.py:2: said (use report, log, publish or notify)",
        ),
        (
            "names are words of the field",
            {"edge/plc/a.py": "def note_edge(): ...\n"},
            "edge/plc/a.py:1: note_edge (use record or count)",
        ),
        (
            "names are words of the field",
            {"edge/plc/a.py": "def verdict_of(frame): ...\n"},
            "edge/plc/a.py:1: verdict_of (use make_x, read_x or find_x)",
        ),
        (
            "names are words of the field",
            {"edge/imaging/a.py": "for picture in range(3): ...\n"},
            "edge/imaging/a.py:1: picture (use image, or frame where a camera gave it)",
        ),
    ],
)
def test_what_breaks_a_rule_is_named(
    tmp_path: Path, rule: str, files: dict[str, str], named: str
) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    faults = all_faults(read_modules(tmp_path))
    assert faults[rule] == [named]


def test_what_keeps_the_rules_is_not_named(tmp_path: Path) -> None:
    files = {
        "edge/station/a.py": "from edge import errors\nimport edge\nedge.__version__\n",
        "edge/contract/b.py": "import os\nos.urandom(4)\n",
        "edge/mqtt/c.py": RECORD.replace("frozen=True", "frozen=True, kw_only=True"),
        "export/d.py": "def late():\n    # torch takes seconds to load.\n    import torch\n",
        "edge/imaging/f.py": "@kernel(())\ndef sums(a, b, c, d, e): ...\n",
        "edge/mqtt/g.py": "class Port:\n    def send(self, a, b, c, d, *, e): ...\n",
        "edge/mqtt/h.py": "def notice(one_of): ...\ndef test_it_is_kept_of(): ...\n",
        "training/e.py": "from edge.inspection.overlay import draw_overlay\n",
        "export/k.py": "import export.l\n",
        "export/l.py": "def late():\n    # torch\n    import export.k\n",
        "edge/app/i.py": "def f(self):\n    g(lambda b: self.c + b)\n    self.c = b = 1\n",
        "edge/app/j.py": 'def f(a):\n    """Return a.\n\n    Args:\n        a: one.\n    """\n',
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert not any(all_faults(read_modules(tmp_path)).values())
