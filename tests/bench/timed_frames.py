"""Frame to verdict, as often as asked: what ``tests.bench.versions`` runs in a checkout.

Run there with ``python -c``, so that every import is of that checkout. It inspects as many frames
as each line that it reads says, and answers.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from edge.inspection import detector
from edge.inspection.inspector import Inspector

_WARM_UP = 20


def named(module: str, earlier: str) -> Any:
    """Return a module by today's name, or by that of before 2026-11-29."""
    return import_module(module if find_spec(module.rpartition(".")[0]) else earlier)


def main() -> None:
    bundle = named("edge.bundle.loading", "edge.manifest").load_bundle(Path(sys.argv[1]))
    compiled = getattr(detector, "CompiledModel", None) or getattr(detector, "Network")  # noqa: B009
    inspector = Inspector(detector.Detector(compiled(bundle)), bundle.manifest)
    pixels = np.random.default_rng(0).integers(0, 255, (480, 640, 3)).astype(np.uint8)
    frame = named("edge.imaging.frame", "edge.frame").Frame(
        pixels=pixels, number=0, captured_ns=0, captured_utc_ns=0
    )
    for _ in range(_WARM_UP):
        inspection = inspector.inspect(frame)
    if inspection.score is None:
        raise SystemExit(f"{bundle.path} did not judge: {inspection.decision}")
    print("ready", flush=True)
    for line in sys.stdin:
        for _ in range(int(line)):
            inspector.inspect(frame)
        print("done", flush=True)


if __name__ == "__main__":
    main()
