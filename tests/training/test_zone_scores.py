"""Zones: what good images score in each, and which threshold would reject how many of them."""

from pathlib import Path

import numpy as np
import pytest

from edge.bundle.input_spec import Areas, InputSpec, Zone
from edge.imaging.frame import PixelFormat
from edge.inspection.areas import AreaScore
from edge.inspection.thresholding import lowest_that_rejects
from training.data.samples import GOOD, Sample
from training.figures import Scored
from training.threshold_option import AUTOMATIC, parse_threshold
from training.zone_scores import zone_lines, zone_scores

SQUARE = ((0.0, 0.0), (40.0, 0.0), (40.0, 40.0), (0.0, 40.0))
FACE, RIM = Zone(name="face", polygon=SQUARE, threshold=2.5), Zone(name="rim", polygon=SQUARE)
SPEC = InputSpec(
    height=32,
    width=32,
    pixel_formats=(PixelFormat.BGR8,),
    areas=Areas(width=64, height=64, zones=(FACE, RIM)),
)


def scored(number: int, face: float, kind: str = GOOD) -> Scored:
    return Scored(
        sample=Sample(path=Path(f"{number}.png"), kind=kind),
        frame=(64, 64),
        score=1.0,
        anomaly_map=np.zeros((4, 4), np.float32),
        areas=(AreaScore(FACE, face, 0), AreaScore(RIM, 0.5, 0), AreaScore(None, 1.0, 0)),
    )


ITEMS = [scored(number, 1.0 + number / 100) for number in range(100)]
ITEMS += [scored(100, 9.0), scored(101, 8.0, "scratch")]


def test_a_zone_has_the_scores_of_good_images_alone() -> None:
    face, rim = zone_scores(ITEMS, SPEC, 4.0, parse_threshold("auto"), suspects={ITEMS[100].sample})
    assert (face.name, face.count, face.own, face.threshold) == ("face", 100, True, 2.5)
    assert face.median == pytest.approx(1.495)
    assert face.highest == pytest.approx(1.99)
    assert face.rejected == 0
    # One of a hundred may be rejected: the gap below the highest.
    assert 1.98 < face.proposed < 1.99
    assert face.rejected_then == 1
    assert (rim.own, rim.threshold, rim.rejected) == (False, 4.0, 0)
    assert rim.proposed == np.nextafter(np.float32(0.5), np.float32(np.inf))


def test_the_rate_is_that_of_the_threshold() -> None:
    assert AUTOMATIC == "auto"
    for text, rejected in (("false-reject-rate=0.05", 5), ("balanced=0.02", 2), ("f1", 1)):
        face, _ = zone_scores(ITEMS[:100], SPEC, 4.0, parse_threshold(text))
        assert face.rejected_then == rejected


def test_its_line_has_the_exact_interval() -> None:
    face, rim = zone_lines(zone_scores(ITEMS, SPEC, 4.0, parse_threshold("auto")))
    assert face == (
        "zone face: good images score 1.5 (median) to 9; its threshold 2.5 rejects 1 of 101, "
        "1.0% (95 %: 0.0% to 5.4%); 5.495 would reject 1 of 101, 1.0% (95 %: 0.0% to 5.4%)"
    )
    assert "the common threshold 4 rejects 0 of 101" in rim


def test_without_zones_there_is_nothing_to_say() -> None:
    spec = SPEC.model_copy(update={"areas": None})
    assert zone_scores(ITEMS, spec, 4.0, parse_threshold("auto")) == ()


def test_of_few_good_scores_none_is_rejected() -> None:
    scores = np.array([3.0, 1.0, 2.0], np.float32)
    assert lowest_that_rejects(scores, 0.3) == np.nextafter(np.float32(3.0), np.float32(np.inf))
    assert lowest_that_rejects(scores, 0.34) == 2.5
    with pytest.raises(ValueError, match="no scores of good images"):
        lowest_that_rejects(scores[:0], 0.1)
    with pytest.raises(ValueError, match="the rate lies between 0 and 1"):
        lowest_that_rejects(scores, 1.0)
