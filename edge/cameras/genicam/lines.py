"""Output lines of a GenICam camera, each switched by a user output of its own (SFNC, Digital I/O).

A line shows its user output from when ``LineSource`` names it; the value is set before, so that
it never shows another one.
"""

from collections.abc import Sequence
from typing import Any

from edge.cameras.genicam.features import Features
from edge.cameras.interface import CameraLine
from edge.errors import CameraSettingRefused

USER_OUTPUT = "UserOutput"


class UserOutputs:
    """The user outputs behind the lines of an open camera."""

    def __init__(self, features: Features, device: Any, lines: Sequence[CameraLine]) -> None:
        """Set every line up, with its fail-safe level.

        Raises:
            CameraSettingRefused: the camera has no such line, or none that it switches.
            CameraNotOpened: it does not answer any more.
        """
        self._device = device
        self._lines = tuple(lines)
        self._outputs: dict[str, str] = {}
        self._selected = ""
        for one in lines:
            self._set_up(features, one)

    def set_line(self, line: str, high: bool) -> None:
        """Switch a line; returns once the camera has confirmed it. Raises what Aravis raises."""
        output = self._outputs[line]
        if output != self._selected:
            self._selected = ""
            self._device.set_string_feature_value("UserOutputSelector", output)
            self._selected = output
        self._device.set_boolean_feature_value("UserOutputValue", high)

    def rest(self) -> None:
        """Give every line its fail-safe level, before the camera is let go of."""
        for one in self._lines:
            self.set_line(one.line, one.high)

    def _set_up(self, features: Features, one: CameraLine) -> None:
        key = one.key
        features.write_choice(key, ["LineSelector"], one.line)
        if features.offers("LineMode"):
            features.write_choice(key, ["LineMode"], "Output")
        if not features.offers("LineSource"):
            raise CameraSettingRefused(
                f"{features.identity}: {key}: line {one.line} is no output (it has no LineSource). "
                f"Choose another one of {', '.join(features.choices(key, 'LineSelector'))}."
            )
        sources = features.choices(key, "LineSource")
        mine = [name for name in sources if name.startswith(USER_OUTPUT)]
        free = [name for name in mine if name not in self._outputs.values()]
        if not free:
            found = "none is left" if mine else f"its sources are {', '.join(sources)}"
            raise features.refusal(key, one.line, f"no user output can switch it: {found}")
        output = self._outputs[one.line] = free[0]
        features.enable(key, "LineInverter", False)
        features.write_choice(key, ["UserOutputSelector"], output)
        features.call(key, self.set_line, one.line, one.high)
        if (
            features.call(key, self._device.get_boolean_feature_value, "UserOutputValue")
            != one.high
        ):
            raise features.refusal(key, one.line, "its user output does not switch")
        features.write_choice(key, ["LineSource"], output)
