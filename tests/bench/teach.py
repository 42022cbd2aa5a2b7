"""Teaching in figures: ``python -m tests.bench.teach TEACHER.xml GOOD [COUNT ...]``.

GOOD is a folder of good images, of which COUNT are taught (20 and 200, if not given), each time
from an empty folder to a recipe in force. Then a line runs at ten parts a second, by turns with a
build of 20 images beside it and without. Times are of this machine with all that runs on it; CPU
time counts little of that.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import yaml

from tests.edge.conftest import edge_run_command

COUNTS, THREADS = (20, 200), 2
FEW = 20
TURNS, QUIET_S = 3, 12.0
DEMO = Path("configs/demo").absolute()


def edge_run(*arguments: object) -> str:
    """Run a command to its end, with as many threads as the page's build gets."""
    libraries = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
    done = subprocess.run(
        edge_run_command(*arguments),
        env={**os.environ, **dict.fromkeys(libraries, str(THREADS))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def taught(teacher: Path, good: Path, count: int, recipes: Path) -> float:
    """Teach a product; return how long that took."""
    began_s = time.perf_counter()
    options = ["--from", good, "--teacher", teacher, "-n", count, "--threads", THREADS]
    edge_run("--teach", "part", *options, "--recipes", recipes)
    return time.perf_counter() - began_s


def from_empty_to_in_force(teacher: Path, good: Path, count: int) -> None:
    """Print what a product takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        recipes = Path(folder) / "recipes"
        build_s = taught(teacher, good, count, recipes)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        began_s = time.perf_counter()
        edge_run("--recipe", "use", "part@1", "--recipes", recipes)
        use_s = time.perf_counter() - began_s
    cpu_s = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"{count} images: taught in {build_s:.1f} s ({cpu_s:.1f} s of CPU), in force after "
        f"{build_s + use_s:.1f} s; peak so far {used.ru_maxrss / 1024:.0f} MB",
        flush=True,
    )


class Line:
    """A station that inspects ten parts a second; how long each took, by when it came."""

    def __init__(self, output: Iterator[str]) -> None:
        self.found: list[tuple[float, float]] = []
        self._output = output
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._output:
            total_ms = json.loads(line)["duration_ms"]["total"]
            self.found.append((time.perf_counter(), total_ms))

    def join(self) -> None:
        """Wait until the station has ended and all that it wrote is read."""
        self._thread.join()

    def within(self, begin_s: float, end_s: float) -> list[float]:
        return [total for at, total in self.found if begin_s <= at < end_s]


@contextmanager
def running_line(folder: Path) -> Iterator[Line]:
    """Run a station on the demo's frames."""
    config = folder / "station.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "camera": {"uri": str(DEMO / "frames"), "rate_fps": 10, "loop": True},
                "model": {"path": str(DEMO / "bottle.xml"), "threads": 1},
            }
        )
    )
    with subprocess.Popen(
        edge_run_command("--config", config),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = Line(process.stdout)
        while len(line.found) < 20:
            assert process.poll() is None
            time.sleep(0.1)
        try:
            yield line
        finally:
            process.terminate()
            line.join()


def beside_a_line(teacher: Path, good: Path) -> None:
    """Print the line's times with a build and without, by turns."""
    quiet: list[float] = []
    building: list[float] = []
    with tempfile.TemporaryDirectory() as name, running_line(Path(name)) as line:
        for turn in range(TURNS):
            began_s = time.perf_counter()
            time.sleep(QUIET_S)
            between_s = time.perf_counter()
            taught(teacher, good, FEW, Path(name) / f"recipes{turn}")
            quiet += line.within(began_s, between_s)
            building += line.within(between_s, time.perf_counter())
    alone, beside = (np.percentile(times, [50, 99]) for times in (quiet, building))
    print(
        f"line: p50 {alone[0]:.1f} ms, p99 {alone[1]:.1f} ms of {len(quiet)} parts; while "
        f"building p50 {beside[0]:.1f} ms, p99 {beside[1]:.1f} ms of {len(building)} parts: "
        f"{beside[1] / alone[1]:.2f} ×"
    )


def main() -> None:
    """Measure."""
    teacher, good = Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute()
    for count in tuple(map(int, sys.argv[3:])) or COUNTS:
        from_empty_to_in_force(teacher, good, count)
    beside_a_line(teacher, good)


if __name__ == "__main__":
    main()
