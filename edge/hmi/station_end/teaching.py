"""Teaching at the page: images are captured, a candidate is built, tried beside the line, released.

One session at a time, of one person. What takes long has a process (the build) or this module's
thread (images, the trial) of its own, below the line; the thread of actions only starts it. The
candidate's verdicts are in events ``trial_verdicts``, some at a time: no sink, no hand-shake and no
output sees them.
"""

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from edge.bundle.manifest import AlignMode, load_bundle
from edge.bundle.teacher import load_teacher
from edge.contract.encoding import utc_text
from edge.contract.event import Datum, Event, Severity
from edge.contract.verdict import Recipe, Verdict
from edge.errors import FrameUnsuitable, ImageUnreadable, OutputNotWritable, StationError
from edge.hmi.actions import (
    Actor,
    BeginTeaching,
    BuildCandidate,
    CandidateReleased,
    CaptureToTeach,
    EndTeaching,
    MarkedImage,
    ReleaseCandidate,
    StrikeOut,
    TeachAlignment,
    TeachBuildBody,
    TeachingAction,
    TeachingChanged,
    TryCandidate,
)
from edge.hmi.contents import (
    CapturedImage,
    Capturing,
    ContradictingMark,
    TeachingResult,
    TeachingStatus,
    TrialPart,
)
from edge.hmi.station_end.build_process import Build
from edge.hmi.station_end.teaching_folder import TeachingFolder, teaching_folder
from edge.hmi.station_end.teaching_session import (
    NotTaken,
    TeachingSession,
    TrialRun,
    shown_result,
    with_scores,
)
from edge.imaging.content_hash import pixels_hash
from edge.imaging.frame import FrameStatus, Pixels
from edge.imaging.image_files import read_image
from edge.inspection.inspector import Inspector
from edge.recipes.content import MAX_NOTE, follow_up
from edge.recipes.folder import MODEL, RecipeFolder, RecipeVersion, taught_place
from edge.recipes.taught import TAUGHT_FILE, read_taught
from edge.settings.station import Settings
from edge.settings.teach import TeachSettings
from edge.station.model.recipe_limits import demand_callable, demand_own_name
from edge.station.pipeline.mailbox import EveryMailbox
from edge.station.pipeline.sinks import memory_bytes
from edge.system.priority import READ_BESIDE
from edge.teaching.build_process import (
    AlignmentRequest,
    BuildReport,
    BuildRequest,
    RecipeAt,
)
from edge.teaching.images import taught_image
from edge.teaching.learning_from_marks import parts_beside_marks
from edge.teaching.refusals import TeachingNotPossible
from edge.teaching.scene_change import look_at, scene_changed

log = logging.getLogger(__name__)

LOOK_S = 0.1
# Parts that wait to be captured or judged; more are missed, and counted.
MAX_WAITING, MAX_WAITING_BYTES = 4, 128 * 2**20
# From then on somebody else may go on with what was begun, or end it.
ABANDONED_S = 900.0
MAX_TRIAL_PARTS = 24
MAX_ASKED = 20
UNNAMED = "token"


@dataclass(frozen=True, slots=True, kw_only=True)
class TeachingServices:
    """The parts of the station that teaching needs.

    Attributes:
        settings: with the sections ``teach`` and ``recipes``.
        journal_folder: teaching keeps its files beside the journal.
        candidate: loads a model that is not in force, for one thread.
        choose_recipe: changes over to a recipe by id and version, and puts it in force.
        of_settings: what the settings name for ``model.path``, which no recipe may be called.
        recipe: what is inspected for, by the raw ``threshold``.
        record_event: records who did what.
    """

    settings: Settings
    journal_folder: Path
    candidate: Callable[[Path], Inspector]
    choose_recipe: Callable[[str, int | str | None], Mapping[str, Datum]]
    recipe: Callable[[], Recipe | None]
    of_settings: Callable[[], Recipe | None]
    threshold: Callable[[], float]
    record_event: Callable[[Event], None]


