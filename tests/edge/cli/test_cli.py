"""edge-run as its users run it: real processes, real files, a real broker."""

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.bundle.loading import manifest_sha256
from edge.cli.main import main
from edge.settings.overrides import Override, Overrides
from tests.edge.conftest import EdgeRun, edge_run_command
from tests.support.broker import GENEROUS_S, Broker, free_port
from tests.support.small_bundle import defective_image, good_image, write_bundle, write_images
from tests.support.warm_start import Closed


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three good parts and two with a spot."""
    return write_images(tmp_path / "frames", good=3, defective=2)


@pytest.fixture
def many_images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "many", good=200)


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that the test started; none outlives it."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def start(processes: list[subprocess.Popen[str]], *arguments: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        edge_run_command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    processes.append(process)
    return process


def read_rest(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Return what a process says until it ends.

    ``communicate`` would not give the lines that ``readline`` has read ahead.
    """
    assert process.stdout is not None and process.stderr is not None
    limit = threading.Timer(GENEROUS_S, process.kill)
    limit.start()
    rest, printed = process.stdout.read(), process.stderr.read()
    process.wait(GENEROUS_S)
    limit.cancel()
    return rest, printed


def verdicts(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def results(output: str) -> list[str]:
    return [verdict["result"] for verdict in verdicts(output)]


def test_each_image_gives_one_verdict_line(edge_run: EdgeRun, images: Path, bundle: Path) -> None:
    run = edge_run("--camera", images, "--model", bundle, "--once")

    assert run.returncode == 0
    assert results(run.stdout) == ["OK", "OK", "OK", "NOK", "NOK"]
    assert "5 parts: 3 OK, 2 NOK, 0 NOT_DECIDABLE, 0 ERROR; 0 frames skipped" in run.stderr
    assert all(verdict["simulated"] for verdict in verdicts(run.stdout))


def test_what_is_not_inspected_is_named_and_counted(
    edge_run: EdgeRun, images: Path, bundle: Path
) -> None:
    pages = [good_image(number) for number in range(4)]
    assert cv2.imwritemulti(str(images / "stack.tif"), pages)
    for name in ("notes.txt", "scan.gif", "more.txt", ".hidden"):
        (images / name).write_text("no image")
    (images / "inner").mkdir()
    (images / "gone.png").symlink_to("nowhere.png")

    run = edge_run("--camera", images, "--model", bundle, "--once")

    assert run.returncode == 0
    assert (
        f"{images}: not inspected: 1 hidden (.hidden), 1 link that leads nowhere (gone.png), "
        "1 folder (inner), 2 .txt (more.txt, notes.txt), 1 .gif (scan.gif)"
    ) in run.stderr
    assert (
        f"{images}/stack.tif: only its first image is inspected, without 3 further pages"
        in run.stderr
    )
    assert "6 parts: 4 OK, 2 NOK" in run.stderr
    assert (
        "not inspected: 2 .txt, 1 hidden, 1 link that leads nowhere, 1 folder, 1 .gif, "
        "3 further pages or frames in 1 file\n"
    ) in run.stderr


def test_overlays_are_written_and_their_folder_is_reported(
    edge_run: EdgeRun, images: Path, bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "overlays"

    run = edge_run("--camera", images, "--model", bundle, "--once", "--save", out)

    assert sorted(path.name for path in out.iterdir()) == [
        "000001_good_1_OK.jpg",
        "000002_good_2_OK.jpg",
        "000003_good_3_OK.jpg",
        "000004_spot_1_NOK.jpg",
        "000005_spot_2_NOK.jpg",
    ]
    assert f"5 overlays in {out}" in run.stderr


def test_strange_images_are_errors_and_the_run_goes_on(
    edge_run: EdgeRun, bundle: Path, tmp_path: Path
) -> None:
    good = good_image()
    folder = tmp_path / "strange"
    folder.mkdir()
    cv2.imwrite(str(folder / "1.png"), good)
    (folder / "2.png").write_bytes((folder / "1.png").read_bytes()[:300])
    cv2.imwrite(str(folder / "3.png"), good[:, :, 0])
    cv2.imwrite(str(folder / "4.png"), good.astype(np.uint16) * 200)
    cv2.imwrite(str(folder / "5.png"), np.dstack([good, good[:, :, 0]]))
    cv2.imwrite(str(folder / "6.png"), good[:1, :1])
    cv2.imwrite(str(folder / "7.png"), good * 0)
    cv2.imwrite(str(folder / "8.png"), defective_image())

    run = edge_run("--camera", folder, "--model", bundle, "--save", tmp_path / "out")

    assert run.returncode == 0
    assert results(run.stdout) == ["OK", *["ERROR"] * 6, "NOK"]
    assert len(list((tmp_path / "out").iterdir())) == 8
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("option", "value", "reported"),
    [
        ("--head", "3f0c", "64 hexadecimal digits"),
        ("--since", "yesterday", "write 2026-01-31T23:59"),
        ("-n", "many", "not a whole number"),
        ("--every", "-1", "not a number of seconds"),
    ],
)
def test_a_wrong_value_of_an_option_is_reported_in_plain_words(
    option: str, value: str, reported: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--journal", option, value])

    assert end.value.code == 2
    assert reported in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "reported"),
    [
        (["--camera", "{d}/none", "--model", "{b}"], 78, "no such file or folder"),
        (["--camera", "{d}/empty", "--model", "{b}"], 78, "holds no images"),
        (["--camera", "ftp://x", "--model", "{b}"], 78, "no camera has the scheme"),
        (["--camera", "/dev/video77", "--model", "{b}", "--once"], 69, "no such camera"),
        (["--camera", "{f}", "--model", "{d}/none.xml"], 78, "cannot be read"),
        (["--camera", "{f}"], 78, "--model BUNDLE.xml"),
        (["--model", "{b}"], 78, "--camera URI"),
        (["--camera", "{f}", "--model", "{b}", "--rate", "0"], 78, "camera.rate_fps"),
        (["--camera", "{f}", "--model", "{b}", "--mqtt", "http://x"], 78, "mqtt://HOST:PORT"),
        (["--camera", "{f}", "--model", "{b}", "--station", "a/b/c/d"], 78, "--mqtt URL"),
        (["--camera", "{f}", "--model", "{b}", "--save", "{b}"], 78, "cannot be written"),
        (["--camera", "{f}", "--model", "{b}", "--save", "/proc/x"], 78, "cannot be written"),
        (["--config", "{d}/none.yaml"], 78, "No such file"),
        (["--config", "{d}/typo.yaml"], 78, "Did you mean 'rate_fps'?"),
        (["--config", "{d}/broken.yaml"], 78, "not valid YAML"),
        (["--speed", "9"], 2, "unrecognized arguments"),
    ],
)
def test_a_mistake_is_reported_in_one_message_with_its_exit_code(
    edge_run: EdgeRun,
    images: Path,
    bundle: Path,
    tmp_path: Path,
    arguments: list[str],
    code: int,
    reported: str,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "typo.yaml").write_text("camera: {uri: x, rate_fsp: 1}\nmodel: {path: y}\n")
    (tmp_path / "broken.yaml").write_text("camera: [\n")

    run = edge_run(*(word.format(d=tmp_path, f=images, b=bundle) for word in arguments))

    assert run.returncode == code
    assert reported in run.stderr
    assert run.stderr.splitlines()[-1].startswith("edge-run: ")
    assert "Traceback" not in run.stderr
    assert run.stdout == ""


