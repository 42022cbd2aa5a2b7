"""Every command and code block of README and docs is run, or at least read by what would run it."""

import argparse
import configparser
import importlib.util
import itertools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

import edge.cli.main
import edge.cli.options
import edge.cli.sign
import edge.fleet.cli
import edge.listen.cli
import export.cli
import training.cli
from edge.bundle.mask_file import read_mask_file
from edge.fleet.plan import read_plan
from edge.listen.part_settings import read_part_settings
from edge.settings.loading import load_settings
from tests.support.code_blocks import (
    OUR_PROGRAMS,
    ROOT,
    Block,
    Command,
    blocks,
    inline_commands,
    shell_commands,
)
from tests.support.payloads import validator
from tests.support.small_training import write_folder, write_weights
from training.data.rendered import ImageCounts
from training.tilted_demo import write_tilted_dataset

Parser = Callable[[], argparse.ArgumentParser]
PARSERS: dict[str, Parser] = {
    "edge-run": edge.cli.options.parser,
    "edge-listen": edge.listen.cli._parser,
    "edge-fleet": edge.fleet.cli._parser,
    "edge-sign": edge.cli.sign._parser,
    "train-station": training.cli._parser,
    "export-model": export.cli._parser,
}
MAINS: dict[str, Callable[[list[str]], int]] = {
    "edge-run": edge.cli.main.main,
    "edge-sign": edge.cli.sign.main,
    "train-station": training.cli.main,
    "export-model": export.cli.main,
}

# What cannot be run where the tests run, each with its reason. Blocks of these languages:
NOT_RUN_LANGUAGES = {
    "ini": "a package of its own; tests/training/test_plug_ins.py installs its entry point",
    "js": "a module of the page; tests/edge/hmi/test_hmi_browser.py loads it",
    "html": "a tile of the page; the same test shows it",
    "text": "output, or a drawing of folders",
    "nginx": "no nginx here; tests/support/reverse_proxy.py does what this configuration says",
}
# Commands of others:
NOT_RUN_PROGRAMS = {
    "apt": "changes the system's packages",
    "cp": "copies into /etc",
    "createdb": "needs a PostgreSQL; tests/support/postgres.py makes databases in one",
    "createuser": "needs a PostgreSQL; tests/support/postgres.py runs one",
    "git": "needs the history, which a release does not have",
    "ln": "changes /opt",
    "mosquitto": "serves until it is ended; tests/support/broker.py starts it",
    "mosquitto_pub": "needs a station that runs; tests/edge/station/test_handshake.py publishes it",
    "mosquitto_sub": "listens until it is ended; tests/edge/system/test_mqtt.py does",
    "mv": "changes /opt",
    "pre-commit": "changes the hooks of this clone; tests/test_release.py runs the hooks",
    "psql": "needs a PostgreSQL; tests/edge/listen/test_database.py asks each view in one",
    "sqlite3": "needs the database of a listener; tests/edge/listen queries it",
    "systemctl": "no systemd is started by tests; tests/edge/system/test_systemd.py reads the unit",
    ".": "reads a file of the shell",
}
# Commands of ours that are only parsed:
NOT_RUN_HERE = {
    "edge-fleet": "needs stations that run; tests/edge/fleet runs each of them",
    "edge-listen": "listens until it is ended; tests/edge/listen runs it",
    r"edge-run (?!.*--(journal|check|list-cameras|challenge|backup|restore))": (
        "runs until it is ended, or needs camera and broker; tests/edge/cli and make demo run it"
    ),
    "edge-run .*--config /etc/": "a file of the service",
    "edge-run .*--head": "a head that a listener has kept; tests/edge/journal compares it",
    "export-model .*--from-anomalib": "a model of others; tests/export/test_anomalib.py imports it",
    "export-model --teacher": "converts for ten seconds; tests/export/test_teacher.py does",
    "export-model .*--recipes": "a folder of a station; test_recipe_version.py exports into one",
    "export-model .*--report": "makes every precision; tests/export/test_every_precision.py does",
    "train-station .*(mvtec/bottle|--data casting)": "a data set that is not ours to hand on",
    "export-model casting": "belongs to that data set",
    "train-station fit .*recipes/flange": (
        "a recipe that a station taught; tests/training/test_data_sets.py opens one"
    ),
    "train-station test padim": "belongs to that data set",
    "train-station benchmark": "takes an hour; tests/training/test_benchmark.py runs a small one",
}
# Documents whose Python blocks are one program.
RUN_ELSEWHERE = {
    "docs/api.md": "tests/test_api.py runs it as one program",
    "docs/modbus.md": "tests/edge/plc/test_modbus.py runs it beside a station",
    "docs/opcua.md": "tests/edge/plc/test_opcua.py runs it beside the demo",
    "docs/sparkplug.md": "tests/edge/mqtt/test_sparkplug_station.py runs it beside an edge node",
    "docs/extend.md": "tests/test_extend.py, test_plug_ins.py and test_hmi_browser.py run it",
}
# Python blocks, by a name in them.
NOT_RUN_PYTHON = {
    "manifest.seen_images": "the reader's image and manifest; tests/export/test_int8.py runs it",
    "with_far_flips": "takes minutes; tests/export/test_accuracy_gate.py holds its bounds",
}
# What a fit downloads, or takes minutes for, is small here.
STAND_INS = {"resnet18": "small", "download": "small.safetensors", "256": "64", "int8": "fp32"}

