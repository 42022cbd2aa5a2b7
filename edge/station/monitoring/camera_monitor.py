"""The camera of a station: files as they are, live ones under supervision."""

from collections.abc import Callable, Sequence
from typing import Protocol

from edge.cameras.factory import checked_kind, open_camera, supervised_camera
from edge.cameras.files.existing_images import Inventory
from edge.cameras.files.not_inspected import NotInspected
from edge.cameras.files.triggered_files import TriggeredFiles
from edge.cameras.interface import Camera, CameraLine
from edge.cameras.supervised.camera import SupervisedCamera
from edge.cameras.supervised.state_machine import AWAY, CameraState, CameraStatus
from edge.contract.event import Event, Severity
from edge.errors import CameraError, CameraNotOpened
from edge.journal.judged_images import JudgedImages
from edge.redaction import redacted
from edge.settings.camera import CameraSettings
from edge.station.monitoring.health import Health
from edge.wording import counted

# What ``Health`` waits for: whether the camera is there or not.
CAMERA = "camera"


class CameraListener(Protocol):
    """Who must act when a camera goes and comes back; called by the thread that reads it."""

    def camera_lost(self, detail: str) -> None: ...
    def camera_back(self) -> None: ...
    def stop(self) -> None:
        """End the run: it inspects once, and there is nothing to inspect."""


class CameraMonitor:
    """Holds the camera, and lets health, journal and station know when it goes and comes back.

    Attributes:
        camera: what the station reads.
        not_inspected: what files hold beside the images that were given.
        lost_once: why a run that inspects once has nothing to inspect; empty otherwise.
    """

    def __init__(
        self,
        *,
        settings: CameraSettings,
        once: bool,
        health: Health,
        record_event: Callable[[Event], None],
        on_state_change: Callable[[], None] | None = None,
        judged: JudgedImages | None = None,
        lines: Sequence[CameraLine] = (),
    ) -> None:
        """Open a source of files, or prepare the supervision of a live camera.

        Args:
            once: a camera that is lost is not waited for.
            on_state_change: called when it went from one working state to another; all other
                changes go through ``health``.
            judged: which images of a watched folder have a verdict; None where none is recorded.
            lines: that the camera switches.

        Raises:
            CameraUriInvalid: nothing that can ever be opened.
            CameraSettingRefused: it can, but never as the settings say.
        """
        self.not_inspected = NotInspected(redacted(settings.uri))
        self.lost_once = ""
        self._once = once
        self._health = health
        self._record_event = record_event
        self._listeners: list[CameraListener] = []
        self._on_state_change = on_state_change
        self._judged = judged
        self._lines = tuple(lines)
        self._inspects_existing = settings.watch.existing == "take"
        self._away = False
        self._works = False
        self.camera: Camera | SupervisedCamera = self._made(settings)
        self._known = not isinstance(self.camera, SupervisedCamera)
        if self._known:  # of files, always
            health.arrived(CAMERA)

    @property
    def status(self) -> CameraStatus | None:
        """What is known of a live camera; None for files."""
        return self.camera.status if isinstance(self.camera, SupervisedCamera) else None

    @property
    def dropped(self) -> int:
        """Frames of a live camera that nobody took in time."""
        return self.camera.dropped if isinstance(self.camera, SupervisedCamera) else 0

    def subscribe(self, listener: CameraListener) -> None:
        """Add whoever is to act, before ``start``."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Open a live camera for the first time; one that is absent is waited for.

        Raises:
            ConfigurationError: it does not take its settings.
            CameraNotOpened: it is absent, and the run inspects once.
        """
        if not isinstance(self.camera, SupervisedCamera):
            self._came_back()
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
            raise CameraError(
                f"{self.camera.identity}: runs free and needs no triggers. Set camera.trigger.mode."
            )
        self.camera.trigger()

    def set_line(self, line: str, high: bool) -> None:
        """Switch an output line of the camera.

        Raises:
            CameraError: it did not.
        """
        if not isinstance(self.camera, SupervisedCamera):
            raise CameraError(f"{self.camera.identity}: has no lines.")
        self.camera.set_line(line, high)

    def _made(self, settings: CameraSettings) -> Camera | SupervisedCamera:
        if checked_kind(settings).is_live:
            return supervised_camera(
                settings,
                self._changed,
                judged=self._judged,
                on_inventory=self._found_existing,
                not_inspected=self.not_inspected,
                lines=self._lines,
            )
        files = open_camera(settings.uri, settings, self.not_inspected)
        return files if settings.trigger.mode == "free_run" else TriggeredFiles(files)

    def _found_existing(self, found: Inventory) -> None:
        """Record that images came while nobody watched."""
        event = existing_images_event(self.camera.identity, found, self._inspects_existing)
        if event is not None:
            self._record_event(event)

    def _changed(self, status: CameraStatus) -> None:
        self._health.set("camera_lost", status.state is CameraState.LOST, status.detail)
        self._health.set("camera_failed", status.state is CameraState.FAILED, status.detail)
        if status.state in AWAY and not self._away:
            self._away = True
            self._lost(status)
        elif status.working and not self._works:
            self._came_back()
            if self._away:
                self._record_event(
                    Event(
                        "camera_back",
                        Severity.INFO,
                        "the camera is connected again",
                        _counts(status),
                    )
                )
            self._away = False
        elif status.working and self._on_state_change is not None:
            self._on_state_change()
        self._works = status.working
        if not self._known:
            self._known = True
            self._health.arrived(CAMERA)

    def _came_back(self) -> None:
        for listener in self._listeners:
            listener.camera_back()

    def _lost(self, status: CameraStatus) -> None:
        self._record_event(Event("camera_lost", Severity.ALARM, status.detail, _counts(status)))
        for listener in self._listeners:
            listener.camera_lost(status.detail)
        if self._once:
            self.lost_once = status.detail
            for listener in self._listeners:
                listener.stop()


def existing_images_event(identity: str, found: Inventory, inspected: bool) -> Event | None:
    """Return the event of the images that were in a folder at first; None without any."""
    unjudged = len(found.unjudged)
    counts = {"unjudged": unjudged, "judged": found.judged, "not_known": found.forgotten}
    parts: list[str] = []
    if unjudged and inspected:
        verb = "is" if unjudged == 1 else "are"
        parts.append(
            f"{_images(unjudged)} that arrived while the station was not running {verb} "
            "inspected now"
        )
    elif unjudged:
        parts.append(
            f"{_images(unjudged)} arrived while the station was not running: not "
            "inspected. To inspect such images at the next start, set "
            "camera.watch.existing: take"
        )
    if found.forgotten:
        why = found.fault or "they are older than the journal"
        named = f"of {_images(found.forgotten)} nobody knows whether"
        parts.append(f"{named} inspected before: {why}")
    if not parts:
        return None
    kind = "images_taken" if inspected and unjudged else "images_skipped"
    severity = Severity.INFO if inspected and not found.forgotten else Severity.WARNING
    return Event(kind, severity, f"{identity}: {'; '.join(parts)}.", counts)


def _images(count: int) -> str:
    return counted(count, "image")


def _counts(status: CameraStatus) -> dict[str, int]:
    return {"losses": status.losses, "recoveries": status.recoveries}
