"""Frame to verdict with PatchCore's default head beside the one before, in interleaved pairs.

``python -m tests.bench.head_times``; also a part of ``make bench``.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edge.bundle.loading import load_bundle
from edge.cli.benchmark import Paired, paired
from edge.imaging.frame import Frame, Pixels
from edge.inspection.detector import CompiledModel, Detector
from edge.inspection.inspector import Inspector
from tests.bench.bundles import make_head_bundles
from training.data.rendered import render_part

PAIRS = 60
BUILD = Path("build") / "bench"


def head_times(folder: Path, pixels: Pixels, pairs: int = PAIRS) -> dict[str, Paired]:
    """Return by precision: ``bare`` is the head before, ``path`` the default one."""
    frame = Frame(pixels=pixels, number=0, captured_ns=0, captured_utc_ns=0)
    found = {}
    for precision, paths in make_head_bundles(folder).items():
        before, now = map(_inspector, paths)
        found[precision] = paired(
            partial(before.inspect, frame), partial(now.inspect, frame), pairs
        )
    return found


def _inspector(path: Path) -> Inspector:
    bundle = load_bundle(path)
    return Inspector(Detector(CompiledModel(bundle)), bundle.manifest)


def sentence(precision: str, pair: Paired) -> str:
    return (
        f"PatchCore's head, frame to verdict 640×480, {precision}: before {pair.bare_p50_ms:.1f} "
        f"ms, now {pair.path_p50_ms:.1f} ms, ratio {pair.ratio_median:.3f} of {pair.pairs} pairs"
    )


def figures(pairs: dict[str, Paired]) -> dict[str, Any]:
    """Return what ``build/bench.json`` keeps."""
    return {
        precision: {
            "before_ms": round(pair.bare_p50_ms, 3),
            "now_ms": round(pair.path_p50_ms, 3),
            "ratio": round(pair.ratio_median, 4),
        }
        for precision, pair in pairs.items()
    }


def main() -> int:
    pixels = render_part(np.random.default_rng(0)).pixels
    for precision, pair in head_times(BUILD, pixels).items():
        print(sentence(precision, pair), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
