"""The report: complete, honest about its limits, one file without anything from elsewhere."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from edge.bundle.manifest import ThresholdMethod
from edge.imaging.frame import Frame
from edge.inspection.decision import Result
from edge.inspection.inspector import Inspector
from tests.support.small_training import good_image, write_folder
from training.checkpoint import Checkpoint, load_checkpoint
from training.cli import main
from training.data.open_data_set import open_judging
from training.data.settings import DataSettings
from training.evaluation import TorchPredictor
from training.fit_pipeline import find_device
from training.report.charts import points_chart, roc_chart, score_histogram
from training.report.evidence import MISSED, Evidence, Gallery, ImageRow, gather
from training.report.page import Subject, report_page

SUBJECT = Subject("slopes.safetensors", "ab" * 32, datetime(2026, 1, 2, tzinfo=UTC), {"torch": "2"})


@pytest.fixture(scope="module")
def loaded(checkpoint: Path) -> Checkpoint:
    return load_checkpoint(checkpoint)


def judged(loaded: Checkpoint, settings: DataSettings | Path, name: str = "test") -> Evidence:
    samples = open_judging(settings, loaded.description.seed, loaded.seen).samples
    predictor = TorchPredictor(loaded.model, loaded.description.input, find_device("cpu"))
    return gather(loaded, predictor, samples, name, purpose="test")


@pytest.fixture(scope="module")
def evidence(loaded: Checkpoint, data: Path) -> Evidence:
    return judged(loaded, data)


@pytest.fixture(scope="module")
def page(loaded: Checkpoint, evidence: Evidence) -> str:
    return report_page(SUBJECT, loaded.description, evidence)


class _Checked(HTMLParser):
    """Notes tags that are not closed and every address that is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(f"{tag} {sorted(name for name, _ in attributes)}")
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        wanted = ("src", "href", "data", "action", "poster")
        self.addresses += [value or "" for name, value in attributes if name in wanted]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_for_nothing_from_elsewhere(page: str) -> None:
    checked = _Checked()
    checked.feed(page)
    assert checked.open == []
    assert checked.addresses
    assert all(address.startswith("data:image/jpeg;base64,") for address in checked.addresses)
    assert "<script" not in page
    assert not re.findall(r"url\(|@import|https?://(?!www\.w3\.org)", page)
    assert "default-src 'none'" in page


def test_the_page_holds_what_an_engineer_signs(page: str, loaded: Checkpoint) -> None:
    text = re.sub(r"<[^>]+>", " ", page)
    for wanted in (
        "Image AUROC",
        "95 % interval",
        "Newcombe",
        "Wilson",
        "rejecting everything: 0.6667",
        loaded.description.training.dataset_fingerprint,
        SUBJECT.sha256,
        "released for production",
        "Signature",
        "0 of 4",
        "Missed defects",
        "No defect was missed.",
        "quantile of good scores with a margin",
        "spot, the hardest first",
        "02 January 2026",
    ):
        assert wanted in text
    assert page.count("<svg") == 2


@pytest.mark.parametrize("method", ThresholdMethod)
def test_a_report_names_the_method_of_every_threshold(
    loaded: Checkpoint, evidence: Evidence, method: ThresholdMethod
) -> None:
    threshold = loaded.description.threshold.model_copy(update={"method": method})
    described = loaded.description.model_copy(update={"threshold": threshold})

    text = report_page(SUBJECT, described, evidence)

    assert re.search(r"<dt>Method</dt><dd>[a-z]", text)


def test_shares_are_percent_everywhere_and_the_next_step_is_named(
    loaded: Checkpoint, data: Path
) -> None:
    threshold = loaded.description.threshold.model_copy(update={"image": 1e6})
    blind = loaded.description.model_copy(update={"threshold": threshold})
    missing = judged(replace(loaded, description=blind), data)
    text = re.sub(r"<[^>]+>", " ", report_page(SUBJECT, blind, missing))
    assert "4 of 4 (100.0%)" in text
    assert "51.0% to 100.0% (Wilson)" in text
    assert "misses nearly every defect: look at the missed ones below" in text
    assert not re.search(r"0\.\d+ to \d\.\d+ \(Wilson\)", text)

    threshold = threshold.model_copy(update={"image": -1.0})
    strict = loaded.description.model_copy(update={"threshold": threshold})
    rejecting = judged(replace(loaded, description=strict), data)
    text = report_page(SUBJECT, strict, rejecting)
    assert "rejects nearly every good part: try" in text
    known = strict.threshold.good_count
    assert (
        f"with {50 - known} good images more: it takes 50 that the model was not fitted on" in text
    )
    assert f"and has {known}" in text


def test_a_missed_part_is_shown_once_and_every_image_can_be_enlarged(
    loaded: Checkpoint, data: Path
) -> None:
    threshold = loaded.description.threshold.model_copy(update={"image": 1e6})
    blind = loaded.description.model_copy(update={"threshold": threshold})
    page = report_page(SUBJECT, blind, judged(replace(loaded, description=blind), data))
    for number in range(4):
        assert page.count(f'<span class="caption">spot/{number:03d}.png') == 1
    assert page.count("<img ") == page.count('<details class="card"><summary><img ')


