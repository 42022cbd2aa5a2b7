"""The folders of images that a station writes: overlays, snapshots, images of the last hours."""

import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from edge.contract.event import Datum, Event, Severity
from edge.contract.verdict import ImageAddresses, Verdict
from edge.settings.station import Settings
from edge.station.images.overlay_folder import OverlayWriter
from edge.station.images.recent_images import QUEUE_BYTES, QUEUE_IMAGES, RecentImages
from edge.station.images.snapshot_folder import SnapshotFolder
from edge.station.monitoring.health import Health
from edge.station.pipeline.sinks import Sink
from edge.station.threads import Failures


class ImageFolders:
    """What is kept of images beside the journal, each folder with a sink of its own.

    Attributes:
        overlays: of ``--save``; None without.
        snapshots, recent: None where none are kept.
        sinks: that write them.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        can_wait: bool,
        failures: Failures,
        health: Health,
        record_event: Callable[[Event], None],
    ) -> None:
        """Create and try the folders.

        Raises:
            OutputNotWritable: one cannot be written.
        """
        self.overlays: OverlayWriter | None = None
        self.snapshots: SnapshotFolder | None = None
        self.recent: RecentImages | None = None
        self.sinks: list[Sink] = []
        self._health = health
        self._record_event = record_event
        self._changing = threading.Lock()  # snapshots and recent images have a thread each
        self._stopped: dict[str, str] = {}  # why, by folder that takes no images
        if settings.save:
            self.overlays = OverlayWriter(Path(settings.save.folder))
            self.sinks.append(
                Sink(
                    name="overlays",
                    deliver=self.overlays.write,
                    bound=settings.save.queue_bound,
                    wait_for_room=can_wait,
                    failures=failures,
                )
            )
        kept = settings.snapshots
        if kept is None:
            return
        self.snapshots = SnapshotFolder(
            settings=kept, on_change=partial(self._on_change, "snapshots")
        )
        self.sinks.append(
            Sink(
                name="snapshots",
                deliver=self.snapshots.write_chosen,
                bound=kept.queue_bound,
                wait_for_room=can_wait,
                failures=failures,
                max_bytes=kept.queue_max_bytes,
            )
        )
        if kept.recent_hours > 0:
            self.recent = RecentImages(kept, partial(self._on_change, "recent images"))
            self.sinks.append(
                Sink(
                    name="recent_images",
                    deliver=self.recent.keep,
                    bound=QUEUE_IMAGES,
                    wait_for_room=False,  # nothing ever waits for it
                    failures=failures,
                    max_bytes=QUEUE_BYTES,
                )
            )

    def addresses(self, verdict: Verdict) -> ImageAddresses | None:
        """Return where the images of a verdict will be kept; None where they are not."""
        return self.snapshots.addresses(verdict) if self.snapshots else None

    def _on_change(self, folder: str, stopped: bool, why: str) -> None:
        with self._changing:
            if stopped:
                self._stopped[folder] = why
            else:
                self._stopped.pop(folder, None)
            reasons = list(self._stopped.values())
            self._health.set("snapshots_stopped", bool(reasons), " ".join(reasons))
        if stopped:
            self._record_event(Event("snapshots_stopped", Severity.WARNING, why))


def keep_next(snapshots: SnapshotFolder) -> Mapping[str, Datum]:
    """Keep the next part that has an image; return where."""
    snapshots.keep_next()
    return {"folder": str(snapshots.root)}
