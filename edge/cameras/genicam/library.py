"""Aravis, the library behind GigE Vision and USB3 Vision: loaded when it is needed, not before."""

import ctypes
import importlib
from functools import cache
from typing import Any

from edge.errors import ConfigurationError

# From 0.8.34 on the packet socket is safe; before, it may crash the process.
PACKET_SOCKET_SAFE = (0, 8, 34)

_UNREACHABLE = (
    "NOT_CONNECTED",
    "TRANSFER_ERROR",
    "TIMEOUT",
    "NOT_FOUND",
    "NOT_CONTROLLER",
)


class AravisMissing(ConfigurationError):
    """Aravis or its Python binding is not installed; the message names the packages."""


class Library:
    """What is used of Aravis.

    Attributes:
        api: ``gi.repository.Aravis``.
        Error: the exception that its calls raise.
        version: of the library.
    """

    def __init__(self) -> None:
        try:
            gi = importlib.import_module("gi")
        except ImportError as error:
            raise AravisMissing(
                f"GigE and USB3 Vision cameras need PyGObject ({error}). Install "
                "libgirepository1.0-dev and libcairo2-dev, then pip install "
                "'inspection-station[gige]'; or python3-gi in a virtual environment that was "
                "made with --system-site-packages."
            ) from error
        try:
            gi.require_version("Aravis", "0.8")
            self.api: Any = importlib.import_module("gi.repository.Aravis")
            self._native = ctypes.CDLL("libaravis-0.8.so.0")
        except (ImportError, ValueError, OSError) as error:
            raise AravisMissing(
                f"GigE and USB3 Vision cameras need Aravis 0.8 ({error}). "
                "Install gir1.2-aravis-0.8 and libaravis-0.8-0."
            ) from error
        self.Error: Any = importlib.import_module("gi.repository.GLib").Error
        native, api = self._native, self.api
        self.version = (
            native.arv_get_major_version(),
            native.arv_get_minor_version(),
            native.arv_get_micro_version(),
        )
        self._busy = int(api.DeviceError.PROTOCOL_ERROR_BUSY)
        self._unreachable = {int(getattr(api.DeviceError, name)) for name in _UNREACHABLE}
        native.arv_buffer_get_data.restype = ctypes.c_void_p
        native.arv_buffer_get_data.argtypes = [ctypes.c_void_p, ctypes.c_void_p]

    def received(self, buffer: Any) -> ctypes.Array[ctypes.c_uint8]:
        """Return the bytes that came, in place: they change once the buffer is pushed again.

        The binding's own ``get_data`` would copy them, and the frame is copied once anyway.
        """
        size = ctypes.c_size_t()
        # A GObject's hash is the address of the object that it wraps.
        address = self._native.arv_buffer_get_data(hash(buffer), ctypes.byref(size))
        return (ctypes.c_uint8 * size.value).from_address(address or 0)

    def unreachable(self, error: Any) -> bool:
        """Tell whether a call failed for want of the camera, not of what was asked."""
        domain = self.api.device_error_quark()
        return any(error.matches(domain, code) for code in self._unreachable)

    def busy(self, error: Any) -> bool:
        """Tell whether the camera is there and could not do now what was asked."""
        return bool(error.matches(self.api.device_error_quark(), self._busy))

    def words(self, error: Any) -> str:
        return str(error.message).strip().rstrip(".")


@cache
def library() -> Library:
    """Load Aravis.

    Raises:
        AravisMissing: not installed.
    """
    return Library()
