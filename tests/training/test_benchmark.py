"""Benchmarks as real processes on one study: shared, killed, taken up again."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from tests.support.small_training import defective_image, good_image, write, write_mvtec
from training.benchmark import COLUMNS, make_key, make_place, plan, unique_names
from training.checkpoint import load_checkpoint
from training.cli import main
from training.config import FitConfig
from training.errors import SettingError, TrialFailed
from training.measured_fit import run_trial
from training.studies import StudyPlace, enqueue, open_study, work_off

USAGE, UNAVAILABLE, FAILED = 78, 69, 70


def arguments(data: Path, weights: Path, output: Path, *more: str) -> list[str]:
    options = ["--data", data, "--backbones", "small", "--weights", weights, "--image-size", 64]
    options += ["-o", output, *more]
    return ["benchmark", *map(str, options)]


def start(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "training.cli", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def trials(database: Path, name: str = "table") -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{database}").get_trials()


def states(database: Path) -> Counter[TrialState]:
    return Counter(trial.state for trial in trials(database))


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        try:
            if condition():
                return
            time.sleep(0.1)
        except Exception:  # the database is still being made
            time.sleep(0.1)
    pytest.fail(f"no {what} within 600 s")


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, data: Path, weights: Path
) -> tuple[Path, list[str], str]:
    table = tmp_path_factory.mktemp("benchmark") / "new" / "table.csv"
    options = arguments(data, weights, table, "--algorithms", "patchcore,padim")
    options += ["--set", "patchcore.bank_size=40", "--keep", str(table.parent / "kept")]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out:
        patch.setattr(sys, "argv", ["train-station", *options])  # the table names its command
        assert main(options) == 0
    return table, options, out.getvalue()


def test_fits_that_another_command_left_in_line_stay_there(
    finished: tuple[Path, list[str], str], tmp_path: Path, data: Path, weights: Path
) -> None:
    table = finished[0]
    shared = tmp_path / "table.csv"
    shutil.copy(table.with_suffix(".db"), shared.with_suffix(".db"))
    place = StudyPlace(f"sqlite:///{shared.with_suffix('.db')}", "table", 10)
    (done, *_) = [t.user_attrs["fit"] for t in trials(shared.with_suffix(".db"))]
    again = arguments(data, weights, shared, "--algorithms", "padim", "--seeds", "0,1")
    enqueue(open_study(place), {"fit": done.replace('"seed": 0', '"seed": 7')})

    assert main(again) == 0

    seeds = {
        (json.loads(t.user_attrs["fit"])["seed"], t.state)
        for t in trials(shared.with_suffix(".db"))
    }
    assert (1, TrialState.COMPLETE) in seeds
    assert (7, TrialState.WAITING) in seeds
    assert (7, TrialState.COMPLETE) not in seeds


def test_checkpoints_are_kept_under_different_names(
    finished: tuple[Path, list[str], str],
) -> None:
    kept = finished[0].parent / "kept"
    names = sorted(path.name for path in kept.iterdir())
    assert names == ["padim-small-slopes-0.safetensors", "patchcore-small-slopes-0.safetensors"]
    loaded = load_checkpoint(kept / names[1])
    assert loaded.description.algorithm == "patchcore"
    assert loaded.description.training.hyperparameters["bank_size"] == 40


def test_the_table_has_accuracy_times_size_and_memory(
    finished: tuple[Path, list[str], str],
) -> None:
    table, _, out = finished
    with table.open() as file:
        assert file.readline().strip() == (
            "algorithm,backbone,category,image_auroc,pixel_auroc,aupro,"
            "fit_s,infer_ms,model_mib,peak_mib"
        )
    found = {row["algorithm"]: row for row in rows(table)}
    assert set(found) == {"patchcore", "padim"}
    for row in found.values():
        assert tuple(row) == COLUMNS
        assert (row["backbone"], row["category"]) == ("small", "slopes")
        assert float(row["image_auroc"]) == 1.0
        assert 0.5 < float(row["aupro"]) <= 1.0
        assert 0 < float(row["fit_s"]) < 120
        assert 0 < float(row["infer_ms"]) < 5000
        assert 50 < float(row["peak_mib"]) < 4000
        assert 0 < float(row["model_mib"]) < 20
    assert "table.csv" in out
    assert "Made by `train-station benchmark --data" in table.with_suffix(".md").read_text()
    assert table.with_suffix(".svg").read_text().startswith("<svg")


def test_started_again_a_finished_benchmark_makes_no_fit(
    finished: tuple[Path, list[str], str],
) -> None:
    table, options, _ = finished
    before = table.read_bytes()
    table.unlink()
    assert main(options) == 0
    assert table.read_bytes() == before
    assert states(table.with_suffix(".db")) == {TrialState.COMPLETE: 2}


def test_two_processes_share_the_work_and_write_the_same_table(
    tmp_path: Path, data: Path, weights: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    own, other = (
        [
            *arguments(data, weights, tmp_path / name / "table.csv", "--study", url),
            *("--algorithms", "padim", "--seeds", "0,1", "--name", "table"),
        ]
        for name in ("one", "two")
    )
    worker = start(*other)
    assert main(own) == 0
    _, err = worker.communicate(timeout=600)
    assert worker.returncode == 0, err
    done = [t for t in trials(tmp_path / "shared.db") if t.state is TrialState.COMPLETE]
    assert len({t.user_attrs["fit"] for t in done}) == len(done) == 2
    tables = [(tmp_path / name / "table.csv").read_bytes() for name in ("one", "two")]
    assert tables[0] == tables[1]
    assert "±" in (tmp_path / "one" / "table.md").read_text()


def test_of_several_data_sets_one_that_is_not_there_is_reported_before_the_first_fit(
    tmp_path: Path, data: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out" / "table.csv"
    given = arguments(data, weights, output, "--data", str(tmp_path / "none"))
    assert main([*given, "--algorithms", "padim"]) == USAGE
    assert "none: not a folder. Check --data." in capsys.readouterr().err
    assert list(output.parent.iterdir()) == []


def test_processes_that_start_together_open_one_database(tmp_path: Path) -> None:
    """As fast as they can: none of them may meet a database that is half made."""
    code = (  # what is imported once serves all of them
        "import os, sys\n"
        "from training.studies import StudyPlace, open_study\n"
        "assert 'torch' not in sys.modules\n"  # which takes longer to load than a study to open
        "read_end, write_end = os.pipe()\n"
        "workers = []\n"
        "for _ in range(3):\n"
        "    worker = os.fork()\n"
        "    if not worker:\n"
        "        os.close(write_end)\n"
        "        os.read(read_end, 1)  # until the pipe closes\n"
        f"        opened = open_study(StudyPlace('sqlite:///{tmp_path / 'new.db'}', 'table'))\n"
        "        os.write(1, f'{opened.is_new}\\n'.encode())\n"
        "        os._exit(0)\n"
        "    workers.append(worker)\n"
        "os.close(write_end)\n"
        "sys.exit(any(os.waitpid(worker, 0)[1] for worker in workers))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == ["False", "False", "True"]


def test_the_fit_of_a_killed_worker_is_taken_up_again(
    tmp_path: Path, data: Path, weights: Path
) -> None:
    table = tmp_path / "table.csv"
    database = table.with_suffix(".db")
    more = "--algorithms", "padim", "--heartbeat", "1", "--set", "padim.feature_count=10"
    # Larger images, so that the fit is not over before it is seen.
    options = arguments(data, weights, table, *more, "--image-size", "512")
    killed = start(*options)
    wait_for(lambda: states(database)[TrialState.RUNNING] == 1, "running fit")
    wait_for(lambda: bool(find_fits(killed.pid)), "process that fits")
    children = find_fits(killed.pid)
    for child in children:
        os.kill(child, signal.SIGSTOP)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    for child in children:
        os.kill(child, signal.SIGCONT)
    killed.communicate()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), "end of the fit")

    assert children
    assert not table.exists()
    assert main(options) == 0
    assert len(rows(table)) == 1
    assert states(database) == {TrialState.FAIL: 1, TrialState.COMPLETE: 1}


def test_a_worker_that_was_silent_too_long_leaves_its_trial_to_the_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened = open_study(StudyPlace(f"sqlite:///{tmp_path / 'study.db'}", "table"))
    begun: list[int] = []

    def fit(trial: optuna.Trial) -> float:
        begun.append(trial.number)
        if trial.number == 0:  # what the other worker does when signs of life stay away
            opened.study.tell(0, state=TrialState.FAIL)
        trial.set_user_attr("image_auroc", 1.0)
        return 1.0

    work_off(opened, lambda study: len(begun) < 2, fit)
    assert [trial.state for trial in opened.trials()] == [TrialState.FAIL, TrialState.COMPLETE]
    assert "another one took over its trial" in caplog.text


def find_fits(parent: int) -> list[int]:
    """Return the processes that fit for a benchmark, and not what else is beside it."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
            command = status.with_name("cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:
            continue
        if f"\nPPid:\t{parent}\n" in text and b"-m training.measured_fit" in command:
            found.append(int(status.parent.name))
    return found


def test_folders_of_one_name_have_rows_of_their_own_and_replaced_images_new_figures(
    tmp_path: Path, weights: Path
) -> None:
    table = tmp_path / "table.csv"
    first = write_mvtec(tmp_path / "a" / "parts", train=6, good=3, defective=3)
    second = write_mvtec(tmp_path / "b" / "parts", train=6, good=3, defective=3)
    for number in range(3):  # nobody can tell these
        write(second / "test" / "spot" / f"{number:03d}.png", good_image(900 + number))
    options = arguments(first, weights, table, "--data", str(second), "--keep", str(tmp_path / "k"))
    assert main(options) == 0
    before = {row["category"]: row["image_auroc"] for row in rows(table)}
    assert set(before) == {"a/parts", "b/parts"}
    assert before["a/parts"] != before["b/parts"]
    assert len(list((tmp_path / "k").iterdir())) == 2

    for number in range(3):
        write(second / "test" / "spot" / f"{number:03d}.png", defective_image(number)[0])
    assert main(options) == 0
    after = {row["category"]: row["image_auroc"] for row in rows(table)}
    # Both hold the same images now: one fit serves both rows.
    assert after == dict.fromkeys(("a/parts", "b/parts"), before["a/parts"])
    assert states(table.with_suffix(".db")) == {TrialState.COMPLETE: 2}


def test_a_fit_is_known_by_its_content_and_not_by_its_place(
    tmp_path: Path, data: Path, weights: Path
) -> None:
    root = Path(shutil.copytree(data, tmp_path / "copy"))
    own = Path(shutil.copy(weights, tmp_path / "own.safetensors"))

    def key(root: Path, weights: Path, algorithm: str = "padim", seed: int = 0) -> str:
        settings = {"data": str(root), "backbone": "small", "weights": str(weights), "seed": seed}
        return make_key(FitConfig.model_validate({**settings, "algorithm": algorithm}))

    first = key(data, weights)
    assert key(root, own) == first
    assert len({first, key(data, weights, "patchcore"), key(data, weights, seed=1)}) == 3
    own.write_bytes(own.read_bytes() + b" ")
    assert key(root, own) != first
    assert key(root, own, "ganomaly") == key(root, weights, "ganomaly")  # needs no backbone
    pixels, mask = defective_image(9)
    write(root / "ground_truth" / "spot" / "000_mask.png", mask)
    other_mask = key(root, weights)
    write(root / "train" / "good" / "000.png", pixels)
    assert len({first, other_mask, key(root, weights)}) == 3


@pytest.mark.parametrize(
    ("places", "names"),
    [
        (["/x/a", "/x/b"], ["a", "b"]),
        (["/x/a", "/y/a", "/y/b"], ["x/a", "y/a", "b"]),
        (["/p/x/a", "/q/x/a", "/x/a"], ["p/x/a", "q/x/a", "/x/a"]),
    ],
)
def test_rows_are_named_so_that_they_cannot_be_mixed_up(
    places: list[str], names: list[str]
) -> None:
    fits = [FitConfig.model_validate({"data": place}) for place in places]
    found = unique_names(fits)
    assert [found[make_place(fit)] for fit in fits] == names


def test_a_fit_that_fails_leaves_the_others_their_rows(
    tmp_path: Path, data: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "table.csv"
    options = arguments(data, weights, table, "--algorithms", "padim,patchcore")
    assert main([*options, "--set", "patchcore.layers=layer9"]) == FAILED
    err = capsys.readouterr().err
    assert "1 of 2 rows is not complete, first patchcore on slopes: layer 'layer9'" in err
    assert "Traceback" not in err
    assert [row["algorithm"] for row in rows(table)] == ["padim"]
    assert "layer 'layer9' does not exist" in table.with_suffix(".md").read_text()


@pytest.mark.parametrize(
    ("url", "code", "named"),
    [
        ("sqlite:////nowhere/at/all.db", UNAVAILABLE, "cannot be used as the study's database"),
        ("sqlite:///{here}/text.db", UNAVAILABLE, "file is not a database"),
        ("oddsql://me:secret@host/x", UNAVAILABLE, "oddsql://me:***@host/x: no driver"),
        ("host/name", USAGE, "--study: not a database URL"),
    ],
)
def test_a_study_that_cannot_be_reached_is_named_without_its_password(
    tmp_path: Path,
    data: Path,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
    url: str,
    code: int,
    named: str,
) -> None:
    (tmp_path / "text.db").write_text("no database\n" * 200)
    options = arguments(data, weights, tmp_path / "t.csv", "--algorithms", "padim")
    assert main([*options, "--study", url.replace("{here}", str(tmp_path))]) == code
    err = capsys.readouterr().err
    assert named in err
    assert "secret" not in err
    assert "internal error" not in err


def test_the_peak_memory_is_that_of_a_process_and_not_of_who_started_it() -> None:
    ballast = np.ones(200 * 2**20, np.uint8)
    code = "from training.peak_memory import peak_bytes; print(peak_bytes())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 2**20 < int(done.stdout) < ballast.nbytes / 2


def test_a_fit_in_a_process_of_its_own_is_judged_by_the_test_images(
    data: Path, weights: Path
) -> None:
    config = FitConfig(
        data=data,  # type: ignore[arg-type]
        algorithm="dfm",
        backbone="small",
        weights=str(weights),
        image_size="64",
        check_good=False,
    )
    result = run_trial(config, on_test=True)
    assert (result["good_count"], result["defective_count"]) == (4, 4)


def test_a_fit_that_cannot_start_gives_the_reason(tmp_path: Path, weights: Path) -> None:
    config = FitConfig(data=tmp_path / "none", weights=str(weights))  # type: ignore[arg-type]
    with pytest.raises(TrialFailed, match="none: not a folder"):
        run_trial(config, on_test=True)


def test_a_plan_has_every_fit_once_with_its_own_hyperparameters(tmp_path: Path) -> None:
    base = FitConfig(
        data=tmp_path,  # type: ignore[arg-type]
        hyperparameters={"layers": "layer2", "patchcore.bank_size": 9},
    )
    fits = plan(base, "patchcore,padim,padim", "resnet18,small", "0,1")
    assert len(fits) == 8
    own = {fit.algorithm: fit.hyperparameters for fit in fits}
    assert own == {
        "patchcore": {"layers": "layer2", "bank_size": 9},
        "padim": {"layers": "layer2"},
    }
    for algorithms, seeds, named in (
        ("nearest", "0", "does not exist"),
        ("auto", "0", "'auto' chooses one for a fit"),
        ("padim", "0", "'patchcore' is not among the algorithms"),
        ("patchcore", "x", "give whole numbers"),
        ("", "0", "give names"),
    ):
        with pytest.raises(SettingError, match=named):
            plan(base, algorithms, "small", seeds)
