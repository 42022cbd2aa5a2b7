"""Teaching at the page: images are captured, a candidate is built, tried beside the line, released.

One session at a time, of one person. What takes long has a process (the build) or this module's
thread (images, the trial) of its own, below the line; the thread of actions only starts it. The
candidate's verdicts are in events ``trial_verdicts``, some at a time: no sink, no hand-shake and no
output sees them.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from edge.bundle.teacher import load_teacher
from edge.contract.encoding import utc_text
from edge.contract.event import Datum, Event, Severity
from edge.contract.verdict import Recipe, Verdict
from edge.errors import OutputNotWritable, StationError
from edge.hmi.actions import (
    Actor,
    BeginTeaching,
    BuildCandidate,
    CandidateReleased,
    CaptureToTeach,
    EndTeaching,
    ReleaseCandidate,
    StrikeOut,
    TeachBuildBody,
    TeachingAction,
    TeachingChanged,
    TryCandidate,
)
from edge.hmi.contents import CapturedImage, Capturing, TeachingResult, TeachingStatus
from edge.hmi.station_end.teaching.build import Build
from edge.hmi.station_end.teaching.build_request import (
    BuildSources,
    aligned,
    build_request,
    like_in_force,
)
from edge.hmi.station_end.teaching.build_result import shown_result, with_scores
from edge.hmi.station_end.teaching.folder import TeachingFolder, teaching_folder
from edge.hmi.station_end.teaching.frames import (
    frame_fault,
    is_whole,
    other_product,
    shows_new_scene,
)
from edge.hmi.station_end.teaching.images import SessionImages
from edge.hmi.station_end.teaching.marks import fill_with_marks
from edge.hmi.station_end.teaching.release import (
    demand_like_built,
    next_content,
    publish_candidate,
    release_data,
)
from edge.hmi.station_end.teaching.session import NotTaken, TeachingSession
from edge.hmi.station_end.teaching.trial import TrialRun
from edge.imaging.content_hash import pixels_hash
from edge.inspection.inspector import Inspector
from edge.recipes.folder import RecipeFolder, RecipeVersion
from edge.settings.station import Settings
from edge.settings.teach import TeachSettings
from edge.station.model.recipe_limits import demand_callable, demand_own_name
from edge.station.pipeline.mailbox import EveryMailbox
from edge.station.pipeline.sinks import memory_bytes
from edge.system.priority import READ_BESIDE
from edge.teaching.build_process import BuildReport
from edge.teaching.refusals import TeachingNotPossible
from edge.teaching.scene_change import look_at
from edge.wording import counted

log = logging.getLogger(__name__)

LOOK_S = 0.1
# Parts that wait to be captured or judged; more are missed, and counted.
MAX_WAITING, MAX_WAITING_BYTES = 4, 128 * 2**20
# From then on somebody else may go on with what was begun, or end it.
ABANDONED_S = 900.0
MAX_ASKED = 20
UNNAMED = "token"


@dataclass(frozen=True, slots=True, kw_only=True)
class TeachingServices:
    """The parts of the station that teaching needs.

    Attributes:
        settings: with the sections ``teach`` and ``recipes``.
        journal_folder: teaching keeps its files beside the journal.
        candidate: loads a version that is not in force, for one thread.
        choose_recipe: changes over to a recipe by id and version, and puts it in force.
        of_settings: what the settings name for ``model.path``, which no recipe may be called.
        recipe: what is inspected for.
        recipe_settings: by which parts of a version are decided, with what was set at the page.
        record_event: records who did what.
    """

    settings: Settings
    journal_folder: Path
    candidate: Callable[[RecipeVersion], Inspector]
    choose_recipe: Callable[[str, int | str | None], Mapping[str, Datum]]
    recipe: Callable[[], Recipe | None]
    of_settings: Callable[[], Recipe | None]
    recipe_settings: Callable[[Recipe], Settings]
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
        self._recipes = RecipeFolder(Path(settings.recipes.folder))
        key = settings.model.public_key
        self._public_key = Path(key) if key else None
        self._services = services
        self._folder: TeachingFolder = teaching_folder(services.journal_folder)
        self._images = SessionImages(self._folder, settings.recipes.max_images)
        self._lock = threading.RLock()
        self._session: TeachingSession | None = None
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
            views, most = self._teach.views, self._images.most
            if self._session is None:
                return TeachingStatus(phase="idle", may_view=views, most=most)
            return self._session.status(views, most)

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
            aligned=aligned(self._recipes, recipe, self._public_key),
            used_s=time.monotonic(),
            inspected=tuple(action.inspected),
        )
        if session.learning:
            try:
                fill_with_marks(session, action.marked, self._images, self._recipes)
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
            elif len(session.images) + session.asked >= self._images.most:
                most = self._images.most
                raise TeachingNotPossible(self._images.no_more(), kind="enough", most=most)
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
        with self._lock:
            session = self._find_session(actor)
            if session.build is not None:
                raise TeachingNotPossible(
                    "it is being built already. Wait for it.", kind="building"
                )
            if asked.views and not self._teach.views:
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
            request = build_request(session, asked, session.builds + 1, self._build_sources())
            self._stop_trial(session)
            self._folder.begin_build(session.builds + 1, session.inspected)
            session.builds += 1
            session.building_of = frozenset(image.number for image in taught)
            session.building_like = request.like
            session.step, session.refused, session.refused_kind = 0, [], ""
            session.capturing, session.asked = "off", 0
            self._wanting = session.wants_frames
            session.build = Build(request)
            return self._changed(session)

    def _build_sources(self) -> BuildSources:
        return BuildSources(
            teach=self._teach,
            public_key=self._public_key,
            recipes=self._recipes,
            folder=self._folder,
            recipe_settings=self._services.recipe_settings,
        )

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
            content = next_content(session.recipe, self._recipes)
            candidate = RecipeVersion(content, self._folder.candidate(result.build))
            inspector = self._services.candidate(candidate)
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
            recipe_settings = self._services.recipe_settings
            demand_like_built(
                session, like_in_force(session.recipe, self._recipes, recipe_settings)
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
        before = self._services.recipe()
        with self._lock:
            self._stop_trial(session)
        if session.published is None:
            session.published = publish_candidate(
                session,
                result,
                comment,
                folder=self._folder,
                recipes=self._recipes,
                max_images=self._images.most,
                public_key=self._public_key,
            )
        version = session.published
        self._services.choose_recipe(version.name, version.version)
        released = CandidateReleased(
            recipe=version.name,
            version=version.version,
            before=f"{before.id} {before.version}" if before is not None else None,
            model_sha256=result.model_sha256,
        )
        sentence = f"{actor.name} released {released.recipe} {released.version}"
        data = release_data(session, result, released, comment)
        self._record("recipe_released", sentence, actor, **data)
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
        self._services.record_event(trial.end_event(session.recipe))

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
        elif session.capturing == "changed" and shows_new_scene(
            session, verdict.frame, self._waits_until_still
        ):
            self._keep_frame(session, verdict, asked=False)

    def _keep_frame(self, session: TeachingSession, verdict: Verdict, asked: bool) -> None:
        """Keep a frame to teach with, or say why it is not taken."""
        fault = None if asked else other_product(session, verdict)
        fault = fault or frame_fault(session, verdict, self._images)
        if fault and not asked and session.capturing == "changed":
            return  # the next scene comes without anybody doing something
        number = 0
        if not fault:
            try:
                number = self._images.keep(verdict.frame.pixels)
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
                session.why_not = None
                session.images = [*session.images, CapturedImage(number=number, struck=False)]
                session.contents[pixels_hash(verdict.frame.pixels)] = number
                session.size = verdict.frame.pixels.shape
                session.look = look_at(verdict.frame.pixels)
            if len(session.images) >= self._images.most:
                session.capturing, session.asked = "off", 0
            self._wanting = session.wants_frames

    def _judge(
        self, session: TeachingSession, trial: TrialRun, inspector: Inspector, verdict: Verdict
    ) -> None:
        if other_product(session, verdict) is not None:
            return  # what the candidate makes of it says nothing
        if not is_whole(verdict.frame):
            return
        found = inspector.inspect(verdict.frame)
        with self._lock:
            if trial.inspector is not None:
                trial.count(verdict, found, time.monotonic())

    def _record_trial_when_due(self) -> None:
        session = self._session
        trial = session.trial if session is not None else None
        if session is None or trial is None or not trial.must_record(time.monotonic()):
            return
        with self._lock:
            self._record_trial(session, trial)

    def _record_trial(self, session: TeachingSession, trial: TrialRun) -> None:
        """Record what was judged on trial since the last time."""
        model = session.result.model_sha256 if session.result else None
        event = trial.pop_record(session.recipe, model)
        if event is not None:
            self._services.record_event(event)

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
        session.built_of, session.built_like = session.building_of, session.building_like
        session.images = with_scores(session.images, report.result)
        session.result = shown_result(session.builds, report.result)
        self._services.record_event(
            Event(
                "teach_built",
                Severity.INFO,
                f"a candidate of {session.recipe} was built from "
                f"{counted(report.result.images, 'image')}",
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