def test_a_report_on_few_images_says_so(page: str) -> None:
    assert "Only 4 defective images." in page


def test_synthetic_defects_are_marked_wherever_they_are_shown(
    loaded: Checkpoint, tmp_path: Path
) -> None:
    root = write_folder(tmp_path / "parts", good=20, defective=0)
    found = judged(loaded, DataSettings(path=root, synthetic_defects=6))
    page = report_page(SUBJECT, loaded.description, found)
    assert "<b>Synthetic defects.</b> 6 of the images" in page
    assert "synthetic defects (6)" in page
    assert "synthetic defects found" in page
    cards = re.findall(r'<span class="caption">[^<]*~synthetic.*?</span>', page)
    assert cards
    assert all('<b class="synthetic">synthetic</b>' in card for card in cards)
    assert "synthetic-scratch</th>" in page


def test_without_defects_the_report_says_what_is_not_known(
    loaded: Checkpoint, tmp_path: Path
) -> None:
    found = judged(loaded, write_folder(tmp_path / "parts", good=20, defective=0))
    page = report_page(SUBJECT, loaded.description, found)
    assert "No defective images." in page
    assert "ROC: what" not in page
    assert page.count("<svg") == 1


def test_names_from_the_disk_cannot_change_the_page(loaded: Checkpoint, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "parts", good=20, defective=4)
    odd = root / "defect" / "<b onload=x>"
    (root / "defect" / "spot").rename(odd)
    page = report_page(SUBJECT, loaded.description, judged(loaded, root))
    assert "<b onload" not in page
    assert "&lt;b onload=x&gt;" in page


def test_names_with_markup_add_no_tag_to_the_page(loaded: Checkpoint, tmp_path: Path) -> None:
    evil = '"><img src=x onerror=alert(1)>{{ 7*7 }}&amp;'
    root = write_folder(tmp_path / "parts", good=20, defective=4)
    plain = report_page(SUBJECT, loaded.description, judged(loaded, root))
    (root / "defect" / "spot").rename(root / "defect" / evil)
    training = loaded.description.training.model_copy(
        update={"dataset": evil, "hyperparameters": {evil: evil, "threshold": evil}}
    )
    description = loaded.description.model_copy(update={"training": training})
    subject = replace(SUBJECT, file=evil, made_with={evil: evil})

    page = report_page(subject, description, judged(loaded, root, name=evil))

    def tags(text: str) -> list[str]:
        found = _Checked()
        found.feed(text)
        return found.tags

    assert sorted(set(tags(page))) == sorted(set(tags(plain)))
    assert "onerror=alert(1)>" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;{{ 7*7 }}&amp;amp;" in page


def test_images_that_could_not_be_inspected_are_listed(loaded: Checkpoint, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "parts", good=20, defective=4)
    for path in (root / "good").iterdir():
        assert cv2.imwrite(str(path), np.zeros((80, 112, 3), np.uint8))
    page = report_page(SUBJECT, loaded.description, judged(loaded, root))
    assert "images could not be inspected" in page
    assert "Not inspected" in page


def test_a_gallery_keeps_the_most_informative_images_however_many_are_offered(
    loaded: Checkpoint,
) -> None:
    inspector = Inspector(
        TorchPredictor(loaded.model, loaded.description.input, find_device("cpu")),
        loaded.description,
    )
    inspection = inspector.inspect(
        Frame(pixels=good_image(1), number=0, captured_ns=0, captured_utc_ns=0)
    )
    gallery = Gallery()
    for number in [7, 3, 9, 1, 8, 2, 6, 0, 5, 4]:
        row = ImageRow(
            label=str(number),
            kind="spot",
            defective=True,
            synthetic=False,
            score=float(number),
            normalized=0.1,
            result=Result.OK,
            reason="below",
            detail="",
        )
        gallery.offer(row, good_image(number), inspection)
    assert [shown.row.label for shown in gallery.group(MISSED)] == ["0", "1", "2", "3", "4", "5"]


def test_charts_are_well_formed_whatever_the_scores() -> None:
    random = np.random.default_rng(0)
    for count in (1, 2, 50):
        scores = random.normal(0, 1, count) * 10.0 ** random.integers(-6, 6)
        labels = np.arange(count) >= count // 2
        ElementTree.fromstring(score_histogram(scores, labels, 0.3, (0.1, 0.5)))
        ElementTree.fromstring(points_chart([(s, s, "<a>") for s in scores], "x", "y", "t"))
        if labels.any() and not labels.all():
            ElementTree.fromstring(roc_chart(scores, labels, 0.3))
    assert roc_chart(np.array([1.0]), np.array([True]), 0.3) == ""
    ElementTree.fromstring(score_histogram(np.zeros(3), np.zeros(3, np.bool_), 0.0))


def test_a_fit_writes_its_report_beside_the_checkpoint(checkpoint: Path) -> None:
    page = checkpoint.with_suffix(".html").read_text()
    assert "the test images" in page
    assert checkpoint.name in page


def test_test_writes_a_report_of_the_set_it_tested(
    checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    report = tmp_path / "r.html"
    assert main(["test", str(checkpoint), "--data", str(data), "--report", str(report)]) == 0
    assert "Inspection model report" in report.read_text()
