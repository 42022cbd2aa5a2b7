"""Lines of a GPIO chip of this PC, through libgpiod 2."""

import errno
from collections.abc import Sequence
from typing import Any

from edge.errors import ConfigurationError
from edge.plc.output_device import Levels, Line, OutputDeviceAway, OutputRefused
from edge.settings.outputs import GpioSettings

CONSUMER = "edge-run"

_SEE_CHIPS = "List the chips with gpiodetect, and set outputs.gpio.chip"
_OPEN_IT = "Put the user of the service into the group of the device, or write a udev rule"
_CAUSES = {
    errno.ENOENT: ("there is no such chip", _SEE_CHIPS),
    errno.ENODEV: ("it is not a GPIO chip", _SEE_CHIPS),
    errno.ENOTTY: ("it is not a GPIO chip", _SEE_CHIPS),
    errno.EACCES: ("this user may not open it", _OPEN_IT),
    errno.EPERM: ("this user may not open it", _OPEN_IT),
    errno.EBUSY: ("another program holds one of its lines", "Find it with gpioinfo, and stop it"),
}
_SEE_LINES = "List its lines with gpioinfo, and set outputs.*.line"


class GpioMissing(ConfigurationError):
    """The library of GPIO chips is not installed."""


class GpioLines:
    """Lines that this process holds; the kernel gives them free when it ends."""

    def __init__(self, settings: GpioSettings) -> None:
        """Nothing is opened yet.

        Raises:
            GpioMissing: the extra is not installed.
        """
        self.refresh_s: float | None = None
        self._chip = settings.chip
        self._request: Any = None
        try:
            # gpiod is an extra of its own, and of Linux only.
            import gpiod
        except ImportError as error:
            raise GpioMissing(
                f"outputs.gpio cannot be used: {error}. Install the extra: "
                "pip install 'inspection-station[gpio]'."
            ) from error
        self._library: Any = gpiod

    def open(self, levels: Levels) -> None:
        self.close()
        line, settings = self._library.line, self._library.LineSettings
        wanted = {
            one: settings(direction=line.Direction.OUTPUT, output_value=self._value(level))
            for one, level in levels.items()
        }
        try:
            self._request = self._library.request_lines(
                self._chip, consumer=CONSUMER, config=wanted
            )
        except (OSError, ValueError) as error:
            raise gpio_refusal(self._chip, error) from error

    def look(self, lines: Sequence[Line]) -> None:
        """See whether the chip has these lines and nobody holds them; switches nothing.

        Raises:
            OutputRefused: it has not, or somebody does.
        """
        try:
            with self._library.Chip(self._chip) as chip:
                held = [one for one in lines if chip.get_line_info(one).used]
        except (OSError, ValueError) as error:
            raise gpio_refusal(self._chip, error) from error
        if held:
            raise gpio_refusal(self._chip, OSError(errno.EBUSY, f"line {held[0]} is held"))

    def write(self, levels: Levels) -> None:
        if self._request is None:
            raise OutputDeviceAway(f"outputs.gpio {self._chip}: is not open.")
        try:
            self._request.set_values({line: self._value(high) for line, high in levels.items()})
        except OSError as error:  # a chip that was pulled out, as USB adapters are
            self.close()
            raise OutputDeviceAway(
                f"outputs.gpio {self._chip}: does not switch ({error.strerror}). Check that it is "
                "still there: gpiodetect."
            ) from error

    def close(self) -> None:
        if self._request is not None:
            request, self._request = self._request, None
            request.release()

    def _value(self, high: bool) -> Any:
        value = self._library.line.Value
        return value.ACTIVE if high else value.INACTIVE


def gpio_refusal(chip: str, error: OSError | ValueError) -> OutputRefused:
    """Return what to do about lines that cannot be had."""
    code = error.errno if isinstance(error, OSError) else None
    cause, todo = _CAUSES.get(code or 0, (f"these lines cannot be requested ({error})", _SEE_LINES))
    return OutputRefused(f"outputs.gpio {chip}: {cause}. {todo}.")
