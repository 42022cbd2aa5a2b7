"""One run of a station: its parts, built in order, and taken down in reverse."""

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from edge.app.assembly import mailbox_of, rules_of, source_of, triggering_of
from edge.app.observers import VerdictObserver, make_observers, with_overrides
from edge.app.signals import Stopper
from edge.contract.announcements import Metrics
from edge.contract.event import Datum, Event, Severity
from edge.contract.state import JournalReport, StationReport
from edge.contract.verdict import ImageAddresses, Recipe, Verdict, payload
from edge.errors import CameraLost, ConfigurationError, StationError
from edge.hmi.station_end.status import Sources
from edge.settings.recording import SnapshotSettings
from edge.settings.station import Settings
from edge.station.command_threads import CommandHandlers, CommandThreads
from edge.station.handshake.coordinator import HandshakeCoordinator
from edge.station.handshake.part import Input
from edge.station.images.overlay_folder import OverlayWriter
from edge.station.images.recent_images import QUEUE_BYTES, QUEUE_IMAGES, RecentImages
from edge.station.images.snapshot_folder import SnapshotFolder
from edge.station.model.manager import ModelExchangeFailed, ModelManager
from edge.station.model.releases import Releases
from edge.station.monitoring.camera_monitor import CameraWatch
from edge.station.monitoring.drift_monitor import DriftWatch
from edge.station.monitoring.health import Health
from edge.station.monitoring.heartbeat import Heartbeats
from edge.station.monitoring.systemd import ServiceManager
from edge.station.monitoring.watchdog import Watchdog, end_process
from edge.station.pipeline.pipeline import Station
from edge.station.pipeline.sinks import Sink
from edge.station.pipeline.tally import RunSummary
from edge.station.pipeline.work import Beats
from edge.station.recording import reports
from edge.station.recording.journal_recorder import journal_folder
from edge.station.recording.mqtt_thread import DELIVERY_LIMIT_S, STOP_DELIVERY_LIMIT_S
from edge.station.recording.recorder import Recording
from edge.station.threads import Failures, Worker

log = logging.getLogger(__name__)

# Frames that wait for their hash and their payload.
RECORD_QUEUE_BOUND, RECORD_QUEUE_BYTES = 32, 512 * 2**20
THREAD_STOP_LIMIT_S = 3.0
# Triggers that wait so long are told; what they wait for has limits of its own.
CONTROL_SILENCE_S = 10.0
# A model that takes longer to compile and test will not come.
RELOAD_LIMIT_S = 600.0


