"""Frame to verdict, as often as asked: what ``tests.bench.versions`` runs in a checkout.

Run there with ``python -c``, so that every import is of that checkout. It prints milliseconds a
frame for each number of frames that it reads.
"""

import sys
import time
from pathlib import Path

import numpy as np

try:
    from edge.bundle.loading import load_bundle
    from edge.imaging.frame import Frame
    from edge.inspection.detector import CompiledModel, Detector
except ImportError:  # before 2026-11-29
    from edge.frame import Frame  # type: ignore[import-not-found,no-redef]
    from edge.manifest import load_bundle  # type: ignore[import-not-found,no-redef]

    from edge.inspection.detector import Detector
    from edge.inspection.detector import Network as CompiledModel  # type: ignore[attr-defined,no-redef]
from edge.inspection.inspector import Inspector

_WARM_UP = 20


def main() -> None:
    bundle = load_bundle(Path(sys.argv[1]))
    inspector = Inspector(Detector(CompiledModel(bundle)), bundle.manifest)
    pixels = np.random.default_rng(0).integers(0, 255, (480, 640, 3)).astype(np.uint8)
    frame = Frame(pixels=pixels, number=0, captured_ns=0, captured_utc_ns=0)
    for _ in range(_WARM_UP):
        inspection = inspector.inspect(frame)
    if inspection.score is None:
        raise SystemExit(f"{bundle.path} did not judge: {inspection.decision}")
    print("ready", flush=True)
    for line in sys.stdin:
        count = int(line)
        started = time.perf_counter()
        for _ in range(count):
            inspector.inspect(frame)
        print((time.perf_counter() - started) / count * 1e3, flush=True)


if __name__ == "__main__":
    main()
