"""A season of learning from marks: ``python -m tests.bench.season TEACHER.xml PRODUCT [SEED]``.

PRODUCT is laid out as MVTec AD has it. 20 of its good training images are taught; 300 parts, of
which 100 are defective, are judged; those that were judged wrongly are marked and learned from, as
*Learn from marks* does; 300 other parts are judged by the model before and by the one that learned.
No part is seen twice, and none that is judged was taught.
"""

import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.bundle.manifest import load_bundle
from edge.imaging.frame import Frame
from edge.imaging.image_files import is_image, read_image
from edge.inspection.detector import CompiledModel, Detector, RunPlan
from edge.inspection.inspector import Inspector
from edge.inspection.thresholding import Result
from edge.teaching.build import BuildOrder, build
from edge.teaching.teach import TeachingOrder

TAUGHT, GOOD, DEFECTIVE = 20, 200, 100
THREADS = 2
Parts = Sequence[tuple[Path, bool]]


@dataclass(frozen=True, slots=True)
class Judged:
    """Parts by how they were judged wrongly."""

    false_rejects: list[Path]
    misses: list[Path]

    def __str__(self) -> str:
        return (
            f"{len(self.false_rejects)} of {GOOD} good parts rejected, {len(self.misses)} of "
            f"{DEFECTIVE} defects missed"
        )


def read_model(
    teacher: Path, good: Sequence[Path], defective: Sequence[Path], xml: Path
) -> Inspector:
    """Build a model, and load it as the line does."""
    order = BuildOrder(
        name=xml.stem,
        teacher=teacher,
        images=good,
        defective=defective,
        order=TeachingOrder(),
        threads=THREADS,
    )
    for path, content in build(order, lambda _: None).files(xml):
        path.write_bytes(content)
    bundle = load_bundle(xml)
    return Inspector(
        Detector(CompiledModel(bundle, plan=RunPlan(threads=THREADS))), bundle.manifest
    )


def judged(inspector: Inspector, parts: Parts) -> Judged:
    """Judge parts of which it is known whether they are good."""
    wrong = Judged([], [])
    for path, is_good in parts:
        frame = Frame(pixels=read_image(path), number=0, captured_ns=0, captured_utc_ns=0)
        is_ok = inspector.inspect(frame).decision.result is Result.OK
        if is_good and not is_ok:
            wrong.false_rejects.append(path)
        elif is_ok and not is_good:
            wrong.misses.append(path)
    return wrong


def seasons(product: Path, seed: int) -> tuple[list[Path], Parts, Parts]:
    """Return images to teach, and the parts of two seasons."""
    draw = random.Random(seed)

    def shuffled(*folders: str) -> list[Path]:
        found = [p for one in folders for p in sorted((product / one).iterdir()) if is_image(p)]
        return draw.sample(found, len(found))

    taught, rest = (lambda found: (found[:TAUGHT], found[TAUGHT:]))(shuffled("train/good"))
    tested = sorted(one.name for one in (product / "test").iterdir() if one.name != "good")
    good = draw.sample([*rest, *shuffled("test/good")], 2 * GOOD)
    bad = shuffled(*(f"test/{name}" for name in tested))[: 2 * DEFECTIVE]
    halves = [
        [(path, True) for path in good[turn::2]] + [(path, False) for path in bad[turn::2]]
        for turn in range(2)
    ]
    return taught, halves[0], halves[1]


def main() -> None:
    """Run one season."""
    teacher, product = Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute()
    taught, first, second = seasons(product, int(sys.argv[3]) if len(sys.argv) > 3 else 0)
    with tempfile.TemporaryDirectory() as folder:
        before = read_model(teacher, taught, (), Path(folder) / "before.xml")
        wrong = judged(before, first)
        print(f"taught {len(taught)}: first season {wrong}", flush=True)
        print(f"  second season, not learned: {judged(before, second)}", flush=True)
        learned = [*taught, *wrong.false_rejects]
        after = read_model(teacher, learned, wrong.misses, Path(folder) / "after.xml")
        print(
            f"learned {len(wrong.false_rejects)} false rejects, held against {len(wrong.misses)} "
            f"missed defects: second season {judged(after, second)}"
        )


if __name__ == "__main__":
    main()