class Teaching:
    """What people teach at the page of one station.

    ``do`` is called by the thread of actions, ``status`` by the page's, ``on_verdict`` behind the
    record of each verdict; ``run`` is the body of a thread of its own.
    """

    def __init__(self, services: TeachingServices) -> None:
        settings = services.settings
        assert settings.teach is not None and settings.recipes is not None  # whoever builds it
        self._teach: TeachSettings = settings.teach
        self._max_images = settings.recipes.max_images
        self._recipes = RecipeFolder(Path(settings.recipes.folder))
        key = settings.model.public_key
        self._public_key = Path(key) if key else None
        self._services = services
        self._folder: TeachingFolder = teaching_folder(services.journal_folder)
        self._lock = threading.RLock()
        self._session: TeachingSession | None = None
        self._last_number = 0
        self._frames: EveryMailbox[Verdict] = EveryMailbox(
            MAX_WAITING, max_bytes=MAX_WAITING_BYTES, size_bytes=memory_bytes
        )
        # Of a camera that runs free many frames show a part that moves.
        camera = settings.camera
        self._waits_until_still = camera.trigger.mode == "free_run" and camera.rate_fps is None
        self._wanting = False

    def on_verdict(self, verdict: Verdict) -> None:
        """Take a verdict with its frame, if anybody wants one; some microseconds."""
        if not self._wanting:
            return
        if self._frames.put(verdict) is not None:
            session = self._session
            trial = session.trial if session is not None else None
            if trial is not None:
                trial.missed += 1

    def status(self) -> TeachingStatus:
        """Return what there is to be seen."""
        with self._lock:
            session = self._session
            if session is None:
                return TeachingStatus(
                    phase="idle", may_view=self._teach.views, most=self._max_images
                )
            why = session.why_not
            return TeachingStatus.model_validate(
                {
                    "phase": session.phase,
                    "may_view": self._teach.views,
                    "recipe": session.recipe,
                    "learning": session.learning,
                    "by": session.by,
                    "begun_utc": session.begun_utc,
                    "capturing": session.capturing,
                    "images": list(session.images),
                    "width_px": session.size[1] if session.size is not None else 0,
                    "height_px": session.size[0] if session.size is not None else 0,
                    "aligned": session.aligned,
                    "most": self._max_images,
                    "waiting": session.asked,
                    "not_taken": session.not_taken,
                    "why_not": why.sentence if why is not None else "",
                    "why_kind": why.kind if why is not None else None,
                    "why_data": dict(why.data) if why is not None else {},
                    "contradicted": list(session.contradicted),
                    "step": session.step,
                    "refused": list(session.refused),
                    "refused_kind": session.refused_kind,
                    "refused_data": dict(session.refused_data),
                    "result": session.result,
                    "trial": session.trial.summary() if session.trial is not None else None,
                }
            )

    def do(self, action: TeachingAction, actor: Actor) -> TeachingChanged | CandidateReleased:
        """Carry out an action.

        Raises:
            StationError: it was not done; cause and next step.
        """
        try:
            return self._do(action, actor)
        except OutputNotWritable as error:  # for which the page has words in each language
            raise TeachingNotPossible(str(error), kind="disk") from error

    def _do(self, action: TeachingAction, actor: Actor) -> TeachingChanged | CandidateReleased:
        match action:
            case BeginTeaching():
                return self._begin(action, actor)
            case CaptureToTeach():
                return self._capture(action.body.automatic, actor)
            case StrikeOut():
                return self._strike(action.body.number, action.body.struck, actor)
            case BuildCandidate():
                return self._build(action.body, actor)
            case TryCandidate():
                return self._try(action.body.running, actor)
            case ReleaseCandidate():
                return self._release(action.body.comment, actor)
            case EndTeaching():
                return self._end(action.body.comment, actor)
        assert_never(action)

    # What people ask for.

    def _begin(self, action: BeginTeaching, actor: Actor) -> TeachingChanged:
        recipe = action.body.recipe
        if actor.name == UNNAMED:
            raise TeachingNotPossible(
                "teaching and releasing are recorded by name. Unlock the page with your name.",
                kind="unnamed",
            )
        demand_callable(self._services.settings, recipe)
        of_settings = self._services.of_settings()
        demand_own_name(of_settings.id if of_settings is not None else None, recipe)
        with self._lock:
            if self._session is not None:
                self._refuse_another(self._session)
        spec = load_teacher(Path(self._teach.teacher), self._public_key).manifest.input
        self._folder.begin()
        session = TeachingSession(
            recipe=recipe,
            learning=action.body.learn,
            by=actor.name,
            begun_utc=utc_text(time.time_ns()),
            spec=spec,
            aligned=self._aligned(recipe),
            used_s=time.monotonic(),
            inspected=tuple(action.inspected),
        )
        if session.learning:
            try:
                self._fill(session, action.marked)
            except StationError:
                self._folder.remove()
                raise
        with self._lock:
            self._session = session
        self._record(
            "teach_begun",
            f"{actor.name} started to teach {recipe}",
            actor,
            recipe=recipe,
            learning=session.learning,
            images=len(session.images),
            contradicted=len(session.contradicted),
        )
        return self._changed(session)

    def _fill(self, session: TeachingSession, marked: Sequence[MarkedImage]) -> None:
        """Begin with what a recipe was taught with, and with what people marked since.

        Raises:
            TeachingNotPossible: there is nothing to learn from.
            StationError: an image cannot be read or written.
        """
        version = self._recipes.load(session.recipe)
        taught = read_taught(version.folder)
        if taught is None:
            raise TeachingNotPossible(
                f"{version} was not taught here, and its images are not known. Teach it "
                "again, or learn from marks with train-station calibrate.",
                kind="not_taught_here",
                recipe=version.name,
                version=version.version,
            )
        defective, confirmed = set(taught.defective), set(taught.confirmed)
        sources = {path.stem: path for path in self._recipes.images(session.recipe).glob("*.*")}
        for content in (*taught.images, *taught.defective):
            path = sources.get(content)
            if path is None:
                raise TeachingNotPossible(
                    f"{version} was taught with image {content[:12]}, which is missing from "
                    f"{self._recipes.images(session.recipe)}: newer versions took its place "
                    "(recipes.max_images), or somebody removed it. Import the recipe with its "
                    "images, or teach it again.",
                    kind="taught_image_gone",
                    recipe=version.name,
                    version=version.version,
                )
            kind = "missed_defect" if content in defective else "taught"
            self._add(session, read_image(path), kind, confirmed=content in confirmed)
        learns = False
        for part in marked:
            if part.path is None or not Path(part.path).exists():
                session.not_taken += 1
                sentence = f"part {part.seq} is marked, but its image is no longer kept."
                session.why_not = NotTaken("image_gone", sentence, {"seq": part.seq})
                continue
            try:
                pixels = read_image(Path(part.path))
            except ImageUnreadable:  # cut, or gone since
                session.not_taken += 1
                sentence = f"part {part.seq} is marked, but its image cannot be read."
                session.why_not = NotTaken("image_gone", sentence, {"seq": part.seq})
                continue
            learns = self._add_marked(session, part, pixels) or learns
        if not learns:
            raise TeachingNotPossible(
                f"there are no marked parts of {session.recipe!r} that it was not taught "
                "with in this way. Mark parts that were judged wrongly; their images must be there "
                "(snapshots.recent_hours).",
                kind="nothing_marked",
                recipe=session.recipe,
            )

        self._fill_beside(session, {part.seq for part in marked})

    def _add_marked(self, session: TeachingSession, part: MarkedImage, pixels: Pixels) -> bool:
        """Take a marked part into a session; tell whether its mark says anything new.

        Where the very same image was taught before, the mark counts: it is what somebody says of it
        now. One that contradicts is named, because one of the two is wrong.
        """
        good = part.mark == "false_reject"
        number = session.contents.get(pixels_hash(pixels))
        if number is None:
            count = len(session.images)
            self._add(session, pixels, part.mark, seq=part.seq, confirmed=good)
            return len(session.images) > count
        index = [image.number for image in session.images].index(number)
        before = session.images[index]
        if before.kind == part.mark or (good and before.confirmed):
            return False
        if before.is_learned != good:
            session.contradicted.append(
                ContradictingMark(mark=part.mark, seq=part.seq, number=number)
            )
        session.images[index] = before.model_copy(
            update={"kind": part.mark, "confirmed": good, "seq": part.seq}
        )
        return True

    def _fill_beside(self, session: TeachingSession, marked: Collection[int]) -> None:
        """Add parts of the line that nobody marked: the threshold is held against them, too."""
        unmarked = [part for part in session.inspected if part.seq not in marked]
        chosen = parts_beside_marks(unmarked, self._max_images - len(session.images))
        for kind, parts in zip(("passed", "rejected"), chosen, strict=True):
            for part in parts:
                with suppress(ImageUnreadable):  # gone since
                    self._add(session, read_image(Path(part.path)), kind, seq=part.seq)

    def _add(
        self,
        session: TeachingSession,
        pixels: Pixels,
        kind: str,
        *,
        seq: int | None = None,
        confirmed: bool = False,
    ) -> None:
        """Take an image into a session, unless it is known or there are enough."""
        content = pixels_hash(pixels)
        if content in session.contents:
            return
        if len(session.images) >= self._max_images:
            session.not_taken += 1
            session.why_not = self._enough()
            return
        self._last_number += 1
        self._folder.keep(self._last_number, pixels)
        session.contents[content] = self._last_number
        session.size = session.size or pixels.shape
        session.images.append(
            CapturedImage.model_validate(
                {
                    "number": self._last_number,
                    "kind": kind,
                    "confirmed": confirmed,
                    "seq": seq,
                    "struck": False,
                }
            )
        )

    def _refuse_another(self, session: TeachingSession) -> None:
        raise TeachingNotPossible(
            f"{session.by} teaches {session.recipe!r} here since {session.begun_utc}. End "
            "that first, or wait until it is released.",
            kind="taught_by_other",
            by=session.by,
            recipe=session.recipe,
        )

    def _find_session(self, actor: Actor) -> TeachingSession:
        """Return the session that this person may go on with.

        Raises:
            TeachingNotPossible: there is none, or it is somebody else's.
        """
        session = self._session
        if session is None:
            raise TeachingNotPossible(
                "nothing is being taught here. Start with the recipe's name.", kind="not_begun"
            )
        if session.releasing:
            raise TeachingNotPossible(
                "the candidate is being released. Wait for it.", kind="releasing"
            )
        own = actor.name == session.by
        if not own and time.monotonic() - session.used_s < ABANDONED_S:
            self._refuse_another(session)
        session.by = actor.name
        session.used_s = time.monotonic()
        return session

    def _capture(self, automatic: Capturing | None, actor: Actor) -> TeachingChanged:
        with self._lock:
            session = self._find_session(actor)
            if automatic is not None:
                session.capturing = automatic
                session.before = None
                if automatic == "off":
                    session.asked = 0
            elif len(session.images) + session.asked >= self._max_images:
                raise TeachingNotPossible(self._no_more(), kind="enough", most=self._max_images)
            elif session.asked >= MAX_ASKED:
                raise TeachingNotPossible(
                    f"{MAX_ASKED} images were requested and no part has come. Check the camera.",
                    kind="no_part_comes",
                    n=MAX_ASKED,
                )
            else:
                session.asked += 1
                session.asked_ns = time.monotonic_ns()
            self._wanting = session.wants_frames
            return self._changed(session)

    def _no_more(self) -> str:
        return (
            f"{self._max_images} images are captured, the limit set by "
            "recipes.max_images. Exclude some and build, or raise the limit."
        )

    def _enough(self) -> NotTaken:
        return NotTaken("enough", self._no_more(), {"most": self._max_images})

    def _strike(self, number: int, struck: bool, actor: Actor) -> TeachingChanged:
        with self._lock:
            session = self._find_session(actor)
            if all(image.number != number for image in session.images):
                raise TeachingNotPossible(
                    f"there is no image {number}.", kind="no_such_image", n=number
                )
            session.images = [
                image.model_copy(update={"struck": struck}) if image.number == number else image
                for image in session.images
            ]
            return self._changed(session)

    def _build(self, asked: TeachBuildBody, actor: Actor) -> TeachingChanged:
        views = asked.views
        with self._lock:
            session = self._find_session(actor)
            if session.build is not None:
                raise TeachingNotPossible(
                    "it is being built already. Wait for it.", kind="building"
                )
            if views and not self._teach.views:
                raise TeachingNotPossible(
                    "turned and shifted views are not allowed here. Set teach.views, if parts "
                    "may lie in any orientation.",
                    kind="views_off",
                )
            taught = session.taught
            if not any(image.is_learned for image in taught):
                raise TeachingNotPossible(
                    "no image is left. Capture 20 good parts.", kind="no_images"
                )
            alignment = self._alignment(asked.alignment, taught)
            before, before_threshold = self._before(session)
            self._stop_trial(session)
            folder = self._folder.begin_build(session.builds + 1)
            session.builds += 1
            session.building_of = frozenset(image.number for image in taught)
            session.step, session.refused, session.refused_kind = 0, [], ""
            session.capturing, session.asked = "off", 0
            self._wanting = session.wants_frames
            line = self._folder.keep_line(session.builds, session.inspected)
            session.build = Build(
                BuildRequest(
                    name=session.recipe,
                    teacher=self._teach.teacher,
                    images=self._paths(one for one in taught if one.is_learned),
                    confirmed=self._paths(one for one in taught if one.confirmed),
                    passed=self._paths(one for one in taught if one.kind == "passed"),
                    defective=self._paths(one for one in taught if one.kind == "missed_defect"),
                    rejected=self._paths(one for one in taught if one.kind == "rejected"),
                    learning=session.learning,
                    max_false_rejects=asked.max_false_rejects,
                    before=before,
                    before_threshold=before_threshold,
                    like=self._like(session),
                    alignment=alignment,
                    line=str(line) if line is not None else None,
                    folder=str(folder),
                    views=views,
                    threads=self._teach.threads,
                    public_key=str(self._public_key) if self._public_key else None,
                    key=self._teach.key,
                )
            )
            return self._changed(session)

    def _alignment(
        self, asked: TeachAlignment | None, taught: Sequence[CapturedImage]
    ) -> AlignmentRequest | None:
        """Return how the part is to be found; None as in the version in force.

        Raises:
            TeachingNotPossible: the reference is no good image that is taught with.
        """
        if asked is None:
            return None
        number = asked.reference
        if number is None:
            return AlignmentRequest(mode=asked.mode, scale=asked.scale)
        if all(image.number != number for image in taught if image.is_learned):
            raise TeachingNotPossible(
                f"image {number} cannot be the reference: it is excluded, or not a good one. "
                "Choose another, or use it again.",
                kind="no_reference",
                n=number,
            )
        path = str(self._folder.image(number))
        return AlignmentRequest(mode=asked.mode, reference=path, roi=asked.roi, scale=asked.scale)

    def _aligned(self, recipe: str) -> AlignMode | None:
        """Return how the version in force finds its part.

        Raises:
            StationError: its bundle cannot be read.
        """
        version = self._version_in_force(recipe)
        if version is None:
            return None
        locator = load_bundle(version.model, self._public_key).manifest.input.locator
        return locator.mode if locator is not None else None

    def _paths(self, images: Iterable[CapturedImage]) -> list[str]:
        return [str(self._folder.image(image.number)) for image in images]

    def _before(self, session: TeachingSession) -> tuple[str | None, float | None]:
        """Return the model that the recipe has in force, and the threshold it decides by."""
        if not session.learning:
            return None, None
        version = self._recipes.load(session.recipe)
        threshold = version.content.decision.image_threshold
        live = self._services.recipe()
        if live is not None and (live.id, live.version) == (version.name, version.version):
            threshold = self._services.threshold()
        return str(version.model), threshold

    def _like(self, session: TeachingSession) -> RecipeAt | None:
        """Return the version whose crop and mask count for the next one, too."""
        version = self._version_in_force(session.recipe)
        if version is None:
            return None
        folder = str(self._recipes.path)
        return RecipeAt(folder=folder, name=version.name, version=version.version)

    def _version_in_force(self, recipe: str) -> RecipeVersion | None:
        return self._recipes.load(recipe) if self._recipes.in_force(recipe) is not None else None

    def _try(self, running: bool, actor: Actor) -> TeachingChanged:
        with self._lock:
            session = self._find_session(actor)
            result = self._built(session)
            trying = session.trial is not None and session.trial.inspector is not None
            if not running:
                self._stop_trial(session)
                return self._changed(session)
        if not trying:
            # As long as a start; other actions wait meanwhile, the line does not.
            inspector = self._services.candidate(self._folder.model(result.build))
            with self._lock:
                session.trial = TrialRun(inspector=inspector)
                self._frames.clear()
                self._wanting = True
            self._record(
                "trial_begun",
                f"{actor.name} started the trial of {session.recipe}",
                actor,
                recipe=session.recipe,
            )
        return self._changed(session)

    def _built(self, session: TeachingSession) -> TeachingResult:
        if session.result is None or session.build is not None:
            raise TeachingNotPossible(
                "there is no candidate yet. Build it first.", kind="no_candidate"
            )
        return session.result

    def _release(self, comment: str, actor: Actor) -> CandidateReleased:
        if not comment.strip():
            raise TeachingNotPossible(
                "a release needs a reason, which is kept in the journal. Enter one.",
                kind="no_reason",
            )
        with self._lock:
            session = self._find_session(actor)
            result = self._built(session)
            struck = {image.number for image in session.images if image.struck}
            if struck & session.built_of:
                raise TeachingNotPossible(
                    "images were excluded after the candidate was built from them. Build it again.",
                    kind="struck_since",
                )
            session.releasing = True
        try:
            return self._released(session, result, comment, actor)
        finally:
            session.releasing = False

    def _released(
        self, session: TeachingSession, result: TeachingResult, comment: str, actor: Actor
    ) -> CandidateReleased:
        """Publish the candidate, put it in force, and end the session."""
        before, trial = self._services.recipe(), session.trial
        with self._lock:
            self._stop_trial(session)
        taught = {
            taught_place(content, self._folder.image(number)): self._folder.image(number)
            for content, number in session.contents.items()
            if number in session.built_of
        }
        known = self._version_in_force(session.recipe)
        candidate = self._folder.candidate(result.build)
        version = session.published
        if version is None:
            version = self._recipes.publish(
                follow_up(
                    session.recipe,
                    f"taught with {result.images} images: {comment}"[:MAX_NOTE],
                    known.content if known is not None else None,
                ),
                lambda folder: _copy_bundle(candidate, folder),
                self._public_key,
                images=taught,
                max_images=self._max_images,
            )
            session.published = version
        self._services.choose_recipe(version.name, version.version)
        released = CandidateReleased(
            recipe=version.name,
            version=version.version,
            before=f"{before.id} {before.version}" if before is not None else None,
            model_sha256=result.model_sha256,
        )
        self._record(
            "recipe_released",
            f"{actor.name} released {released.recipe} {released.version}",
            actor,
            recipe=released.recipe,
            version=released.version,
            before=released.before,
            model_sha256=released.model_sha256,
            threshold=result.threshold,
            images=result.images,
            trial_parts=trial.parts if trial is not None else 0,
            trial_alike=trial.alike if trial is not None else 0,
            comment=comment,
        )
        self._drop(session)
        return released

    def _end(self, comment: str, actor: Actor) -> TeachingChanged:
        with self._lock:
            session = self._find_session(actor)
            self._drop(session)
        self._record(
            "teach_ended",
            f"{actor.name} discarded the teaching of {session.recipe}",
            actor,
            recipe=session.recipe,
            images=len(session.images),
            comment=comment,
        )
        return TeachingChanged(recipe=session.recipe, phase="idle")

    def _drop(self, session: TeachingSession) -> None:
        with self._lock:
            if session.build is not None:
                session.build.end()
            self._stop_trial(session)
            self._session, self._wanting = None, False
            self._frames.clear()
        self._folder.remove()

    def _stop_trial(self, session: TeachingSession) -> None:
        trial = session.trial
        if trial is None or trial.inspector is None:
            return
        trial.inspector = None
        self._wanting = session.wants_frames
        self._record_trial(session, trial)
        self._services.record_event(
            Event(
                "trial_ended",
                Severity.INFO,
                f"the trial of {session.recipe} has ended: {trial.alike} of {trial.parts} "
                "parts judged the same",
                {
                    "recipe": session.recipe,
                    "parts": trial.parts,
                    "alike": trial.alike,
                    "missed": trial.missed,
                    **{f"live_{result}": count for result, count in trial.live.items()},
                    **{f"trial_{result}": count for result, count in trial.judged.items()},
                },
            )
        )

    def _changed(self, session: TeachingSession) -> TeachingChanged:
        return TeachingChanged(recipe=session.recipe, phase=session.phase)

    def _record(self, kind: str, detail: str, actor: Actor, **data: Datum) -> None:
        self._services.record_event(Event(kind, Severity.INFO, detail, {**data, **actor.data()}))

    # The thread of teaching.

    def run(self, ending: Callable[[], bool]) -> None:
        """Capture, judge and look after the build until the page ends."""
        with suppress(OSError):  # of this thread alone, as Linux counts it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), READ_BESIDE)
        while not ending():
            try:
                self.look(LOOK_S)
            except Exception:  # a defect of teaching is no reason to stop the line
                log.exception("teaching has met a defect")
        with self._lock:
            if self._session is not None:
                self._drop(self._session)

    def look(self, limit_s: float = 0.0) -> None:
        """Look at the next part, if one comes in time, and at the build."""
        verdict = self._frames.get(limit_s)
        if verdict is not None:
            self._look_at(verdict)
        self._record_trial_when_due()
        self._listen()

    def _look_at(self, verdict: Verdict) -> None:
        session = self._session
        if session is None:
            return
        trial = session.trial
        if trial is not None and trial.inspector is not None:
            self._judge(session, trial, trial.inspector, verdict)
        asked = session.asked > 0 and verdict.frame.captured_ns >= session.asked_ns
        if session.capturing == "every" or asked:
            self._keep_frame(session, verdict, asked)
        elif session.capturing == "changed":
            self._keep_if_changed(session, verdict)

    def _keep_if_changed(self, session: TeachingSession, verdict: Verdict) -> None:
        pixels = verdict.frame.pixels
        if verdict.frame.status is not FrameStatus.COMPLETE or pixels.size == 0:
            return
        now, before = look_at(pixels), session.before
        session.before = now
        moving = before is None or scene_changed(before, now)
        if self._waits_until_still and moving:
            return
        if session.look is None or scene_changed(session.look, now):
            self._keep_frame(session, verdict, asked=False)
            session.look = now

    def _keep_frame(self, session: TeachingSession, verdict: Verdict, asked: bool) -> None:
        """Keep a frame to teach with, or say why it is not taken."""
        fault = None if asked else _other_product(session, verdict)
        fault = fault or self._fault(session, verdict)
        if fault and not asked and session.capturing == "changed":
            return  # the next scene comes without anybody doing something
        number = self._last_number + 1
        if not fault:
            try:
                self._folder.keep(number, verdict.frame.pixels)
            except StationError as error:
                fault = NotTaken("disk", str(error))
        with self._lock:
            if self._session is not session:
                return
            session.asked -= asked
            if fault:
                session.not_taken += 1
                session.why_not = fault
            else:
                self._last_number = number
                session.why_not = None
                session.images = [*session.images, CapturedImage(number=number, struck=False)]
                session.contents[pixels_hash(verdict.frame.pixels)] = number
                session.size = verdict.frame.pixels.shape
                session.look = look_at(verdict.frame.pixels)
            if len(session.images) >= self._max_images:
                session.capturing, session.asked = "off", 0
            self._wanting = session.wants_frames

    def _fault(self, session: TeachingSession, verdict: Verdict) -> NotTaken | None:
        """Return why a frame shows no good part; None where it may."""
        frame = verdict.frame
        if frame.status is not FrameStatus.COMPLETE or frame.pixels.size == 0:
            cause = frame.detail or verdict.inspection.detail
            return NotTaken("incomplete", f"the image is {frame.status.value}: {cause}")
        if len(session.images) >= self._max_images:
            return self._enough()
        if session.size is not None and frame.pixels.shape != session.size:
            now, first = (f"{shape[1]}×{shape[0]}" for shape in (frame.pixels.shape, session.size))
            return NotTaken(
                "other_size",
                f"the image has {now} pixels, the others have {first}; all images must have "
                "the same size.",
                {"now": now, "first": first},
            )
        try:
            content = taught_image(Path(), frame.pixels, session.spec).content
        except FrameUnsuitable as error:
            return NotTaken("unsuitable", str(error))
        known = session.contents.get(content)
        if known is not None:
            sentence = (
                f"it is identical to image {known}. Check that the camera does not repeat one "
                "image."
            )
            return NotTaken("repeated", sentence, {"n": known})
        return None

    def _judge(
        self, session: TeachingSession, trial: TrialRun, inspector: Inspector, verdict: Verdict
    ) -> None:
        live = verdict.inspection.decision.result
        if _other_product(session, verdict) is not None:
            return  # what the candidate makes of it says nothing
        if verdict.frame.pixels.size == 0 or verdict.frame.status is not FrameStatus.COMPLETE:
            return
        found = inspector.inspect(verdict.frame)
        judged = found.decision.result
        part = TrialPart(
            id=verdict.id,
            part_id=verdict.part_id,
            utc=utc_text(verdict.decided_utc_ns),
            live=live,
            trial=judged,
            score=found.normalized_score,
        )
        with self._lock:
            if trial.inspector is None:
                return
            trial.live[live.value] += 1
            trial.judged[judged.value] += 1
            trial.alike += live is judged
            trial.newest = [part, *trial.newest][:MAX_TRIAL_PARTS]
            trial.threshold = found.threshold
            trial.add_to_record(verdict.id, found, time.monotonic())

    def _record_trial_when_due(self) -> None:
        session = self._session
        trial = session.trial if session is not None else None
        if session is None or trial is None or not trial.must_record(time.monotonic()):
            return
        with self._lock:
            self._record_trial(session, trial)

    def _record_trial(self, session: TeachingSession, trial: TrialRun) -> None:
        """Record what was judged on trial since the last time."""
        judged, trial.to_record = trial.to_record, {}
        if not judged:
            return
        self._services.record_event(
            Event(
                "trial_verdicts",
                Severity.INFO,
                f"on trial for {session.recipe}: {len(judged)} parts were judged, by the ids of "
                "the verdicts that count",
                {
                    "recipe": session.recipe,
                    "raw_threshold": trial.threshold,
                    "model_sha256": session.result.model_sha256 if session.result else None,
                    **judged,
                },
            )
        )

    def _listen(self) -> None:
        """Take what the build has sent."""
        session = self._session
        if session is None or session.build is None:
            return
        for report in session.build.news():
            with self._lock:
                if self._session is not session or session.build is None:
                    return
                self._on_report(session, report)

    def _on_report(self, session: TeachingSession, report: BuildReport) -> None:
        if report.step is not None:
            session.step = report.step
        if report.result is None and not report.refused:
            return
        assert session.build is not None
        session.build.end()
        session.build = None
        if report.result is None:
            session.refused = list(report.refused)
            session.refused_kind = report.refused_kind
            session.refused_data = report.refused_data
            self._folder.drop_build(session.builds)
            return
        if session.result is not None:
            self._folder.drop_build(session.result.build)
        session.trial = session.published = None
        session.built_of = session.building_of
        session.images = with_scores(session.images, report.result)
        session.result = shown_result(session.builds, report.result)
        self._services.record_event(
            Event(
                "teach_built",
                Severity.INFO,
                f"a candidate of {session.recipe} was built from {report.result.images} images",
                {
                    "recipe": session.recipe,
                    "images": report.result.images,
                    "left_out": report.result.left_out,
                    "align": report.result.alignment.mode.value
                    if report.result.alignment is not None
                    else None,
                    "threshold": report.result.threshold,
                    "model_sha256": report.result.sha256,
                },
            )
        )


def _copy_bundle(candidate: Path, folder: Path) -> None:
    """Copy the files of a version, the manifest last."""
    names = (TAUGHT_FILE, *(f"{MODEL}{suffix}" for suffix in (".xml", ".bin", ".sig", ".json")))
    for name in names:
        source = candidate / name
        if source.exists():
            shutil.copyfile(source, folder / source.name)


def _other_product(session: TeachingSession, verdict: Verdict) -> NotTaken | None:
    """Return that the code on a part names another product than is taught; else None."""
    named = verdict.code_recipe
    if named is None or named.id == session.recipe:
        return None
    return NotTaken(
        "other_product",
        f"the code on the part names recipe {named.id}, not {session.recipe}. Capture parts of "
        "this product, or one by one.",
        {"recipe": named.id, "taught": session.recipe},
    )
