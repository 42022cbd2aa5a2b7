"""What is learned from marks: the parts beside them, and the threshold that they ask for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.loading import load_bundle
from edge.bundle.manifest import ThresholdMethod
from edge.hmi.actions import InspectedPart, MarkedImage
from edge.imaging.image_files import read_image
from edge.inspection.decision import Result
from edge.recipes.taught import read_taught
from edge.teaching.build import BuildOrder, build
from edge.teaching.learning_from_marks import WrongBefore, no_worse_than, parts_beside_marks
from edge.teaching.product_view import make_view
from edge.teaching.teach import TeachingOrder
from edge.teaching.threshold_choice import ThresholdChoice
from tests.support.small_teacher import write_small_teacher
from tests.support.teaching_bench import TeachingBench

FRAMES = Path("configs/demo/frames")


@dataclass(frozen=True)
class Judged:
    number: int
    result: Result


def line(passed: int, rejected: int) -> list[Judged]:
    results = [Result.OK] * passed + [Result.NOK] * rejected + [Result.ERROR] * 5
    return [Judged(number, result) for number, result in enumerate(results)]


@pytest.mark.parametrize(
    ("passed", "rejected", "room", "chosen"),
    [
        (300, 80, 88, (66, 22)),
        (300, 4, 88, (84, 4)),
        (10, 80, 88, (10, 22)),
        (300, 80, 1000, (150, 50)),
        (3, 2, 88, (3, 2)),
        (300, 80, 0, (0, 0)),
    ],
)
def test_unmarked_parts_stand_beside_the_marks_as_far_as_there_is_room(
    passed: int, rejected: int, room: int, chosen: tuple[int, int]
) -> None:
    good, bad = parts_beside_marks(line(passed, rejected), room)
    assert (len(good), len(bad)) == chosen
    assert {part.result for part in good} <= {Result.OK}
    assert {part.result for part in bad} <= {Result.NOK}
    if chosen[0] == 66:  # not the newest alone
        assert good[-1].number - good[0].number > 250


@pytest.mark.parametrize(
    ("rejected", "missed", "now_rejected", "now_missed"),
    [
        (20, 60, 10, 29),  # between 20 rejected and 19 missed, and none rejected and 39 missed
        (20, 30, 15, 25),
        (20, 25, 17, 22),
        (4, 40, 2, 37),
        (0, 40, 0, 39),
        (0, 38, 1, 38),  # no more misses goes before no more false rejects
        (0, 0, 5, 34),  # but for one good part in twenty at most
    ],
)
def test_a_candidate_is_no_worse_than_the_model_in_force_on_either_side(
    rejected: int, missed: int, now_rejected: int, now_missed: int
) -> None:
    good, defective = np.arange(100.0), np.arange(60.5, 160.5)
    choice = no_worse_than(WrongBefore(rejected, missed), good, defective)
    threshold = choice.threshold(good, defective)
    wrong = int((good >= threshold).sum()), int((defective < threshold).sum())
    assert wrong == (now_rejected, now_missed)


def test_a_learned_version_is_built_again_bit_by_bit_of_what_its_folder_has(tmp_path: Path) -> None:
    teacher = write_small_teacher(tmp_path)
    bench = TeachingBench(tmp_path, teacher, 12)
    bench.begin()
    for name in ("00_good", "01_good", "03_good", "05_good"):
        assert bench.capture(read_image(FRAMES / f"{name}.jpg")) == ""
    assert bench.build().result is not None
    bench.release()
    marks = [("false_reject", "08_good"), ("missed_defect", "06_stain")]
    results = [("OK", "10_good"), ("OK", "13_good"), ("NOK", "02_scratch")]
    bench.learn(
        [
            MarkedImage.model_validate({"seq": seq, "mark": mark, "path": f"{FRAMES}/{name}.jpg"})
            for seq, (mark, name) in enumerate(marks)
        ],
        [
            InspectedPart.model_validate(
                {"seq": seq, "id": name, "result": result, "path": f"{FRAMES}/{name}.jpg"}
            )
            for seq, (result, name) in enumerate(results, 9)
        ],
    )
    assert bench.build().result is not None
    bench.release()

    version = bench.recipes.load("nut", 2)
    order = read_taught(version.folder)
    assert order is not None and order.balanced is not None
    groups = (order.images, order.confirmed, order.passed, order.defective, order.rejected)
    assert [len(group) for group in groups] == [5, 1, 2, 1, 1]
    kept = {path.stem: path for path in bench.recipes.images("nut").iterdir()}

    def files(contents: Sequence[str]) -> list[Path]:
        return [kept[content] for content in contents]

    again = build(
        BuildOrder(
            name="nut",
            teacher=teacher,
            images=files(order.images),
            confirmed=files(order.confirmed),
            passed=files(order.passed),
            defective=files(order.defective),
            rejected=files(order.rejected),
            order=TeachingOrder(
                seed=order.seed,
                with_views=order.views,
                check_good=order.check_good,
                view=make_view(version, mask=version.mask),
                threshold=ThresholdChoice(ThresholdMethod.BALANCED, order.balanced),
            ),
            threads=1,
        )
    )
    before = load_bundle(version.model)
    assert again.order() == order
    assert again.bundle.xml == version.model.read_bytes()
    assert again.bundle.weights == version.model.with_suffix(".bin").read_bytes()
    assert again.bundle.manifest.threshold == before.manifest.threshold
    assert again.bundle.manifest.normalization == before.manifest.normalization
    assert again.bundle.manifest.self_test == before.manifest.self_test
