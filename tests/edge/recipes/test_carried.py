"""What is set at the page of one station goes with an exported recipe to the next one."""

import json
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge.bundle.input_spec import Areas
from edge.bundle.mask_file import mask_content, read_mask_file
from edge.cli.main import main
from edge.hmi.masks import Stroke
from edge.inspection.criteria import guarantee_in_force
from edge.inspection.decision import Result
from edge.recipes.content import read_recipe
from edge.settings.mask_overrides import MaskOverrides
from tests.support.page_drawer import ELSEWHERE, OVER_DEFECT, Drawer
from tests.support.recipe_site import RecipeSite

PAINTED = Stroke(width_px=50, erase=False, points=((100, 30), (140, 30)))


class Site(RecipeSite):
    """A station with its settings in a file, as the commands read them."""

    def __init__(self, folder: Path, bundle: Path, **sections: Any) -> None:
        folder.mkdir()
        super().__init__(folder, bundle)
        self.written |= sections
        self.start()
        self.config = folder / "station.yaml"
        self.config.write_text(yaml.safe_dump(self.written))

    def at_the_page(self) -> Drawer:
        return Drawer(self)


Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def command(site: Site, *words: object, code: int = 0) -> str:
        capsys.readouterr()
        given = ["--recipe", *map(str, words), "--config", str(site.config)]
        assert main(given) == code
        output = capsys.readouterr()
        return output.out if code == 0 else output.err

    return command


@pytest.fixture
def here(tmp_path: Path, bundle: Path) -> Site:
    """A station at whose page nut is inspected."""
    site = Site(tmp_path / "here", bundle, mqtt={"url": "mqtt://x", "station": "p/l/here/top"})
    site.at_the_page().change_over("nut", 1)
    return site


@pytest.fixture
def there(tmp_path: Path, bundle: Path) -> Site:
    return Site(tmp_path / "there", bundle)


@pytest.mark.parametrize(
    "drawn",
    [
        {"ignore": [OVER_DEFECT]},
        {"strokes": [PAINTED], "ignore": [ELSEWHERE]},
        {"zones": [{"name": "seal", "polygon": OVER_DEFECT, "threshold": 500.0}]},
        {},
    ],
    ids=["polygon", "painted", "zone", "no mask"],
)
def test_an_imported_recipe_judges_as_the_station_that_exported_it(
    here: Site, there: Site, tmp_path: Path, run: Run, drawn: dict[str, Any]
) -> None:
    drawer, file = here.at_the_page(), tmp_path / "nut.recipe"
    if drawn:
        drawer.draw(30.0, **drawn)
    drawer.set_threshold(31.5)

    exported = run(here, "export", "nut", file)
    imported = run(there, "import", file)
    run(there, "use", "nut@3")

    there.start()
    at_b = there.at_the_page()
    at_b.change_over("nut", 3)
    own, other = here.model.store.current, there.model.store.current
    assert other.criteria == own.criteria and own.criteria.threshold == 31.5
    assert other.bundle.sha256 == own.bundle.sha256
    assert at_b.result() is drawer.result()
    assert guarantee_in_force(own.bundle.manifest, own.criteria) == guarantee_in_force(
        other.bundle.manifest, other.criteria
    )
    for printed in (exported, imported):
        assert "in the file: threshold 31.5 set at the page of p/l/here/top by Kim" in printed
        assert ("mask and zones set at the page of p/l/here/top" in printed) == bool(drawn)


def test_a_version_says_who_set_what_at_which_page_also_at_the_station_after_the_next(
    here: Site, there: Site, tmp_path: Path, run: Run
) -> None:
    here.at_the_page().draw(30.0, ignore=[OVER_DEFECT])
    run(here, "export", "nut", tmp_path / "a.recipe")
    run(there, "import", tmp_path / "a.recipe")
    there.at_the_page().change_over("nut", 3)
    there.at_the_page().set_threshold(40.0)

    run(there, "export", "nut", tmp_path / "b.recipe")
    run(here, "import", tmp_path / "b.recipe")

    made = here.folder.load("nut", 3).content
    assert made.decision.image_threshold == 40.0
    assert made.set_at_page is not None
    threshold, mask = made.set_at_page.image_threshold, made.set_at_page.mask
    assert threshold is not None and (threshold.by, threshold.station) == ("Kim", "")
    assert mask is not None and (mask.by, mask.station) == ("Kim", "p/l/here/top")


