"""edge-run --challenge as a quality engineer runs it: real bundle, images, journal, camera."""

import hashlib
import io
import json
import os
import pty
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml
from cryptography.hazmat.primitives import serialization

from edge.challenge.report import content_sha256
from edge.cli.main import main
from edge.journal.database import FILE_NAME
from edge.journal.entries import RecordKind
from edge.journal.open import open_journal
from edge.journal.query import newest_first
from edge.settings.layers import RecipeChoice
from edge.settings.overrides import Override, Overrides
from edge.station.model.releases import FILE_NAME as RELEASES
from tests.edge.conftest import EdgeRun, edge_run_command
from tests.support.gige_camera import GigECamera
from tests.support.small_bundle import IMAGE_THRESHOLD, defective_image, good_image, write_images

DEMO = Path(__file__).parents[3] / "configs" / "demo"
GENEROUS_S = 60.0

Study = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Three good parts and two with a spot."""
    folder = tmp_path / "parts"
    write_images(folder / "good", good=3)
    write_images(folder / "spot", good=0, defective=2)
    return folder


@pytest.fixture
def study(tmp_path: Path, bundle: Path) -> Study:
    """Run a study in this process; returns exit code and report, empty where there is none."""

    def run(folder: Path, *arguments: object) -> tuple[int, dict[str, Any]]:
        reports = tmp_path / "reports"
        shutil.rmtree(reports, ignore_errors=True)
        command = ["--challenge", folder, "--model", bundle, "--report", reports, *arguments]
        code = main([str(one) for one in command])
        found = list(reports.glob("challenge_*.json"))
        return code, json.loads(found[0].read_bytes()) if found else {}

    return run


def events(journal: Path) -> list[dict[str, Any]]:
    rows = newest_first(journal / FILE_NAME, RecordKind.EVENT)
    return [json.loads(row.payload) for row in rows]


def station_file(folder: Path, bundle: Path, **sections: Any) -> Path:
    path = folder / "station.yaml"
    settings = {
        "camera": {"uri": str(folder)},
        "model": {"path": str(bundle)},
        "journal": {"folder": str(folder / "journal")},
        **sections,
    }
    path.write_text(yaml.safe_dump(settings))
    return path


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Texts(HTMLParser):
    """The texts of a page, and the tags in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_demo_is_judged_acceptable_and_too_small_to_support_it(
    edge_run: EdgeRun, tmp_path: Path
) -> None:
    for image in sorted((DEMO / "frames").glob("*.jpg")):
        kind = image.stem[3:]
        (tmp_path / "parts" / kind).mkdir(parents=True, exist_ok=True)
        shutil.copy(image, tmp_path / "parts" / kind)

    run = edge_run(
        *("--challenge", tmp_path / "parts", "--model", DEMO / "bottle.xml"),
        *("--report", tmp_path / "new" / "reports", "--rounds", 2),
    )

    assert run.returncode == 0, run.stderr
    assert "acceptable, not supported by so few parts: effectiveness 100 %" in run.stdout
    assert "183 defective parts, all judged right, support at most 2 %; shown: 8" in run.stdout
    (path,) = (tmp_path / "new" / "reports").glob("challenge_*.json")
    report = json.loads(path.read_bytes())
    assert (report["good_parts"], report["defective_parts"], report["rounds"]) == (8, 8, 2)
    assert [one["judgement"] for one in report["criteria"]] == ["acceptable"] * 3
    # So few parts support nothing: the page is not green.
    assert 'class="judgement unsupported"' in path.with_suffix(".html").read_text()
    assert report["criteria"][1]["interval"] == pytest.approx([0.0, 0.3694], abs=5e-5)
    assert report["content_sha256"] == content_sha256(report)
    manifest = (DEMO / "bottle.json").read_bytes()
    assert report["model"]["sha256"] == hashlib.sha256(manifest).hexdigest()
    shown = Texts(path.with_suffix(".html").read_text("utf-8"))
    assert hashlib.sha256(path.read_bytes()).hexdigest() in shown.texts
    assert path.name in shown.texts and "This report is not signed." in shown.texts