@pytest.mark.parametrize("suffix", [".xml", ".bin", ".json"])
def test_a_truncated_bundle_is_refused(
    edge_run: EdgeRun, images: Path, tmp_path: Path, suffix: str
) -> None:
    path = write_bundle(tmp_path)
    damaged = path.with_suffix(suffix)
    damaged.write_bytes(damaged.read_bytes()[:-1])

    run = edge_run("--camera", images, "--model", path)

    assert run.returncode == 78
    assert str(damaged) in run.stderr
    assert run.stdout == ""


def test_check_validates_and_opens_nothing(edge_run: EdgeRun, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    run = edge_run(
        *("--camera", f"watch://{tmp_path}/not-there", "--model", bundle, "--save", out),
        *("--check", "--mqtt", f"mqtt://127.0.0.1:{free_port()}", "--station", "a/b/c/d"),
    )

    assert run.returncode == 0
    assert f"{tmp_path}/not-there is not connected now; the station will wait for it" in run.stdout
    assert "vi/v1/a/b/c/d/verdict" in run.stdout
    assert not out.exists()


def test_check_prints_the_threshold_that_was_set_at_the_page(
    edge_run: EdgeRun, images: Path, bundle: Path, tmp_path: Path
) -> None:
    config = tmp_path / "station.yaml"
    config.write_text(
        f"camera: {{uri: {images}}}\nmodel: {{path: {bundle}}}\njournal: {{folder: journal}}\n"
    )
    before = edge_run("--config", config, "--check")
    sha256 = manifest_sha256(bundle)
    assert sha256 is not None
    (tmp_path / "journal").mkdir()
    Overrides.beside(tmp_path / "journal").write(
        Override(image_threshold=7.5, model_sha256=sha256, by="kim", utc="2026-11-23T00:00:00Z")
    )

    run = edge_run("--config", config, "--check")

    assert run.returncode == 0
    assert "threshold 7.5 (set at the page by kim at 2026-11-23T00:00:00Z; bundle's" in run.stdout
    # What the verdicts say, so that one can be compared with the other.
    assert run.stdout.splitlines()[-1] != before.stdout.splitlines()[-1]


def test_check_refuses_a_model_that_the_station_would_refuse(
    edge_run: EdgeRun, images: Path, bundle: Path, tmp_path: Path
) -> None:
    public = tmp_path / "release.pub.pem"
    subprocess.run(
        f"openssl genpkey -algorithm ed25519 | openssl pkey -pubout -out {public}",
        shell=True,
        check=True,
    )
    config = tmp_path / "station.yaml"
    config.write_text(
        f"camera: {{uri: {images}}}\nmodel: {{path: {bundle}, public_key: {public.name}}}\n"
    )

    run = edge_run("--config", config, "--check")

    assert run.returncode == 78
    assert "asks for signed bundles" in run.stderr


def test_check_leaves_to_systemd_what_systemd_gives(
    edge_run: EdgeRun, images: Path, bundle: Path, tmp_path: Path
) -> None:
    config = tmp_path / "station.yaml"
    config.write_text(
        f"camera: {{uri: {images}}}\nmodel: {{path: {bundle}}}\n"
        'mqtt: {url: "mqtt://broker", station: a/b/c/d, username: a/b/c/d,\n'
        '  password_file: "${CREDENTIALS_DIRECTORY}/mqtt-password"}\n'
    )

    run = edge_run("--config", config, "--check")

    assert run.returncode == 0, run.stderr
    assert "given by systemd" in run.stdout


def test_settings_of_the_file_decide(
    edge_run: EdgeRun, images: Path, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "station.yaml").write_text(
        f"camera: {{uri: {images}}}\nmodel: {{path: {bundle}}}\n"
        "decision: {image_threshold: 500, deadline_ms: 60000}\n"
    )

    run = edge_run("--config", tmp_path / "station.yaml", "--once")

    assert set(results(run.stdout)) == {"OK"}
    first = verdicts(run.stdout)[0]
    assert first["raw_threshold"] == 500
    assert first["deadline_met"] is True


def test_verdicts_reach_the_broker_and_all_are_acknowledged(
    edge_run: EdgeRun, images: Path, bundle: Path, running_broker: Broker
) -> None:
    run = edge_run(
        *("--camera", images, "--model", bundle, "--once"),
        *("--mqtt", running_broker.url, "--station", "plant/line/cap/top"),
    )

    assert run.returncode == 0
    assert run.stdout == ""
    received = running_broker.collect("plant/line/cap/top/verdict", lambda got: len(got) == 5)
    assert [verdict["result"] for verdict in received] == ["OK", "OK", "OK", "NOK", "NOK"]
    states = running_broker.collect("/state", lambda got: got[-1]["state"] == "stopped")
    assert [state["state"] for state in states][-2:] == ["online", "stopped"]
    assert {verdict["session"] for verdict in received} == {states[-1]["session"]}


def test_undelivered_verdicts_are_reported_and_the_run_does_not_succeed(
    edge_run: EdgeRun, images: Path, bundle: Path
) -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"

    run = edge_run("--camera", images, "--model", bundle, "--once", "--mqtt", url)

    assert run.returncode == 75
    assert "Nothing is lost: they wait in" in run.stderr
    assert "5 parts: 3 OK, 2 NOK" in run.stderr


def test_a_killed_station_is_offline_for_everybody(
    many_images: Path,
    bundle: Path,
    running_broker: Broker,
    processes: list[subprocess.Popen[str]],
) -> None:
    process = start(
        processes,
        *("--camera", many_images, "--model", bundle, "--rate", "20"),
        *("--mqtt", running_broker.url),
    )
    running_broker.collect("/verdict", lambda got: len(got) >= 3)
    process.kill()

    states = running_broker.collect("/state", lambda got: got[-1]["state"] == "offline")
    assert states[-1]["will"] is True
    assert states[-1]["session"] == states[-2]["session"]
    assert states[-2]["state"] == "online"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_in_order_with_every_verdict_delivered(
    many_images: Path,
    bundle: Path,
    tmp_path: Path,
    processes: list[subprocess.Popen[str]],
    how: signal.Signals,
) -> None:
    process = start(
        processes,
        *("--camera", many_images, "--model", bundle, "--rate", "50"),
        *("--save", tmp_path / "out"),
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(how)
    rest, printed = read_rest(process)

    assert process.returncode == 0
    count = len(verdicts(first + rest))
    assert f"edge-run: {count} parts: {count} OK" in printed
    assert len(list((tmp_path / "out").glob("*_OK.jpg"))) == count
    assert "Traceback" not in printed


def test_the_end_of_the_reader_is_a_clean_end(
    many_images: Path, bundle: Path, processes: list[subprocess.Popen[str]]
) -> None:
    process = start(processes, "--camera", many_images, "--model", bundle, "--rate", "100")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    printed = process.stderr.read()

    assert process.wait(GENEROUS_S) == 0
    assert "Traceback" not in printed and "BrokenPipe" not in printed


def test_a_full_disk_behind_standard_output_is_reported(images: Path, bundle: Path) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        run = subprocess.run(
            edge_run_command("--camera", images, "--model", bundle),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )

    assert run.returncode == 78
    assert "standard output: cannot be written" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_save_folder_that_vanishes_does_not_stop_the_line(
    many_images: Path,
    bundle: Path,
    tmp_path: Path,
    processes: list[subprocess.Popen[str]],
) -> None:
    out = tmp_path / "out"
    process = start(
        processes,
        *("--camera", many_images, "--model", bundle, "--rate", "200", "--save", out),
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    out.rename(tmp_path / "moved away")
    rest, printed = read_rest(process)

    assert process.returncode == 0
    assert len(verdicts(first + rest)) == 200
    assert printed.count("Inspection continues without overlays") == 1


def test_a_closed_standard_output_is_reported(images: Path, bundle: Path) -> None:
    run = subprocess.run(
        edge_run_command("--camera", images, "--model", bundle),
        preexec_fn=Closed(1),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert run.returncode == 78
    assert "standard output is closed" in run.stderr


def test_a_defect_ends_with_one_message_and_70(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("edge.settings.loading.load_settings", broken)

    assert main(["--camera", "x", "--model", "y"]) == 70
    printed = capsys.readouterr().err
    assert "edge-run: internal error: ZeroDivisionError: a defect (test_cli.py:" in printed
    assert "Traceback" not in printed


def test_help_names_every_option(edge_run: EdgeRun) -> None:
    run = edge_run("--help")

    assert run.returncode == 0
    inspecting = ("--camera", "--model", "--config", "--mqtt", "--station", "--save", "--show")
    looking = ("--check", "--doctor", "--list-cameras", "--capture", "--journal", "--tune")
    assert all(option in run.stdout for option in (*inspecting, *looking))


def test_the_journal_is_shown_written_as_csv_and_verified(
    edge_run: EdgeRun, images: Path, bundle: Path, tmp_path: Path
) -> None:
    journal, config, table = tmp_path / "journal", tmp_path / "station.yaml", tmp_path / "nok.csv"
    config.write_text(f"camera: {{uri: {images}}}\njournal: {{folder: {journal}}}\n")
    edge_run("--config", config, "--model", bundle, "--once")

    shown = edge_run("--journal", "--config", config, "-n", "2", "--kind", "verdict")
    written = edge_run("--journal", journal, "--csv", table, "--result", "NOK")
    later = edge_run("--journal", journal, "--since", "2200-01-01", "--csv", tmp_path / "none.csv")
    verified = edge_run("--journal", journal, "--verify")

    assert shown.returncode == written.returncode == later.returncode == verified.returncode == 0
    assert len(shown.stdout.splitlines()) == 3
    assert f"{table}: 2 rows" in written.stdout and "none.csv: 0 rows" in later.stdout
    assert "none is missing" in verified.stdout


def test_a_journal_that_is_nowhere_is_reported(edge_run: EdgeRun, tmp_path: Path) -> None:
    nowhere = edge_run("--journal")
    empty = edge_run("--journal", tmp_path)

    assert nowhere.returncode == 78 and "--journal DIR" in nowhere.stderr
    assert empty.returncode != 0 and "no journal exists" in empty.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        ["--doctor", "--check"],
        ["-n", "0"],
        ["--every", "-1"],
        ["--since", "yesterday"],
        ["--since", "2999-01-01"],
    ],
)
def test_options_that_make_no_sense_are_refused_with_the_usage(
    edge_run: EdgeRun, wrong: list[str]
) -> None:
    run = edge_run(*wrong)

    assert run.returncode == 2
    assert "usage: edge-run" in run.stderr
