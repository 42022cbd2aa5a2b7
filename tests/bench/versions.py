"""Frame to verdict of two versions, each with its own code and the bundle that it makes itself.

``python -m tests.bench.versions CHECKOUT`` compares the version in another folder, say a
``git worktree`` of an earlier commit, with this one: PatchCore with its default settings, 640×480.
The bundles are made anew each time: one that a folder kept may be of an earlier state of its code.
"""

import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import tests.bench.timed_frames
from edge.cli.benchmark import paired

PAIRS = 150
FRAMES = 4

_MAKE_BUNDLES = """
import sys
from pathlib import Path
from tests.bench.bundles import make_bundles
whole, _, int8 = make_bundles(Path(sys.argv[1]))
print(whole, int8, sep="\\n")
"""
_HERE = Path(__file__).parents[2]


def main() -> int:
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "tests/bench/bundles.py").is_file():
        print("Name the folder of another version's checkout.", file=sys.stderr)
        return 78
    checkouts = Path(sys.argv[1]), _HERE
    with TemporaryDirectory() as folder:
        bundles = [
            _made(checkout, Path(folder) / name)
            for name, checkout in zip(("there", "here"), checkouts, strict=True)
        ]
        for precision, paths in zip(("FP32", "INT8"), zip(*bundles, strict=True), strict=True):
            with ExitStack() as processes:
                there, here = (
                    _timed(checkout, path, processes)
                    for checkout, path in zip(checkouts, paths, strict=True)
                )
                pair = paired(there, here, PAIRS)
            before, now = (time / FRAMES for time in (pair.bare_p50_ms, pair.path_p50_ms))
            print(
                f"PatchCore, frame to verdict 640×480, {precision}: there {before:.1f} ms, "
                f"here {now:.1f} ms, ratio {pair.ratio_median:.3f} of {PAIRS} pairs",
                flush=True,
            )
    return 0


def _made(checkout: Path, folder: Path) -> list[str]:
    """Return the bundles that a checkout makes, in FP32 and in INT8.

    Its own folder comes first among those that Python imports from.
    """
    done = subprocess.run(
        [sys.executable, "-c", _MAKE_BUNDLES, folder],
        cwd=checkout,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout.splitlines()


def _timed(checkout: Path, bundle: str, processes: ExitStack) -> "partial[None]":
    """Return what inspects some frames in a process of its own."""
    code = Path(tests.bench.timed_frames.__file__).read_text()
    process = processes.enter_context(
        subprocess.Popen(
            [sys.executable, "-c", code, bundle],
            cwd=checkout,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    )
    assert process.stdin is not None and process.stdout is not None
    if process.stdout.readline().strip() != "ready":
        raise SystemExit(f"{checkout} cannot time {bundle}.")
    return partial(_inspect, process.stdin, process.stdout)


def _inspect(asked: IO[str], answers: IO[str]) -> None:
    asked.write(f"{FRAMES}\n")
    asked.flush()
    if answers.readline().strip() != "done":
        raise SystemExit("A process ended while it was timed.")


if __name__ == "__main__":
    sys.exit(main())