def test_each_wrong_result_is_counted_where_it_belongs(
    parts: Path, study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(parts / "good" / "marked_good.png"), defective_image(7))
    cv2.imwrite(str(parts / "spot" / "invisible.png"), good_image(7))
    cv2.imwrite(str(parts / "spot" / "dark.png"), good_image(8) * 0)
    (parts / "spot" / "unreadable.png").write_bytes(b"\x89PNG\r\n\x1a\n")

    code, report = study(parts)

    assert code == 1
    assert report["judgement"] == "not_acceptable"
    effectiveness, missed, false = report["criteria"]
    assert (effectiveness["hits"], effectiveness["of"]) == (5, 9)
    assert (missed["hits"], missed["of"], missed["parts"]) == (3, 15, 5)
    assert (false["hits"], false["of"], false["parts"]) == (3, 12, 4)
    assert (report["errors"], report["not_decidable"]) == (6, 0)
    wrong = {part["part"] for part in report["parts"] if not part["right"]}
    files = ("good/marked_good.png", "spot/invisible.png", "spot/dark.png", "spot/unreadable.png")
    assert wrong == set(files)
    assert capsys.readouterr().out.count("part 9 of 9: spot/unreadable.png: ERROR: ") == 3


def test_scores_threshold_and_crop_are_those_of_the_line(
    parts: Path, study: Study, tmp_path: Path, bundle: Path, edge_run: EdgeRun
) -> None:
    config = station_file(
        tmp_path,
        bundle,
        decision={"image_threshold": 150.0, "guard_band": 0.1},
        camera={
            "uri": str(parts / "spot"),
            "crop": {"x": 0, "y": 0, "width": 150, "height": 110},
        },
    )
    code, report = study(parts, "--config", config)
    line = edge_run("--config", config, "--once")

    verdicts = [json.loads(text) for text in line.stdout.splitlines()]
    judged = [part["showings"][0] for part in report["parts"] if part["kind"] == "spot"]
    assert code == 1
    assert [one["raw_score"] for one in judged] == pytest.approx(
        [one["raw_score"] for one in verdicts], abs=1e-6
    )
    assert [one["result"] for one in judged] == [one["result"] for one in verdicts] == ["OK"] * 2
    assert [one["image_sha256"] for one in judged] == [one["image"]["sha256"] for one in verdicts]
    assert report["config_sha256"] == verdicts[0]["config_sha256"]
    assert report["decision"]["threshold"] == 150.0
    assert report["decision"]["crop"]["width"] == 150


def test_images_of_a_folder_are_the_showings_of_one_part(parts: Path, study: Study) -> None:
    (parts / "good" / "turned").mkdir()
    for number in (1, 2):
        cv2.imwrite(str(parts / "good" / "turned" / f"good_{number}.png"), good_image(20 + number))

    code, report = study(parts, "--rounds", 2)

    (turned,) = (part for part in report["parts"] if part["part"] == "good/turned")
    assert code == 0
    assert [one["image"] for one in turned["showings"]] == ["good_1.png", "good_2.png"]
    assert len({one["image_sha256"] for one in turned["showings"]}) == 2
    assert any("5 of 6 parts were shown by one image" in note for note in report["notes"])


def test_the_journal_keeps_a_passed_study_and_a_failed_one(
    parts: Path, study: Study, tmp_path: Path, bundle: Path
) -> None:
    config = station_file(tmp_path, bundle)
    study(parts, "--config", config)
    cv2.imwrite(str(parts / "spot" / "invisible.png"), good_image(7))
    code, report = study(parts, "--config", config)
    assert not (tmp_path / "journal" / RELEASES).exists()  # a studied release is not one in use

    failed, passed = events(tmp_path / "journal")
    assert code == 1
    assert (passed["kind"], passed["severity"]) == ("challenge_passed", "info")
    assert (failed["kind"], failed["severity"]) == ("challenge_failed", "alarm")
    assert failed["data"]["judgement"] == "not_acceptable"
    assert failed["data"]["miss_rate"] == pytest.approx(1 / 3)
    assert failed["data"]["model_sha256"] == report["model"]["sha256"]
    assert failed["data"]["decision_sha256"] == report["decision"]["sha256"]
    (path,) = (tmp_path / "reports").glob("*.json")
    assert failed["data"]["report"] == path.name
    assert failed["data"]["report_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_was_set_at_the_page_decides_here_too(
    parts: Path, study: Study, tmp_path: Path, bundle: Path
) -> None:
    config = station_file(tmp_path, bundle)
    sha256 = hashlib.sha256(bundle.with_suffix(".json").read_bytes()).hexdigest()
    (tmp_path / "journal").mkdir()
    Overrides.beside(tmp_path / "journal").write(
        Override(image_threshold=500.0, model_sha256=sha256, by="Kim", utc="2026-01-01")
    )
    code, report = study(parts, "--config", config)
    assert (code, report["decision"]["threshold"]) == (1, 500.0)
    assert report["criteria"][1]["value"] == 1.0


