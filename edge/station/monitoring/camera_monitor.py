"""The camera of a station: files as they are, live ones under supervision, and who is told."""

from collections.abc import Callable

from edge.cameras.factory import checked_kind, open_camera, supervised_camera
from edge.cameras.files.existing_images import Inventory
from edge.cameras.files.triggered_files import TriggeredFiles
from edge.cameras.interface import Camera
from edge.cameras.supervised.camera import SupervisedCamera
from edge.cameras.supervised.state_machine import AWAY, CameraState, CameraStatus
from edge.contract.event import Event, Severity
from edge.errors import CameraError, CameraNotOpened
from edge.journal.judged_images import JudgedImages
from edge.settings.station import CameraSettings
from edge.station.monitoring.health import Health


class CameraWatch:
    """Holds the camera, and tells health, journal and station when it goes and comes back.

    Attributes:
        camera: what the station reads.
        known: whether the camera is there or not has been told; of files, always.
        lost_once: why a run that inspects once has nothing to inspect; empty otherwise.
    """

    def __init__(
        self,
        *,
        settings: CameraSettings,
        once: bool,
        health: Health,
        record_event: Callable[[Event], None],
        gone: Callable[[str], None],
        back: Callable[[], None],
        give_up: Callable[[], None],
        on_known: Callable[[], None],
        state_changed: Callable[[], None],
        judged: JudgedImages | None = None,
    ) -> None:
        """Open a source of files, or prepare the supervision of a live camera.

        Args:
            once: a camera that is lost is not waited for.
            gone, back: tell the station, in the thread that reads the camera.
            give_up: ends the run.
            on_known: called once, when ``known`` has become true.
            state_changed: called when it went from one working state to another; of all other
                changes ``health`` tells.
            judged: which images of a watched folder have a verdict; None where none is recorded.

        Raises:
            CameraUriInvalid: nothing that can ever be opened.
            CameraSettingRefused: it can, but never as the settings say.
        """
        self.lost_once = ""
        self._once = once
        self._health = health
        self._record_event = record_event
        self._gone = gone
        self._back = back
        self._give_up = give_up
        self._on_known = on_known
        self._state_changed = state_changed
        self._judged = judged
        self._takes_existing = settings.watch.existing == "take"
        self._away = False
        self._works = False
        self.camera: Camera | SupervisedCamera = self._made(settings)
        self.known = not isinstance(self.camera, SupervisedCamera)

    @property
    def status(self) -> CameraStatus | None:
        """What is known of a live camera; None for files."""
        return self.camera.status if isinstance(self.camera, SupervisedCamera) else None

    @property
    def dropped(self) -> int:
        """Frames of a live camera that nobody took in time."""
        return self.camera.dropped if isinstance(self.camera, SupervisedCamera) else 0

    def start(self) -> None:
        """Open a live camera for the first time; one that is absent is waited for.

        Raises:
            ConfigurationError: it does not take its settings.
            CameraNotOpened: it is absent, and the run inspects once.
        """
        if not isinstance(self.camera, SupervisedCamera):
            self._back()
            return
        self.camera.start()
        status = self.camera.status
        if self._once and status.state in AWAY:
            self.camera.close()
            raise CameraNotOpened(status.detail)

    def trigger(self) -> None:
        """Expose once.

        Raises:
            CameraError: the camera does not.
        """
        if not isinstance(self.camera, SupervisedCamera | TriggeredFiles):
            raise CameraError(f"{self.camera.identity}: runs free. Set camera.trigger.mode.")
        self.camera.trigger()

    def _made(self, settings: CameraSettings) -> Camera | SupervisedCamera:
        if checked_kind(settings).is_live:
            return supervised_camera(settings, self._changed, self._judged, self._found_existing)
        files = open_camera(settings.uri, settings)
        return files if settings.trigger.mode == "free_run" else TriggeredFiles(files)

    def _found_existing(self, found: Inventory) -> None:
        """Tell of the images that came while nobody watched."""
        event = existing_images_event(self.camera.identity, found, self._takes_existing)
        if event is not None:
            self._record_event(event)

    def _changed(self, status: CameraStatus) -> None:
        self._health.set("camera_lost", status.state is CameraState.LOST, status.detail)
        self._health.set("camera_failed", status.state is CameraState.FAILED, status.detail)
        if status.state in AWAY and not self._away:
            self._away = True
            self._lost(status)
        elif status.working and not self._works:
            self._back()
            if self._away:
                self._record_event(
                    Event("camera_back", Severity.INFO, "the camera is back", _counts(status))
                )
            self._away = False
        elif status.working:
            self._state_changed()
        self._works = status.working
        if not self.known:
            self.known = True
            self._on_known()

    def _lost(self, status: CameraStatus) -> None:
        self._record_event(Event("camera_lost", Severity.ALARM, status.detail, _counts(status)))
        self._gone(status.detail)
        if self._once:
            self.lost_once = status.detail
            self._give_up()


def existing_images_event(identity: str, found: Inventory, takes: bool) -> Event | None:
    """Return what is told of the images that were in a folder at first; None without any."""
    unjudged = len(found.unjudged)
    counts = {"unjudged": unjudged, "judged": found.judged, "not_known": found.forgotten}
    told: list[str] = []
    if unjudged and takes:
        verb = "is" if unjudged == 1 else "are"
        told.append(f"{_images(unjudged)} that came while nobody watched {verb} inspected now")
    elif unjudged:
        told.append(
            f"{_images(unjudged)} came while nobody watched, not inspected. To inspect such images "
            "at the next start set camera.watch.existing: take"
        )
    if found.forgotten:
        why = found.fault or "they are older than the journal"
        named = f"of {_images(found.forgotten)} nobody knows whether"
        told.append(f"{named} inspected before: {why}")
    if not told:
        return None
    kind = "images_taken" if takes and unjudged else "images_skipped"
    severity = Severity.INFO if takes and not found.forgotten else Severity.WARNING
    return Event(kind, severity, f"{identity}: {'; '.join(told)}.", counts)


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _counts(status: CameraStatus) -> dict[str, int]:
    return {"losses": status.losses, "recoveries": status.recoveries}
