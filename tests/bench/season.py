"""A season of learning from marks: ``python -m tests.bench.season TEACHER.xml PRODUCT [SEED ...]``.

PRODUCT is laid out as MVTec AD has it. 20 of its good training images are taught; 300 parts, of
which 100 are defective, are judged (fewer of a smaller set, in the same proportion); those that
were judged wrongly are marked and learned from, as *Learn from marks* does; as many other parts are
judged by the model before and by the one that learned. No part is seen twice, and none that is
judged was taught.
"""

import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge.bundle.loading import load_bundle
from edge.imaging.frame import Frame
from edge.imaging.image_files import is_image, read_image
from edge.inspection.decision import Result, decide
from edge.inspection.detector import CompiledModel, Detector, RunPlan
from edge.inspection.inspector import Inspector
from edge.teaching.build import BuildOrder, BuiltModel, build
from edge.teaching.guarantees import guarantee_sentence
from edge.teaching.learning_from_marks import WrongBefore, choice_of_rate, parts_beside_marks
from edge.teaching.teach import TeachingOrder

TAUGHT, GOOD, DEFECTIVE = 20, 200, 100
# As ``recipes.max_images`` has it.
MAX_IMAGES = 200
# That somebody at the page may allow instead, of what is known to be good.
ALLOWED = (0.01, 0.02, 0.05, 0.1)
THREADS = 2


@dataclass(frozen=True, slots=True)
class Part:
    """A part that was judged; whoever marks it knows whether it is good."""

    path: Path
    is_good: bool
    score: float
    result: Result

    @property
    def is_false_reject(self) -> bool:
        return self.is_good and self.result is not Result.OK

    @property
    def is_missed(self) -> bool:
        return not self.is_good and self.result is Result.OK


def judged(built: BuiltModel, parts: Sequence[tuple[Path, bool]]) -> list[Part]:
    """Load a model as the line does, and judge parts of which it is known whether they are good."""
    with tempfile.TemporaryDirectory() as folder:
        for path, content in built.files(Path(folder) / "model.xml"):
            path.write_bytes(content)
        bundle = load_bundle(Path(folder) / "model.xml")
    detector = Detector(CompiledModel(bundle, plan=RunPlan(threads=THREADS)))
    inspector = Inspector(detector, bundle.manifest)
    found = []
    for path, is_good in parts:
        frame = Frame(pixels=read_image(path), number=0, captured_ns=0, captured_utc_ns=0)
        inspection = inspector.inspect(frame)
        assert inspection.score is not None
        found.append(Part(path, is_good, inspection.score, inspection.decision.result))
    return found


def wrong(parts: Sequence[Part], threshold: float | None = None) -> str:
    """Say how many were judged wrongly, or would be by another raw threshold."""
    if threshold is not None:
        parts = [replace(one, result=decide(one.score, threshold).result) for one in parts]
    good = sum(part.is_good for part in parts)
    return (
        f"{sum(part.is_false_reject for part in parts)} of {good} good rejected, "
        f"{sum(part.is_missed for part in parts)} of {len(parts) - good} defects missed"
    )


def seasons(
    product: Path, seed: int
) -> tuple[list[Path], list[tuple[Path, bool]], list[tuple[Path, bool]]]:
    """Return images to teach, and the parts of two seasons."""
    draw = random.Random(seed)

    def shuffled(*folders: str) -> list[Path]:
        found = [p for one in folders for p in sorted((product / one).iterdir()) if is_image(p)]
        return draw.sample(found, len(found))

    taught, rest = (lambda found: (found[:TAUGHT], found[TAUGHT:]))(shuffled("train/good"))
    tested = sorted(one.name for one in (product / "test").iterdir() if one.name != "good")
    good = [*rest, *shuffled("test/good")]
    bad = shuffled(*(f"test/{name}" for name in tested))
    share = min(1.0, len(good) / (2 * GOOD), len(bad) / (2 * DEFECTIVE))
    good = draw.sample(good, 2 * int(share * GOOD))
    bad = bad[: 2 * int(share * DEFECTIVE)]
    halves = [
        [(path, True) for path in good[turn::2]] + [(path, False) for path in bad[turn::2]]
        for turn in range(2)
    ]
    return taught, halves[0], halves[1]


def learned(teacher: Path, taught: Sequence[Path], parts: Sequence[Part]) -> BuildOrder:
    """Return what the page builds of a season's marks."""
    false_rejects = [part.path for part in parts if part.is_false_reject]
    missed = [part.path for part in parts if part.is_missed]
    unmarked = [part for part in parts if not (part.is_false_reject or part.is_missed)]
    room = MAX_IMAGES - len(taught) - len(false_rejects) - len(missed)
    passed, rejected = parts_beside_marks(unmarked, room)
    return BuildOrder(
        name="part",
        teacher=teacher,
        images=[*taught, *false_rejects],
        confirmed=false_rejects,
        passed=[part.path for part in passed],
        defective=missed,
        rejected=[part.path for part in rejected],
        order=TeachingOrder(before=WrongBefore(len(false_rejects), len(missed))),
        threads=THREADS,
    )


def run(teacher: Path, product: Path, seed: int) -> None:
    """Run one season."""
    taught, first, second = seasons(product, seed)
    order = BuildOrder(
        name="part", teacher=teacher, images=taught, order=TeachingOrder(), threads=THREADS
    )
    before = build(order, lambda _: None)
    manifest = before.bundle.manifest
    worth = guarantee_sentence(manifest.threshold, manifest.training.good_check)
    print(f"{product.name}, seed {seed}, taught {len(taught)}. {worth}")
    parts = judged(before, first)
    print(f"  first season:               {wrong(parts)}", flush=True)
    print(f"  second season, not learned: {wrong(judged(before, second))}", flush=True)
    after = build(learned(teacher, taught, parts), lambda _: None)
    found = judged(after, second)
    print(f"  second season, learned:     {wrong(found)}", flush=True)
    good, defective = after.taught.known_scores()
    for allowed in ALLOWED:
        threshold = choice_of_rate(allowed).threshold(good, defective)
        print(f"  chosen, {allowed:.0%} allowed:        {wrong(found, threshold)}", flush=True)


def main() -> None:
    """Run the seasons."""
    teacher, product = Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute()
    for seed in map(int, sys.argv[3:] or ("0",)):
        run(teacher, product, seed)


if __name__ == "__main__":
    main()