def test_the_chosen_recipe_is_studied_and_not_the_model_of_the_settings(
    parts: Path, study: Study, tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipes = tmp_path / "recipes"
    limits = tmp_path / "limits.yaml"
    limits.write_text("decision: {image_threshold: 500.0}")
    add = ["--recipe", "add", "flange", bundle, "--settings", limits, "--recipes", recipes]
    use = ["--recipe", "use", "flange@1", "--recipes", recipes]
    for command in (add, use):
        assert main([str(one) for one in command]) == 0
    config = station_file(tmp_path, bundle, recipe={"id": "own"}, recipes={"folder": str(recipes)})
    code, report = study(parts, "--config", config)
    assert (code, report["recipe"]["id"]) == (0, "own")

    RecipeChoice(tmp_path / "journal").keep("flange")
    code, report = study(parts, "--config", config)

    assert (code, report["decision"]["threshold"]) == (1, 500.0)
    assert report["recipe"] == {"id": "flange", "version": 1}
    assert "inspected: recipe flange, version 1" in capsys.readouterr().out


def test_a_running_station_is_named_before_the_study_begins(
    parts: Path, study: Study, tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = station_file(tmp_path, bundle)
    running = open_journal(tmp_path / "journal")
    try:
        code, report = study(parts, "--config", config)
    finally:
        running.close()
    printed = capsys.readouterr()
    assert (code, report) == (78, {})
    assert "stop the station" in printed.err and str(os.getpid()) in printed.err
    assert "round 1" not in printed.out


def test_report_and_page_are_signed_with_the_key(parts: Path, study: Study, tmp_path: Path) -> None:
    path, public = tmp_path / "release.pem", tmp_path / "release.pub.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", path)
    openssl("pkey", "-in", path, "-pubout", "-out", public)

    code, report = study(parts, "--key", path)

    assert code == 0
    for suffix in (".json", ".html"):
        (made,) = (tmp_path / "reports").glob(f"*{suffix}")
        files = ("-in", made, "-sigfile", f"{made}.sig")
        openssl("pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", public, *files)
    key = serialization.load_pem_public_key(public.read_bytes())
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    assert report["signature"]["key_sha256"] == hashlib.sha256(raw).hexdigest()
    assert not any("not signed" in note for note in report["notes"])


def test_a_key_that_others_can_read_is_refused_before_the_study(
    parts: Path, study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "release.pem").write_text("-----BEGIN PRIVATE KEY-----")
    (tmp_path / "release.pem").chmod(0o644)
    assert study(parts, "--key", tmp_path / "release.pem") == (78, {})
    assert "by others" in capsys.readouterr().err


def test_names_have_no_effect_in_the_page(parts: Path, study: Study, tmp_path: Path) -> None:
    (parts / "spot").rename(parts / "<script>alert(1)<")
    code, _ = study(parts)
    (page,) = (tmp_path / "reports").glob("*.html")
    shown = Texts(page.read_text("utf-8"))
    assert code == 0
    assert "script" not in shown.tags
    assert any(text == "<script>alert(1)<" for text in shown.texts)


def empty_good(parts: Path) -> None:
    shutil.rmtree(parts / "good")
    (parts / "good").mkdir()


def without_good(parts: Path) -> None:
    shutil.rmtree(parts / "good")


def without_defects(parts: Path) -> None:
    shutil.rmtree(parts / "spot")


def with_a_loose_image(parts: Path) -> None:
    write_images(parts, good=1)


def with_a_part_missing_in_a_round(parts: Path) -> None:
    write_images(parts / "spot" / "turned", good=0, defective=2)


def with_a_part_too_often(parts: Path) -> None:
    write_images(parts / "spot" / "turned", good=0, defective=4)


def with_a_good_part_as_a_defective_one(parts: Path) -> None:
    shutil.copy(parts / "good" / "good_1.png", parts / "spot" / "spot_3.png")


def with_good_parts_among_defective_ones(parts: Path) -> None:
    write_images(parts / "spot" / "ok", good=1)


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (shutil.rmtree, "cannot be listed"),
        (empty_good, "good: holds no images"),
        (without_good, "holds no images of good parts"),
        (without_defects, "holds no images of defective parts"),
        (with_a_loose_image, "good_1.png beside the folders"),
        (with_a_part_missing_in_a_round, "spot/turned: is missing in round 3"),
        (with_a_part_too_often, "spot/turned: has 4 images in its folder for 3 rounds"),
        (with_a_good_part_as_a_defective_one, "good/good_1.png and spot/spot_3.png have the same"),
        (with_good_parts_among_defective_ones, "good parts belong in"),
    ],
)
def test_a_folder_that_makes_no_study_is_refused_and_leaves_nothing(
    parts: Path,
    study: Study,
    tmp_path: Path,
    bundle: Path,
    fault: Callable[[Path], None],
    cause: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fault(parts)
    assert study(parts, "--config", station_file(tmp_path, bundle)) == (78, {})
    assert cause in capsys.readouterr().err
    journal = tmp_path / "journal"
    assert not journal.exists() or events(journal) == []


def test_parts_are_presented_at_a_terminal_to_a_camera_only(
    parts: Path,
    study: Study,
    tmp_path: Path,
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n" * 99))
    assert study(parts, "--present", "--camera", "gige://127.0.0.9") == (78, {})
    assert "standard input is not a terminal" in capsys.readouterr().err
    monkeypatch.undo()
    controller, terminal = pty.openpty()
    with os.fdopen(terminal) as answers, os.fdopen(controller):
        monkeypatch.setattr("sys.stdin", answers)
        assert study(parts, "--present", "--camera", parts / "good") == (78, {})
    assert "cannot be shown parts" in capsys.readouterr().err


def test_somebody_at_a_terminal_presents_every_part_to_the_camera(
    parts: Path, tmp_path: Path, bundle: Path
) -> None:
    """The camera shows the next part at each trigger, the third showing of the last one is bad."""
    shown = [good_image(n) for n in range(3)] + [defective_image(n) for n in range(2)]
    second = [good_image(10 + n) for n in range(3)] + [defective_image(10), good_image(11)]
    with GigECamera([*shown, *second]) as device:
        config = station_file(
            tmp_path,
            bundle,
            camera={
                "uri": device.uri,
                "trigger": {"mode": "software", "frame_timeout_ms": GENEROUS_S * 1e3},
                "supervision": {"max_age_ms": GENEROUS_S * 1e3},
            },
            mqtt={"url": "mqtt://127.0.0.1:1", "station": "plant1/line3/washer/cam1"},
        )
        controller, terminal = pty.openpty()
        command = edge_run_command(
            *("--challenge", parts, "--config", config, "--present", "--rounds", 2),
            *("--report", tmp_path / "reports"),
        )
        process = subprocess.Popen(
            command, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        os.close(terminal)
        asked = []
        assert process.stdout is not None
        for line in process.stdout:
            if "press Enter" in line:
                asked.append(line.strip())
                os.write(controller, b"\n")
        _, printed = process.communicate(timeout=GENEROUS_S)
        os.close(controller)

    assert process.returncode == 1, printed
    assert len(asked) == 10
    assert asked[-1].startswith("round 2 of 2, part 5 of 5: place spot/spot_2.png")
    (path,) = (tmp_path / "reports").glob("*.json")
    report = json.loads(path.read_bytes())
    assert (report["camera"], report["station"]) == (device.uri, "plant1/line3/washer/cam1")
    assert report["criteria"][1]["interval"] == pytest.approx([0.0, 0.9874], abs=5e-5)
    results = [[one["result"] for one in part["showings"]] for part in report["parts"]]
    assert results == [["OK", "OK"]] * 3 + [["NOK", "NOK"], ["NOK", "OK"]]
    (event,) = (one for one in events(tmp_path / "journal") if one["kind"].startswith("challenge"))
    assert (event["kind"], event["data"]["camera"]) == ("challenge_failed", True)


def test_a_study_that_is_broken_off_says_which_part_is_missing(
    parts: Path, tmp_path: Path, bundle: Path
) -> None:
    with GigECamera([good_image(0)]) as device:
        config = station_file(
            tmp_path,
            bundle,
            camera={"uri": device.uri, "trigger": {"mode": "software"}},
            mqtt={"url": "mqtt://127.0.0.1:1", "station": "plant1/line3/washer/cam1"},
        )
        controller, terminal = pty.openpty()
        process = subprocess.Popen(
            edge_run_command(
                *("--challenge", parts, "--config", config, "--present"),
                *("--report", tmp_path / "reports"),
            ),
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(terminal)
        assert process.stdout is not None
        any("press Enter" in line for line in process.stdout)
        os.write(controller, b"\x04")  # Ctrl-D
        _, printed = process.communicate(timeout=GENEROUS_S)
        os.close(controller)

    assert process.returncode == 65, printed
    assert "good/good_1.png was not presented (round 1 of 3, part 1 of 5)" in printed
    assert list((tmp_path / "reports").glob("*.json")) == []
    assert events(tmp_path / "journal") == []


def test_a_threshold_of_the_bundle_is_the_same_decision_wherever_it_is_written(
    parts: Path, study: Study, tmp_path: Path, bundle: Path
) -> None:
    _, one = study(parts)
    written = station_file(tmp_path, bundle, decision={"image_threshold": IMAGE_THRESHOLD})
    _, same = study(parts, "--config", written)
    changed = station_file(tmp_path, bundle, decision={"image_threshold": IMAGE_THRESHOLD + 1})
    _, other = study(parts, "--config", changed)
    assert one["decision"]["sha256"] == same["decision"]["sha256"] != other["decision"]["sha256"]
