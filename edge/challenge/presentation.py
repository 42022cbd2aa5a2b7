"""How reference parts come before the inspector: as image files, or to the station's camera."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol, TextIO

from edge.cameras.factory import CameraKind, checked_kind, started_camera
from edge.cameras.files.not_inspected import NotInspected
from edge.cameras.files.pacing import Pace
from edge.cameras.files.replay import ReplayCamera
from edge.cameras.supervised.camera import SupervisedCamera
from edge.challenge.reference_parts import ReferencePart
from edge.errors import CameraError, ConfigurationError, StationError
from edge.imaging.frame import Frame
from edge.redaction import redacted
from edge.settings.camera import CameraSettings

READ_LIMIT_S = 0.1
# So long a camera that runs free, or waits for a signal of its own, may take for an image.
CAPTURE_LIMIT_S = 30.0


class NobodyPresents(ConfigurationError):
    """Parts are to be presented by hand, and there is no terminal or no camera to see them."""


class PartNotPresented(StationError):
    """The terminal ended before every part was presented in every round."""

    exit_code = 65


class Showings(Protocol):
    """Gives one frame of each part in each round, in the order of the study.

    Attributes:
        simulated: the frames do not come from a camera.
    """

    simulated: bool

    def frame(self, part: ReferencePart, place: str) -> Frame:
        """Return the frame of a part.

        Args:
            place: of this showing in the study, for people.
        """
        ...

    def close(self) -> None: ...


class FileShowings:
    """The images of the reference parts, read as a station reads files."""

    simulated = True

    def __init__(self, max_pixels: int, not_inspected: NotInspected) -> None:
        """Make what reads the images of reference parts.

        Args:
            max_pixels: ``camera.max_pixels`` of the station.
            not_inspected: counts what files hold beside the images that are shown.
        """
        self._max_pixels = max_pixels
        self._not_inspected = not_inspected
        self._files: dict[str, ReplayCamera] = {}

    def frame(self, part: ReferencePart, place: str) -> Frame:
        """Read the next image of a part; of one with a single image that one again.

        One that cannot be read is an INCOMPLETE frame, as on the line: an ERROR that counts.
        """
        if part.name not in self._files:
            self._files[part.name] = ReplayCamera(
                identity=part.name,
                images=part.images,
                pace=Pace(None),
                not_inspected=self._not_inspected,
                loop=True,
                max_pixels=self._max_pixels,
            )
        frame = self._files[part.name].read(0.0)
        assert frame is not None  # without a rate every image is due at once
        return frame

    def close(self) -> None:
        """Nothing is open between two images."""


class CameraShowings:
    """Somebody at the terminal presents each part to the station's camera."""

    def __init__(
        self,
        settings: CameraSettings,
        answers: TextIO,
        emit: Callable[[str], None],
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Open the camera.

        Args:
            settings: of the station's camera.
            answers: the terminal; a line is a part in place.
            emit: shows a line to whoever presents.
            clock_ns: monotonic, as frames have it.

        Raises:
            NobodyPresents: no terminal, or files instead of a camera.
            CameraError: the camera cannot be opened.
        """
        if not answers.isatty():
            raise NobodyPresents(
                "--present asks for each part at a terminal, but standard input is not a "
                "terminal. Run it in one, or leave --present out to inspect the images of "
                "the folder."
            )
        kind = checked_kind(settings)
        camera = None
        if kind.is_live and kind is not CameraKind.FOLDER:
            camera = started_camera(settings)
        if not isinstance(camera, SupervisedCamera):
            raise NobodyPresents(
                f"{redacted(settings.uri)} ({kind}): cannot be shown parts. Leave --present "
                "out, and put the images of the parts into the folder of the study."
            )
        self._camera = camera
        self.simulated = camera.simulated
        self._trigger = settings.trigger
        self._answers = answers
        self._emit = emit
        self._clock_ns = clock_ns

    def frame(self, part: ReferencePart, place: str) -> Frame:
        """Ask for a part, and take one frame of it; again where none comes.

        Raises:
            PartNotPresented: the terminal ended.
            CameraStuck: the camera's driver hangs.
        """
        while True:
            self._emit(f"{place}: place {part.name} in front of the camera and press Enter")
            if not self._answers.readline():
                raise PartNotPresented(
                    f"{part.name} was not presented ({place}). Nothing was recorded. Start the "
                    "study again; every part is needed in every round."
                )
            captured = self._captured()
            if isinstance(captured, Frame):
                return captured
            self._emit(f"no image of {part.name}: {captured}")

    def close(self) -> None:
        self._camera.close()

    def _captured(self) -> Frame | str:
        """Return the first frame from now on, whole or not, as the line does; or why none came."""
        asked_ns, limit_s = self._clock_ns(), CAPTURE_LIMIT_S
        if self._trigger.mode == "software":
            limit_s = self._trigger.frame_timeout_ms / 1e3
            try:
                self._camera.trigger()
            except CameraError as error:
                return str(error)
        until_ns = asked_ns + round(limit_s * 1e9)
        while (left_s := (until_ns - self._clock_ns()) / 1e9) > 0:
            frame = self._camera.read(min(READ_LIMIT_S, left_s))
            if frame is not None and frame.captured_ns >= asked_ns:
                return frame
        return self._camera.status.detail or f"the camera gave none within {limit_s:g} s"


def order_of_showing(
    parts: Sequence[ReferencePart], rounds: int
) -> list[tuple[int, ReferencePart, str]]:
    """Return every showing as round, part and place: round after round, all parts in each."""
    return [
        (turn, part, f"round {turn + 1} of {rounds}, part {number} of {len(parts)}")
        for turn in range(rounds)
        for number, part in enumerate(parts, 1)
    ]
