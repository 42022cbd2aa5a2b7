"""The errors a user can meet. Each message names the cause and the next step."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from edge.redaction import one_line


class StationError(Exception):
    """Base of every expected error; ``exit_code`` is what the process ends with.

    Each argument is one line of the message, whatever foreign names it quotes.

    Attributes:
        kind: by which the page has words of its own for it, in each of its languages; empty where
            it has none.
        data: what these words name.
    """

    exit_code = 70
    kind: str = ""
    data: Mapping[str, str | int] = MappingProxyType({})

    def __str__(self) -> str:
        return "\n".join(one_line(str(line)) for line in self.args)


class ConfigurationError(StationError):
    """Something the user wrote or passed is wrong; restarting cannot cure it (EX_CONFIG)."""

    exit_code = 78


class ConfigurationInvalid(ConfigurationError):
    """A key is unknown, missing or out of range, or a file that it names is of no use."""


class BundleError(ConfigurationError):
    """The model bundle cannot be used."""


class BundleMissing(BundleError):
    """A file of the bundle is not there."""


class BundleDamaged(BundleError):
    """A file of the bundle is truncated, altered, or not what the manifest says it is."""


class BundleVersionUnsupported(BundleError):
    """The manifest was written for another version of this software."""


class OutputNotWritable(ConfigurationError):
    """A folder or file that the user asked for cannot be written."""


class ImageUnreadable(StationError):
    """An image file cannot be read or decoded."""

    exit_code = 65


class FrameUnsuitable(StationError):
    """A frame has a size or pixel format that the model was not made for."""

    exit_code = 65


class PartNotFound(FrameUnsuitable):
    """A frame shows no part that is like the reference, or not all of it."""


class PartAmbiguous(FrameUnsuitable):
    """A frame shows the reference at more than one place or angle."""


class ModelError(StationError):
    """The network could not be compiled or run, or gave numbers that are not finite."""


class CameraError(StationError):
    """Base of camera faults (EX_UNAVAILABLE)."""

    exit_code = 69


class CameraUriInvalid(ConfigurationError):
    """The camera URI names no kind of camera we know, or no place that exists."""


class CameraNotOpened(CameraError):
    """The camera could not be opened."""


class CameraLost(CameraError):
    """The camera was open and stopped giving frames."""


class CameraClosed(CameraLost):
    """The station itself has closed the camera: it ends."""


class CameraStuck(CameraError):
    """A call into the camera's driver does not return; only a new process can help."""


class CameraSettingRefused(ConfigurationError):
    """The camera does not take a setting as asked."""


def raised_at(error: BaseException) -> str:
    """Return file and line where an exception was raised, for the message of a defect."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "unknown place"
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
