"""No command reaches anything that its settings do not name, nor writes into the user's home.

Each runs in processes of its own under strace: in this one pytest switches some telemetry off.
"""

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import yaml
from paho.mqtt import publish
from safetensors.torch import save_file

from edge.bundle.input_spec import TileSpec
from edge.system.no_telemetry import ENVIRONMENT
from tests.edge.conftest import edge_run_command
from tests.support.broker import GENEROUS_S, Broker, free_port
from tests.support.network_trace import Traced, TracedProcess, mains, traced
from tests.support.page_station import ADDRESS, NO_TLS, wait_until
from tests.support.remote_io import RemoteIoModule
from tests.support.small_bundle import write_bundle, write_images
from tests.support.small_teacher import write_small_teacher
from tests.support.small_training import write_mvtec, write_weights
from training.components.backbones import build_backbone


def quiet(one: Traced) -> bool:
    """Tell whether a command did its work and reached nothing; its output goes into the failure."""
    assert one.code == 0, one.output
    return (one.reached, one.home) == (frozenset(), ())


def test_what_a_child_looks_up_connects_to_and_writes_is_seen(tmp_path: Path) -> None:
    child = (
        "import pathlib, socket\n"
        "(pathlib.Path.home() / 'id').write_text('1')\n"
        "try: socket.create_connection(('192.0.2.1', 80), 0.1)\n"
        "except OSError: socket.getaddrinfo('telemetry.example.com', 443)"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"

    seen = traced(tmp_path, sys.executable, "-c", parent)

    assert "192.0.2.1:80" in seen.reached
    assert any(one.endswith(":53") or "resolve" in one for one in seen.reached)
    assert seen.home == ("id",)


def test_a_station_with_every_port_its_listener_and_its_doctor_reach_what_they_name_alone(
    tmp_path: Path,
) -> None:
    images = write_images(tmp_path / "pictures", good=1, defective=1)
    config = tmp_path / "station.yaml"
    (tmp_path / "broker").mkdir()
    broker = Broker(tmp_path / "broker")
    settings = {
        "camera": {"uri": str(images), "loop": True, "trigger": {"mode": "software"}},
        "model": {"path": str(write_bundle(tmp_path))},
        "mqtt": {
            "url": broker.url,
            "station": "site/line/cell/top",
            "sparkplug": {"group": "plant", "node": "washer"},
        },
        "opcua": {"host": "127.0.0.1", "port": free_port()},
        "journal": {"folder": str(tmp_path / "journal")},
        "snapshots": {"folder": str(tmp_path / "snapshots")},
        "save": {"folder": str(tmp_path / "overlays")},
        "hmi": {"port": 0},
    }
    listen = f"--mqtt {broker.url} --csv {tmp_path / 'all.csv'}".split()
    doctor_command = mains(
        f"edge.cli.main --doctor --config {config}", f"edge.fleet.cli status --mqtt {broker.url}"
    )
    commands = {
        "listen": [sys.executable, "-m", "edge.listen.cli", *listen],
        "run": edge_run_command("--config", config),
    }
    with ExitStack() as stack:
        # A PLC whose registers the station visits, and a module of outputs.
        plc, module = (stack.enter_context(RemoteIoModule()) for _ in range(2))
        settings["modbus"] = {"plc": {"host": "127.0.0.1", "port": plc.port}, "leads": False}
        settings["outputs"] = {
            "module": {"host": "127.0.0.1", "port": module.port},
            "ready": {"device": "module", "line": 2},
        }
        config.write_text(yaml.safe_dump(settings))
        stack.callback(broker.close)
        broker.start()
        broker.subscribe()
        # Beside a station that runs already, the doctor leaves the broker to it.
        doctor = TracedProcess(tmp_path / "doctor", doctor_command, offline=False)
        stack.callback(doctor.kill)
        examined = doctor.result()
        started = {}
        for name, command in commands.items():
            started[name] = TracedProcess(tmp_path / name, command, offline=False)
            stack.callback(started[name].kill)
        broker.collect("/state", lambda seen: bool(seen) and seen[-1]["trigger_ready"] is True)
        trigger = json.dumps({"trigger_id": "t1", "part_id": "p1"})
        publish.single("vi/v1/site/line/cell/top/trigger", trigger, 1, port=broker.port)
        broker.collect("/verdict", lambda seen: len(seen) >= 1)
        wait_until(lambda: ADDRESS.search(started["run"].output) is not None, "the page")
        address = ADDRESS.findall(started["run"].output)[-1]
        patient: dict[str, Any] = {"timeout": GENEROUS_S, "verify": NO_TLS}
        wait_until(lambda: httpx.get(address, **patient).status_code == 200, "an answer")
        wait_until(lambda: "listening to" in started["listen"].output, "the listener")
        wait_until(lambda: "opc.tcp://" in started["run"].output, "OPC UA")
        wait_until(lambda: module.writes != [], "outputs")
        for name in ("run", "listen"):
            started[name].stop()
        ended = [examined, *(started[name].result() for name in ("run", "listen"))]

    ports = (plc.port, module.port)
    wanted: list[tuple[int, ...]] = [ports, ports, ()]
    for one, named in zip(ended, wanted, strict=True):
        reached = {f"127.0.0.1:{port}" for port in (broker.port, *named)}
        assert (one.code, set(one.reached), one.home) == (0, reached, ()), one
    assert "telemetry              no telemetry; checked openvino" in examined.output
    assert all(f"{name}={value}" in examined.output for name, value in ENVIRONMENT.items())


def test_the_other_commands_of_a_station_reach_nothing(tmp_path: Path) -> None:
    images = write_images(tmp_path / "pictures", good=2, defective=1)
    # Of a model with tiles the benchmark measures the latency alone.
    model = write_bundle(tmp_path, tile_plan=TileSpec(height=64, width=64, overlap=0.0))
    config = tmp_path / "station.yaml"
    settings = {
        "camera": {"uri": str(images)},
        "model": {"path": str(model)},
        "journal": {"folder": str(tmp_path / "journal")},
    }
    config.write_text(yaml.safe_dump(settings))
    recipes = tmp_path / "recipes"
    command = mains(
        f"edge.cli.main --check --config {config}",
        f"edge.cli.main --once --config {config}",
        f"edge.cli.main --capture {tmp_path / 'captured'} -n 2 --config {config}",
        f"edge.cli.main --journal --verify --config {config}",
        f"edge.cli.main --tune --config {config}",
        f"edge.cli.main --benchmark --config {config}",
        f"edge.cli.main --backup {tmp_path / 'station.backup'} --config {config}",
        f"edge.cli.main --teach nut --from {images} --teacher {write_small_teacher(tmp_path)}"
        f" --recipes {recipes} -n 3 --no-check-good --threads 1",
        f"edge.cli.main --recipe use nut@1 --recipes {recipes}",
        f"edge.cli.main --recipe export nut {tmp_path / 'nut.recipe'} --recipes {recipes}",
        f"edge.cli.main --recipe import {tmp_path / 'nut.recipe'} --recipes {tmp_path / 'other'}",
        # Not the whole minute, which a test of the tuning takes.
        before="from edge.station.model.tuning import tune; tune.__defaults__ = (0.1,)",
    )
    assert quiet(traced(tmp_path / "traced", *command))


def write_timm(folder: Path) -> Path:
    path = folder / "timm.safetensors"
    save_file(build_backbone("timm:test_resnet").state_dict(), path)
    return path


def test_training_and_export_reach_nothing(tmp_path: Path) -> None:
    data, weights = write_mvtec(tmp_path / "data"), write_weights(tmp_path / "w.safetensors")
    backbone = f"small --weights {weights} --image-size 64 --validate-on test"
    fit = f"--data {data} --backbone {backbone}"
    track = f"--track csv:{tmp_path / 'log.csv'} --track tensorboard:{tmp_path / 'board'}"
    path, trained = tmp_path / "part.safetensors", tmp_path / "trained.safetensors"
    bundle = tmp_path / "int8.xml"
    command = mains(
        # Converted below in half the time that others take.
        f"training.cli fit {fit} --algorithm dfm {track} -o {path}",
        f"training.cli fit {fit} --algorithm stfpm --set epochs=1 --no-report -o {trained}",
        f"training.cli test {path} --data {data} --report {tmp_path / 'test.html'}",
        f"training.cli predict {path} {data / 'test/good'} -o {tmp_path / 'heat'}",
        f"training.cli calibrate {path} --data {data} --validate-on test -o {trained}",
        f"training.cli benchmark --data {data} --backbones {backbone} -o {tmp_path / 'b.csv'}"
        " --set patchcore.bank_size=40",
        f"training.cli sweep {fit} --search bank_size=16|32 --trials 1 -o {tmp_path / 's.csv'}",
        # Its report needs the bundle in every precision.
        f"export.cli {path} --precision int8 --report --onnx -o {bundle}"
        " --max-auroc-drop 0.5 --max-verdict-flips 0.5",
        f"export.cli --verify {bundle}",
        f"training.cli fit {fit} --backbone timm:test_resnet --weights {write_timm(tmp_path)}"
        f" --set bank_size=40 --no-report -o {trained}",
        # In a process of its own the benchmark's fit shows what this one would do there.
        before="import training.sweep, training.measured_fit as trial; "
        "training.sweep.run_trial = trial.measure",
    )
    assert quiet(traced(tmp_path / "traced", *command))
    report = bundle.with_suffix(".report.md").read_text()
    assert all(precision in report for precision in ("fp32", "fp16", "int8-weights", "int8"))