BLOCKS = blocks()
SHELL = [command for block in BLOCKS if block.language == "sh" for command in shell_commands(block)]


def blocks_in(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


def reason_not_to_run(command: Command) -> str | None:
    line = " ".join((command.program, *command.arguments))
    return next((why for what, why in NOT_RUN_HERE.items() if re.match(what, line)), None)


def parsed(command: Command) -> argparse.Namespace:
    try:
        return PARSERS[command.program]().parse_args(list(command.arguments))
    except SystemExit as error:
        raise AssertionError(f"{command}: {command.program} does not take this") from error


def test_every_block_says_its_language_and_is_checked_by_a_test_or_says_why_not() -> None:
    checked = {"sh", "json", "yaml", "python", *NOT_RUN_LANGUAGES}
    assert [str(block) for block in BLOCKS if block.language not in checked] == []


@pytest.mark.parametrize("command", SHELL, ids=str)
def test_every_command_of_a_block_is_one_that_its_program_takes(command: Command) -> None:
    match command.program, command.arguments:
        case program, _ if program in OUR_PROGRAMS:
            parsed(command)
        case "make", targets:
            subprocess.run(["make", "-n", *targets], cwd=ROOT, check=True, capture_output=True)
        case (("python" | "python3"), ("-m", module, *rest)):
            assert importlib.util.find_spec(module), module
            assert module != "pytest" or all((ROOT / path).exists() for path in rest)
        case (("pip"), ("install", *arguments)):
            check_installation(arguments)
        case "openssl", _:
            pass  # is run below
        case script, options if script.startswith("systemd/"):
            text = (ROOT / script).read_text()
            assert all(option in text for option in options)
        case program, _:
            assert program in NOT_RUN_PROGRAMS, f"{command}: run it, or say why not"


def check_installation(arguments: list[str]) -> None:
    """Check that the files and extras exist that pip is told to install."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    extras = set(settings["options.extras_require"])
    for option, value in itertools.pairwise(arguments):
        if option in ("--constraint", "--requirement"):
            assert (ROOT / value).exists(), value
    for argument in arguments:
        if named := re.fullmatch(r"\.\[(.*)\]", argument):
            assert set(named[1].split(",")) <= extras, argument


@pytest.mark.parametrize("command", list(inline_commands()), ids=str)
def test_every_option_that_the_text_names_is_one_of_its_program(command: Command) -> None:
    parser = PARSERS[command.program]()
    known = {option for action in parser._actions for option in action.option_strings}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            verb = command.arguments[0]
            assert verb in action.choices, verb
            known |= {o for a in action.choices[verb]._actions for o in a.option_strings}

    named = {word for word in command.arguments if re.match(r"--?[a-z]", word)}
    assert named <= known, named - known


def test_every_target_and_module_that_the_text_names_exists() -> None:
    commands = list(inline_commands(("make", "python -m", ".venv/bin/python -m")))
    named = [word for one in commands if one.program == "make" for word in one.arguments]
    targets = sorted({word for word in named if "=" not in word})
    modules = {command.arguments[1] for command in commands if command.program == "python"}
    assert len(targets) > 10 and len(modules) > 10
    subprocess.run(["make", "-n", *targets], cwd=ROOT, check=True, capture_output=True)
    assert [name for name in modules if not importlib.util.find_spec(name)] == []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the documents name: images, weights, a station with a short journal."""
    folder = tmp_path_factory.mktemp("site")
    write_folder(folder / "images" / "bottle", good=14, defective=4)
    write_folder(folder / "images" / "new", good=8, defective=2)
    write_tilted_dataset(
        folder / "tilted", ImageCounts(train_good=12, test_good=0, test_defective=0)
    )
    write_weights(folder / "small.safetensors")
    demo = ROOT / "configs" / "demo"
    for image in ("00_good", "01_good", "02_scratch"):
        kind = folder / "reference" / image[3:]
        kind.mkdir(parents=True, exist_ok=True)
        shutil.copy(demo / "frames" / f"{image}.jpg", kind)
    settings = {
        "camera": {"uri": str(demo / "frames")},
        "model": {"path": "model/bottle.xml"},
        "journal": {"folder": "journal"},
    }
    part = {"decision": {"guard_band": 0.05}, "image": {"min_mean": 20}}
    (folder / "guard-band.yaml").write_text(yaml.safe_dump(part))
    for name in ("model", "new-pc"):
        (folder / name).mkdir()
    for file in demo.glob("bottle.*"):
        shutil.copy(file, folder / "model")
    (folder / "station.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "edge.cli.main", "--config", "station.yaml", "--once"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def inside(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(site)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    yield site


def test_commands_that_end_by_themselves_end_well_in_the_order_of_the_documents(
    inside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run: set[tuple[str, ...]] = set()
    for command in SHELL:
        if command.program == "openssl":
            assert shutil.which("openssl")
            subprocess.run(["openssl", *command.arguments], check=True, capture_output=True)
            continue
        if command.program not in MAINS or reason_not_to_run(command):
            continue
        arguments = [STAND_INS.get(word, word) for word in command.arguments]
        if arguments[0] == "fit":
            arguments += ["--set", "bank_size=40"]
        if (command.program, *arguments) in run:
            continue
        run.add((command.program, *arguments))
        status = MAINS[command.program](arguments)
        assert status == 0, f"{command}: {status}\n{capsys.readouterr().err}"
    assert {command[0] for command in run} == set(MAINS)


@cache  # asked several times as tests are collected
def keys(block: Block) -> frozenset[str]:
    """Return what stands at the top of a block of YAML."""
    return frozenset(yaml.safe_load(block.text))


def is_mask(block: Block) -> bool:
    return {"ignore", "zones"} <= keys(block)


@pytest.mark.parametrize("block", [b for b in blocks_in("yaml") if is_mask(b)], ids=str)
def test_every_mask_block_is_a_mask(block: Block, tmp_path: Path) -> None:
    content = yaml.safe_load(block.text)
    width, height = content["size"]
    painted = np.zeros((height, width), np.uint8)
    painted[:9, :9] = 255
    assert cv2.imwrite(str(tmp_path / content["painted"]), painted)
    (tmp_path / "mask.yaml").write_text(block.text)

    found = read_mask_file(tmp_path / "mask.yaml")

    assert (len(found.ignore), len(found.zones)) == (len(content["ignore"]), len(content["zones"]))


def is_plan(block: Block) -> bool:
    return {"stations", "address"} <= keys(block)


@pytest.mark.parametrize("block", [b for b in blocks_in("yaml") if is_plan(b)], ids=str)
def test_every_plan_block_is_a_plan(block: Block, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(block.text)
    assert read_plan(tmp_path / "plan.yaml").stations


def is_part(block: Block) -> bool:
    return "part" in keys(block)


@pytest.mark.parametrize("block", [b for b in blocks_in("yaml") if is_part(b)], ids=str)
def test_every_part_block_is_taken_by_the_listener(block: Block, tmp_path: Path) -> None:
    (tmp_path / "part.yaml").write_text(block.text)
    assert read_part_settings(tmp_path / "part.yaml", "+/+/+/+").views


@pytest.mark.parametrize(
    "block",
    [b for b in blocks_in("yaml") if not (is_mask(b) or is_part(b) or is_plan(b))],
    ids=str,
)
def test_every_settings_block_is_taken_by_the_settings_models(block: Block, tmp_path: Path) -> None:
    content = yaml.safe_load(block.text)
    content.setdefault("camera", {"uri": "images"})
    content.setdefault("model", {"path": "bottle.xml"})
    (tmp_path / "station.yaml").write_text(yaml.safe_dump(content))

    load_settings(tmp_path / "station.yaml")


@pytest.mark.parametrize("block", blocks_in("json"), ids=str)
def test_every_message_is_one_of_its_schema(block: Block) -> None:
    content = json.loads(block.text)
    topic = block.title.partition(" ")[0].replace("/", "-").replace("_", "-")
    validator(content.get("schema", f"{topic}/1")).validate(content)


@pytest.mark.parametrize(
    "block",
    [
        b
        for b in blocks_in("python")
        if b.document not in RUN_ELSEWHERE and not any(name in b.text for name in NOT_RUN_PYTHON)
    ],
    ids=str,
)
def test_every_python_block_runs(
    block: Block, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    exec(compile(block.text, str(block), "exec"), {"__name__": str(block)})
    assert "Traceback" not in capsys.readouterr().err