class StationService:
    """A station with everything around it.

    ``start``, ``inspect`` and ``end`` are called once each, in this order and by one thread;
    ``end`` also after a start that failed.

    Attributes:
        manager: the service manager, where there is one.
        overlays: of ``--save``; None without.
    """

    def __init__(
        self,
        settings: Settings,
        once: bool,
        tuning: Path,
        reread: Callable[[], Settings],
        stopper: Stopper,
    ) -> None:
        """Open records and camera; no thread runs yet.

        Raises:
            StationError: one of them cannot be used.
        """
        self.manager = ServiceManager()
        self.overlays: OverlayWriter | None = None
        self._observers: list[VerdictObserver] = []
        settings, reread_with_overrides = with_overrides(settings, reread)
        self._settings = settings
        self._once = once
        self._tuning = tuning
        self._reread = reread_with_overrides
        self._stopper = stopper
        self._failures = Failures()
        self._heartbeats = Heartbeats()
        self._health = Health(self._tell_health)
        self._inspecting = False
        self._not_reloaded = ""  # why the last reload was refused
        self._snapshots: SnapshotFolder | None = None
        self._recent: RecentImages | None = None
        self._noting = threading.Lock()  # snapshots and recent images have a thread each
        self._folders_stopped: dict[str, str] = {}  # why, by folder that takes no images
        self._triggering: HandshakeCoordinator | None = None
        self._station: Station | None = None
        self._model: ModelManager | None = None
        self._recording = Recording(
            settings=settings,
            health=self._health,
            heartbeats=self._heartbeats,
            failures=self._failures,
            on_writable=self._note_writable,
            on_reader_gone=stopper.stop,
        )
        self._watch = CameraWatch(
            settings=settings.camera,
            once=once,
            health=self._health,
            record_event=self._recording.event,
            gone=lambda detail: self._built.camera_lost(detail),
            back=lambda: self._built.camera_back(),
            give_up=lambda: self._built.stop(),
            on_known=lambda: self._tell_health(tuple(self._health.reasons)),
            state_changed=self._recording.state_changed,
            judged=self._recording.judged_images,
        )

    def start(self) -> None:
        """Start the threads of the records, load the model, open the camera.

        Raises:
            StationError: something cannot be used.
        """
        settings, camera = self._settings, self._watch.camera
        self._recording.start(self._report, self._metrics)
        self._model = model = ModelManager(
            settings=settings,
            tuning=self._tuning,
            simulated=camera.simulated,
            exchange=lambda line: self._built.exchange(line),
            trial=lambda: self._station.newest if self._station else None,
            reread=self._reread,
            record_event=self._recording.event,
            on_changed=self._tell_meta,
            releases=Releases(journal_folder(settings)),
        )
        self._tell_meta()
        self._triggering = triggering_of(
            settings,
            model.recipe,
            self._recording.network,
            self._watch.trigger,
            self._recording.event,
        )
        self._drift = DriftWatch(
            lambda: model.store.current.bundle,
            settings.drift,
            self._health,
            self._recording.event,
        )
        line = model.line()
        most_parts = 1 if self._once and self._watch.status is not None else None
        self._mailbox = mailbox_of(settings, camera.can_wait, len(line.inspectors))
        self._station = Station(
            camera,
            self._mailbox,
            line,
            self._sinks(),
            self._failures,
            rules_of(settings, camera.can_wait, most_parts),
            triggering=self._triggering,
            beats=Beats.of(
                self._heartbeats,
                len(line.inspectors),
                settings.watchdog.capture_s,
                settings.watchdog.inspect_s,
            ),
            images=self._addresses,
        )
        self._observers = make_observers(self._sources(), self._reload)
        for one in self._observers:
            one.start()
        self._stopper.stops(self._station.stop)
        if self._triggering:
            self._triggering.set_ready(Input.MODEL, True)
            self._triggering.set_ready(Input.JOURNAL, self._recording.writable)
        self._watch.start()

    def inspect(self) -> RunSummary:
        """Inspect to the end, then see that the broker has everything.

        Raises:
            StationError: the camera is lost for good, a thread met a defect, or verdicts wait.
        """
        watchdog = Watchdog(self._heartbeats, self.manager, end_process)
        control = self._control()
        threads = [
            Worker("watchdog", watchdog.run, self._failures),
            Worker("control", lambda: control.run(self._ended), self._failures),
            Worker(
                "commands",
                lambda: control.run_commands(self._ended, self._reload_if_asked),
                self._failures,
            ),
        ]
        self._inspecting = True
        log.info("inspecting %s with %s", self._watch.camera.identity, self._loaded.store.current)
        self._tell_health(tuple(self._health.reasons))
        self.manager.ready(self._status())
        for thread in threads:
            thread.start()
        try:
            tally = self._built.run(on_degraded=lambda reason: self._health.set(reason, True))
        finally:
            self._inspecting = False
            self.manager.stopping("delivering what is left")
            watchdog.end()
            for thread in threads:
                thread.join(THREAD_STOP_LIMIT_S)
            stopped = self._stopper.stopped
            limit_s = STOP_DELIVERY_LIMIT_S if stopped else DELIVERY_LIMIT_S
            undelivered = self._recording.deliver(limit_s, self._failures.any)
        if self._watch.lost_once:
            raise CameraLost(self._watch.lost_once)
        if undelivered and not stopped:
            raise undelivered
        if undelivered:
            log.info("%s", undelivered)
        return tally

    def tally(self) -> RunSummary | None:
        """Return the counts so far; None when the run ended before the first part."""
        return self._station.tally() if self._station else None

    def end(self, reasons: tuple[str, ...]) -> StationError | None:
        """Say ``stopped``, with the reasons of a run that failed, and let go of everything.

        Returns:
            The error of parts without a record, or not written; None when there are none.
        """
        for one in self._observers:
            one.stop()
        return self._recording.stop(reasons, self._ending)

    @property
    def _built(self) -> Station:
        assert self._station is not None, "start comes first"
        return self._station

    @property
    def _loaded(self) -> ModelManager:
        assert self._model is not None, "start comes first"
        return self._model

    def _ended(self) -> bool:
        return not self._inspecting

    def _ending(self) -> bool:
        return self._stopper.stopped or self._failures.any()

    # What happens to verdicts.

    def _sinks(self) -> list[Sink]:
        settings, camera = self._settings, self._watch.camera
        sinks = [
            Sink(
                "verdicts",
                self._deliver,
                RECORD_QUEUE_BOUND,
                camera.can_wait,
                self._failures,
                keeps_all=self._recording.keeps_all,
                max_bytes=RECORD_QUEUE_BYTES,
                undelivered=self._not_taken,
            )
        ]
        if settings.save:
            folder, bound = Path(settings.save.folder), settings.save.queue_bound
            self.overlays = OverlayWriter(folder)
            write = self.overlays.write
            sinks.append(Sink("overlays", write, bound, camera.can_wait, self._failures))
        if settings.snapshots:
            kept = settings.snapshots
            self._snapshots = SnapshotFolder(
                settings=kept, on_change=partial(self._note_snapshots, "snapshots")
            )
            sinks.append(
                Sink(
                    "snapshots",
                    self._keep,
                    kept.queue_bound,
                    camera.can_wait,
                    self._failures,
                    max_bytes=kept.queue_max_bytes,
                )
            )
            if kept.recent_hours > 0:
                sinks.append(self._recent_sink(kept))
        return sinks

    def _recent_sink(self, settings: SnapshotSettings) -> Sink:
        """Return what keeps the images of the last hours; nothing ever waits for it."""
        self._recent = RecentImages(settings, partial(self._note_snapshots, "recent images"))
        return Sink(
            "recent_images",
            self._recent.keep,
            QUEUE_IMAGES,
            wait_for_room=False,
            failures=self._failures,
            max_bytes=QUEUE_BYTES,
        )

    def _deliver(self, verdict: Verdict) -> None:
        station = self._built
        if not self._recording.record(verdict, station.committed, self._ending):
            station.not_recorded(verdict.id)
        self._loaded.part_decided(verdict)
        self._drift.observe(verdict)
        for one in self._observers:
            one.on_verdict(verdict)

    def _not_taken(self, verdict: Verdict) -> None:
        self._recording.not_taken(verdict)
        self._built.not_recorded(verdict.id)

    def _keep(self, verdict: Verdict) -> None:
        assert self._snapshots is not None and verdict.identity is not None
        if verdict.images is not None:
            self._snapshots.write(verdict, payload(verdict, verdict.identity, None))

    def _addresses(self, verdict: Verdict) -> ImageAddresses | None:
        return self._snapshots.addresses(verdict) if self._snapshots else None

    def _note_snapshots(self, folder: str, stopped: bool, why: str) -> None:
        with self._noting:
            if stopped:
                self._folders_stopped[folder] = why
            else:
                self._folders_stopped.pop(folder, None)
            reasons = list(self._folders_stopped.values())
            self._health.set("snapshots_stopped", bool(reasons), " ".join(reasons))
        if stopped:
            self._recording.event(Event("snapshots_stopped", Severity.WARNING, why))

    # Triggers and commands.

    def _control(self) -> CommandThreads:
        loaded, triggering = self._loaded, self._triggering
        return CommandThreads(
            messages=self._recording.messages,
            deeds=CommandHandlers(
                trigger=self._built.trigger,
                acknowledge=triggering.acknowledged if triggering else lambda _: None,
                reload=self._reload,
                self_test=loaded.self_test,
                set_recipe=self._set_recipe,
                snapshot=self._keep_next if self._snapshots else None,
            ),
            source=source_of(self._settings),
            recipe=lambda: loaded.recipe,
            journal=self._recording.journal,
            answer=self._recording.answer,
            handshake=self._recording.handshake,
            record_event=self._recording.event,
            beat=self._heartbeats.stage("control", CONTROL_SILENCE_S, critical=False),
        )

    def _set_recipe(self, recipe: Recipe) -> Mapping[str, Datum]:
        live = self._loaded.recipe
        if recipe != live:
            raise ConfigurationError(
                f"{recipe} is not set up here, {live or 'none'} is. Change recipe and model in the "
                "settings, and reload."
            )
        return {"recipe": recipe.id, "version": recipe.version}

    def _keep_next(self) -> Mapping[str, Datum]:
        assert self._snapshots is not None
        self._snapshots.keep_next()
        return {"folder": str(self._snapshots.root)}

    def _reload(self) -> Mapping[str, Datum]:
        self.manager.reloading("reading the settings")
        try:
            with self.manager.more_time(RELOAD_LIMIT_S):
                renew = self._recording.login_changed()
                outdated = [one for one in self._observers if one.outdated()]
                done = self._loaded.reload()
            self._not_reloaded = ""
        except ModelExchangeFailed as error:
            self._not_reloaded = str(error)
            raise
        except StationError as error:
            self._recording.event(Event("reload_refused", Severity.WARNING, str(error)))
            self._not_reloaded = str(error)
            raise
        except Exception as error:  # a defect of ours; the station goes on as it was all the same
            log.exception("the reload met a defect")
            detail = f"internal error: {type(error).__name__}: {error}"
            self._recording.event(Event("reload_refused", Severity.ALARM, detail))
            self._not_reloaded = detail
            raise ConfigurationError(detail) from error
        finally:
            self.manager.ready(self._status())
        if renew:
            self._recording.renew_connection()
            done = {**done, "changed": f"{done['changed']}, password or certificates of mqtt"}
        for one in outdated:
            one.renew()
            done = {**done, "changed": f"{done['changed']}, token of the page"}
        return done

    def _reload_if_asked(self) -> None:
        if self._stopper.take_reload():
            try:
                done = self._reload()
                log.info("reloaded: %s", done["changed"])
            except StationError:  # the event before says why
                log.error("not reloaded; the station goes on as it was")

    # What the station says about itself.

    def _note_writable(self, writable: bool) -> None:
        if self._triggering:
            self._triggering.set_ready(Input.JOURNAL, writable)

    def _tell_health(self, reasons: tuple[str, ...]) -> None:
        if self._inspecting and self._watch.known:  # until then the station is starting
            self._recording.set_reasons(reasons)
            self.manager.status(self._status())

    def _status(self) -> str:
        reasons, refused = self._health.reasons, self._not_reloaded
        now = f"degraded: {', '.join(reasons)}" if reasons else "inspecting"
        return f"{now}; the last reload changed nothing: {refused}" if refused else now

    def _tell_meta(self) -> None:
        model = self._loaded
        journal = self._recording.journal
        if journal is not None:
            simulated = self._watch.camera.simulated
            identity = model.identity()
            self._recording.set_meta(reports.meta(model.settings, simulated, identity, journal))

    def _sources(self) -> Sources:
        triggering = self._triggering
        return Sources(
            model=self._loaded,
            simulated=self._watch.camera.simulated,
            recording=self._recording,
            health=self._health,
            condition=self._condition,
            camera=lambda: self._watch.status,
            tally=self.tally,
            queues=lambda: {"frames": self._mailbox.waiting},
            handshake=triggering.counts if triggering else dict,
            snapshots=lambda: self._snapshots,
            recent=lambda: self._recent,
        )

    def _condition(self) -> str:
        if self._stopper.stopped:
            return "stopped"
        if not (self._inspecting and self._watch.known):
            return "starting"
        return "degraded" if self._health.reasons else "online"

    def _report(self, journal: JournalReport | None, folder: Path) -> StationReport:
        identity = self._model.identity() if self._model else {}
        ready = self._triggering.ready if self._triggering else None
        return reports.station_report(self._watch.status, identity, journal, folder, ready)

    def _metrics(self, journal_waiting: int) -> Metrics:
        if self._station is None:
            return Metrics()
        counts = self._triggering.counts() if self._triggering else {}
        watch = self._watch
        return reports.metrics(
            self._station.tally(), watch.status, watch.dropped, counts, journal_waiting
        )
