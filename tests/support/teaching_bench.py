"""Teaching without a station: frames are handed in, and each is looked at before the next."""

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from edge.contract.event import Datum
from edge.contract.verdict import Recipe
from edge.hmi.actions import (
    Actor,
    BeginTeaching,
    BuildCandidate,
    CaptureToTeach,
    InspectedPart,
    MarkedImage,
    ReleaseCandidate,
    TeachBody,
    TeachBuildBody,
    TeachCaptureBody,
    TeachReleaseBody,
)
from edge.hmi.contents import TeachingStatus
from edge.hmi.station_end.teaching.teaching import Teaching, TeachingServices
from edge.imaging.frame import Frame, FrameStatus, Pixels
from edge.recipes.folder import RecipeFolder
from edge.settings.layers import SettingsLayers
from edge.settings.overrides import Overrides
from edge.settings.station import Settings
from tests.support.page_station import wait_until
from tests.support.sample_verdict import sample_verdict

KIM = Actor("Kim", "1.2.3.4")


class TeachingBench:
    """The teaching of a station; what is built is built in a process, as there.

    Attributes:
        folder: of the journal, where teaching keeps its files.
        recipes: what is released is put in force there.
        masks: what is drawn at the page.
    """

    def __init__(
        self, folder: Path, teacher: Path, max_images: int = 3, /, plc: bool = False, **teach: str
    ) -> None:
        (folder / "recipes").mkdir(parents=True, exist_ok=True)
        public_key = teach.pop("public_key", None)
        settings = Settings.model_validate(
            {
                "camera": {"uri": "none", "trigger": {"mode": "software" if plc else "free_run"}},
                "model": {"path": "none.xml", "public_key": public_key},
                "modbus": {"host": "127.0.0.1"} if plc else None,
                "journal": {"folder": str(folder / "journal")},
                "recipes": {"folder": str(folder / "recipes"), "max_images": max_images},
                "teach": {"teacher": str(teacher), "threads": 1, **teach},
            }
        )
        self.folder = folder / "journal"
        self.recipes = RecipeFolder(folder / "recipes")
        self.masks = Overrides.beside(self.folder).masks
        self.teaching = Teaching(
            TeachingServices(
                settings=settings,
                journal_folder=self.folder,
                candidate=lambda _: pytest.fail("nothing is tried"),
                choose_recipe=self._choose,
                recipe=lambda: None,
                of_settings=lambda: Recipe("bolt", 1),
                recipe_settings=SettingsLayers(settings, lambda: settings, self.folder).of,
                record_event=lambda _: None,
            )
        )

    def _choose(self, name: str, version: int | str | None) -> Mapping[str, Datum]:
        assert isinstance(version, int)
        self.recipes.put_in_force(name, version)
        return {}

    def begin(self, name: str = "Kim", recipe: str = "nut") -> None:
        self.teaching.do(BeginTeaching(body=TeachBody(recipe=recipe)), Actor(name, "1.2.3.4"))

    def learn(self, marked: list[MarkedImage], inspected: list[InspectedPart]) -> None:
        body = TeachBody(recipe="nut", learn=True)
        self.teaching.do(BeginTeaching(body=body, marked=marked, inspected=inspected), KIM)

    def capture(self, pixels: Pixels, status: FrameStatus = FrameStatus.COMPLETE) -> str:
        """Return why a frame is not taken to teach with; empty where it is."""
        before = self.teaching.status()
        self.teaching.do(CaptureToTeach(body=TeachCaptureBody()), KIM)
        now_ns = time.monotonic_ns()
        frame = Frame(
            pixels=pixels,
            number=1,
            captured_ns=now_ns,
            captured_utc_ns=0,
            status=status,
            detail="packets are missing",
        )
        self.teaching.on_verdict(sample_verdict(of=frame))
        self.teaching.look()
        now = self.teaching.status()
        assert len(now.images) - len(before.images) + now.not_taken - before.not_taken == 1
        return now.why_not

    def build(self) -> TeachingStatus:
        """Build, and return what came of it."""
        self.teaching.do(BuildCandidate(body=TeachBuildBody()), KIM)

        def built() -> bool:
            self.teaching.look()
            return self.teaching.status().phase != "building"

        wait_until(built, "the build has ended")
        return self.teaching.status()

    def release(self) -> None:
        self.teaching.do(ReleaseCandidate(body=TeachReleaseBody(comment="tested")), KIM)