def test_an_export_as_published_leaves_out_what_was_set_and_names_it(
    here: Site, there: Site, tmp_path: Path, run: Run
) -> None:
    drawer = here.at_the_page()
    drawer.draw(30.0, ignore=[OVER_DEFECT])
    file = tmp_path / "nut.recipe"

    exported = run(here, "export", "nut", file, "--as-published")

    assert "not in the file, as --as-published asks: the threshold 30 set by Kim" in exported
    assert "made of" not in run(there, "import", file)  # the one that is there
    at_b = there.at_the_page()
    at_b.change_over("nut", 1)
    assert (drawer.result(), at_b.result()) == (Result.OK, Result.NOK)
    with zipfile.ZipFile(file) as archive:  # as stations of before read it
        assert json.loads(archive.read("manifest.json"))["schema_version"] == "recipe-archive/1"


def test_an_export_of_a_folder_alone_says_that_no_page_was_looked_at(
    here: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here.at_the_page().set_threshold(40.0)
    words = ["--recipe", "export", "nut", str(tmp_path / "nut.recipe")]

    for config in ([], ["--config", str(here.config)]):
        assert main([*words, "--recipes", str(here.folder.path), *config]) == 0
        assert "not in the file: what was set for it at the page of a station" in (
            capsys.readouterr().out
        )


def test_what_a_recipe_leaves_to_the_station_is_named_at_both(
    tmp_path: Path, bundle: Path, there: Site, run: Run
) -> None:
    here = Site(tmp_path / "here", bundle, decision={"guard_band": 0.05})
    file = tmp_path / "nut.recipe"
    exported = run(here, "export", "nut", file)
    assert "not in the file, the next station has its own: decision.guard_band 0.05" in exported
    assert "this station has: decision.guard_band 0.0" in run(there, "import", file)


def test_what_was_set_for_another_version_is_named_when_a_version_is_put_in_force(
    here: Site, run: Run
) -> None:
    here.at_the_page().set_threshold(40.0)

    used = run(here, "use", "nut@2")
    assert "the threshold 40 set by Kim" in used
    assert "for version 1: this stays with that version" in used
    assert "set by Kim" not in run(here, "show", "nut@2")

    assert "the threshold 40 set by Kim" in run(here, "use", "nut@1")
    assert "this counts in place of the above" in run(here, "show", "nut")


def test_what_the_next_version_decides_by_as_well_is_not_named_as_left_behind(
    here: Site, tmp_path: Path, run: Run
) -> None:
    here.at_the_page().draw(30.0, strokes=[PAINTED])
    run(here, "export", "nut", tmp_path / "nut.recipe")
    assert "recipe nut version 3: imported, not in" in run(here, "import", tmp_path / "nut.recipe")

    assert "stays with that version" not in run(here, "use", "nut@3")
    assert run(here, "use", "nut@2").count("stays with that version") == 0  # of 3, which has none
    run(here, "use", "nut@1")
    here.at_the_page().change_over("nut", 3)
    assert "left_behind" not in here.events[-1].data
    here.at_the_page().change_over("nut", 1)
    here.at_the_page().set_threshold(31.0)
    here.at_the_page().change_over("nut", 3)
    left = here.events[-1].data["left_behind"]
    assert isinstance(left, str) and left.startswith("the threshold 31 set by Kim")
    assert "mask" not in left


def test_a_damaged_version_in_force_keeps_no_other_from_replacing_it(here: Site, run: Run) -> None:
    (here.folder.load("nut", 1).folder / "recipe.yaml").write_text("{")
    assert "what was set for version 1 is not known" in run(here, "use", "nut@2")
    assert here.folder.in_force("nut") == 2


def test_an_equal_version_that_is_there_with_a_mask_of_its_page_is_named_with_it(
    here: Site, there: Site, tmp_path: Path, run: Run
) -> None:
    file = tmp_path / "nut.recipe"
    run(there, "export", "nut@1", file)
    here.at_the_page().draw(ignore=[OVER_DEFECT])

    imported = run(here, "import", file)

    assert "recipe nut version 1: is here already, with the same content; in force" in imported
    assert "this counts in place of what the file says" in imported


def test_a_bundle_that_becomes_a_recipe_brings_nothing_of_the_page_and_says_so(
    here: Site, bundle: Path, run: Run
) -> None:
    here.at_the_page().change_over("bottle", 1)
    here.at_the_page().set_threshold(40.0)
    added = run(here, "add", "new", bundle)
    assert "the threshold 40 set by Kim" in added and "for model.path: not in the recipe" in added
    assert "page " not in run(here, "add", "new", here.other)


def test_a_painted_mask_is_added_to_a_recipe_as_one_of_polygons_is(
    here: Site, bundle: Path, tmp_path: Path, run: Run
) -> None:
    areas = Areas(width=4, height=2, ignored_runs=(3, 5))
    for path, content in mask_content(areas, tmp_path / "own.yaml"):
        path.write_bytes(content)
    run(here, "add", "new", bundle, "--mask", tmp_path / "own.yaml")
    added = here.folder.load("new", 1)
    assert added.mask is not None and read_mask_file(added.mask) == areas


def test_drawings_that_cannot_be_read_refuse_an_export_and_a_change_before_it_is_made(
    here: Site, tmp_path: Path, run: Run
) -> None:
    here.at_the_page().draw(ignore=[OVER_DEFECT])
    (here.journal / "masks" / "masks.json").write_text("{")
    file = tmp_path / "nut.recipe"
    for words in (("export", "nut", file), ("use", "nut@2")):
        assert "draw the mask again" in run(here, *words, code=78)
    assert not file.exists() and here.folder.in_force("nut") == 1


def test_a_new_threshold_never_goes_out_with_the_mask_before(
    here: Site, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawer, write = here.at_the_page(), MaskOverrides.write
    drawer.draw(30.0, ignore=[OVER_DEFECT])
    monkeypatch.setattr("edge.settings.overrides.READ_WAIT_S", 0.0)
    refused: list[str] = []

    def write_after_exports(masks: MaskOverrides, *given: Any) -> None:
        refused.append(run(here, "export", "nut", tmp_path / "nut.recipe", code=78))
        words = ["--backup", str(tmp_path / "a.backup"), "--config", str(here.config)]
        assert main(words) == 78
        write(masks, *given)

    monkeypatch.setattr(MaskOverrides, "write", write_after_exports)
    drawer.draw(40.0, ignore=[ELSEWHERE])
    assert refused and all("is being changed at the page" in one for one in refused)
    assert not (tmp_path / "nut.recipe").exists() and not (tmp_path / "a.backup").exists()


def test_exports_while_somebody_draws_carry_one_drawing_whole(
    here: Site, tmp_path: Path, run: Run
) -> None:
    drawer, done = here.at_the_page(), threading.Event()
    pairs = {30.0: OVER_DEFECT, 40.0: ELSEWHERE}

    def draw() -> None:
        while not done.is_set():
            for threshold, polygon in pairs.items():
                drawer.draw(threshold, ignore=[polygon])

    drawer.draw(40.0, ignore=[ELSEWHERE])
    with ThreadPoolExecutor(1) as pool:
        drawing = pool.submit(draw)
        try:
            for count in range(10):
                file, taken = tmp_path / f"{count}.recipe", tmp_path / str(count)
                run(here, "export", "nut", file)
                with zipfile.ZipFile(file) as archive:
                    archive.extractall(taken)
                threshold = read_recipe(taken / "version").decision.image_threshold
                areas = read_mask_file(taken / "version" / "mask.yaml")
                assert threshold is not None and areas.ignore == (pairs[threshold],)
        finally:
            done.set()
        drawing.result()


def test_what_was_set_and_does_not_count_any_more_is_in_no_file_and_is_named(
    here: Site, tmp_path: Path, run: Run
) -> None:
    here.at_the_page().draw(30.0, ignore=[OVER_DEFECT])
    for name, other in (("overrides.json", "20.0"), ("masks/masks.json", '"other.yaml"')):
        kept = here.journal / name
        kept.write_text(kept.read_text().replace('of": null', f'of": {other}'))
    exported = run(here, "export", "nut", tmp_path / "nut.recipe")
    for printed in (exported, run(here, "show", "nut")):
        assert "not used here any more: the threshold 30 set at the page: decision." in printed
        assert "not used here any more: the mask mask-" in printed
    with zipfile.ZipFile(tmp_path / "nut.recipe") as archive:
        assert "version/mask.yaml" not in archive.namelist()
        assert b"30" not in archive.read("version/recipe.yaml")


@pytest.mark.parametrize(
    ("before", "after", "cause"),
    [
        ("image_threshold: 30.0", "image_threshold: .nan", "must be a finite number"),
        ("by: Kim", '"by": "Kim\\n"', "not a plain character"),
        ("schema_version: recipe/2", "schema_version: recipe/3", "recipe/3"),
        ("decision:\n  image_threshold: 30.0\n", "", "needs decision.image_threshold"),
        ("mask.yaml", "", "names who drew its mask, and it has none"),
    ],
    ids=["not finite", "control character", "newer", "no threshold", "no mask"],
)
def test_a_file_changed_by_hand_is_refused_by_its_own_name(
    here: Site, there: Site, tmp_path: Path, run: Run, before: str, after: str, cause: str
) -> None:
    here.at_the_page().draw(30.0, ignore=[OVER_DEFECT])
    file, changed = tmp_path / "nut.recipe", tmp_path / "changed.recipe"
    run(here, "export", "nut", file)
    with zipfile.ZipFile(file) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(files.pop("manifest.json"))
    if before == "mask.yaml":
        files.pop("version/mask.yaml")
    else:
        text = files["version/recipe.yaml"].decode()
        assert before in text
        files["version/recipe.yaml"] = text.replace(before, after).encode()
    manifest["files"] = {
        name: {"bytes": len(one), "sha256": sha256(one).hexdigest()} for name, one in files.items()
    }
    with zipfile.ZipFile(changed, "w") as archive:
        for name, content in (files | {"manifest.json": json.dumps(manifest).encode()}).items():
            archive.writestr(name, content)

    refused = run(there, "import", changed, code=78)

    assert f"{changed}: " in refused and cause in refused and "Export it again" in refused
    assert ".new-" not in refused and "Publish" not in refused
    assert there.folder.versions("nut") == (1, 2)


@pytest.mark.parametrize("damage", ["damaged", "unreadable"])
def test_thresholds_that_cannot_be_read_refuse_an_export_of_the_mask_drawn_with_them(
    here: Site, tmp_path: Path, run: Run, damage: str
) -> None:
    here.at_the_page().draw(31.0, ignore=[OVER_DEFECT])
    kept, file = here.journal / "overrides.json", tmp_path / "nut.recipe"
    if damage == "damaged":
        kept.write_text("{")
    else:
        kept.unlink()
        kept.mkdir()
    for words in (("export", "nut", file), ("use", "nut@2")):
        assert "set them again at the page" in run(here, *words, code=78)
    assert not file.exists() and here.folder.in_force("nut") == 1


def test_an_export_without_the_journal_of_the_station_says_that_its_page_is_not_known(
    here: Site, tmp_path: Path, run: Run
) -> None:
    assert "page " not in run(here, "export", "nut", tmp_path / "nut.recipe")
    here.journal.rename(tmp_path / "elsewhere")
    assert f"not known: {here.journal}" in run(here, "export", "nut", tmp_path / "nut.recipe")


def test_a_threshold_that_no_recipe_can_have_is_refused_and_writes_no_file(
    here: Site, tmp_path: Path, run: Run
) -> None:
    here.at_the_page().set_threshold(40.0)
    kept = here.journal / "overrides.json"
    kept.write_text(kept.read_text().replace("40.0", "1e30"))
    file = tmp_path / "nut.recipe"
    refused = run(here, "export", "nut", file, code=78)
    assert "decision.image_threshold must be less than" in refused and "--as-published" in refused
    assert not file.exists()
