"""One feature of a GenICam camera at a time: written, read back, and refused in words."""

import logging
from collections.abc import Collection, Sequence
from typing import Any

from edge.cameras.genicam.library import Library
from edge.errors import CameraNotOpened, CameraSettingRefused

log = logging.getLogger(__name__)

# Cameras count exposure and gain in steps of their own and rarely say how large those are.
ROUNDING = 0.01


class Features:
    """The features of an open camera, by the names of GenICam's SFNC or of older cameras.

    Every ``write`` takes the configuration's key and the names under which cameras know the
    feature; the first that the camera has is used. Each method may raise ``CameraSettingRefused``
    (the camera has no such feature, does not allow the value, or holds another one after it was
    written) and ``CameraNotOpened`` (the camera does not answer any more).

    Attributes:
        identity: of the camera.
        applied: key and value of what was written, as read back.
    """

    def __init__(
        self, aravis: Library, identity: str, device: Any, given: Collection[str] = ()
    ) -> None:
        """Nothing is written yet.

        Args:
            given: keys that the site has set; what is refused of others, it cannot remove.
        """
        self._aravis = aravis
        self._given = frozenset(given)
        self.identity = identity
        self._device = device
        self.applied: dict[str, str] = {}

    def offers(self, name: str) -> bool:
        """Tell whether this camera has the feature, and in its present mode."""
        try:
            # Descriptions are made for a family of cameras, so many features are in name only.
            device = self._device
            return bool(device.is_feature_implemented(name) and device.is_feature_available(name))
        except self._aravis.Error as error:
            self._raise_if_gone(error)
            return False

    def read_text(self, name: str) -> str:
        return str(self.call(name, self._device.get_string_feature_value, name))

    def read_integer(self, name: str) -> int:
        return int(self.call(name, self._device.get_integer_feature_value, name))

    def read_number(self, name: str) -> float:
        if self._is_float(name):
            return float(self.call(name, self._device.get_float_feature_value, name))
        return float(self.read_integer(name))

    def choices(self, key: str, name: str) -> list[str]:
        """Return the entries of an enumeration that may be chosen now."""
        listing = self._device.dup_available_enumeration_feature_values_as_strings
        return list(self.call(key, listing, name))

    def write_choice(self, key: str, names: Sequence[str], asked: str) -> None:
        """Write an entry of an enumeration."""
        name = self._first(key, names)
        choices = self.choices(key, name)
        if asked not in choices:
            raise self.refusal(key, asked, f"it offers {', '.join(choices)}")
        self.call(key, self._device.set_string_feature_value, name, asked)
        got = self.read_text(name)
        if got != asked:
            raise self.refusal(key, asked, f"it stays at {got}")
        self.applied[key] = got

    def write_integer(self, key: str, names: Sequence[str], asked: int) -> None:
        """Write a whole number; the camera must take it exactly."""
        name = self._first(key, names)
        low, high = self.call(key, self._device.get_integer_feature_bounds, name)
        step = max(self.call(key, self._device.get_integer_feature_increment, name), 1)
        allowed = f"it allows {low} to {high}" + (f" in steps of {step}" if step > 1 else "")
        if not low <= asked <= high or (asked - low) % step:
            raise self.refusal(key, asked, allowed)
        self.call(key, self._device.set_integer_feature_value, name, asked)
        got = self.read_integer(name)
        if got != asked:
            raise self.refusal(key, asked, f"it took {got}; {allowed}")
        self.applied[key] = str(got)

    def write_number(
        self, key: str, names: Sequence[str], asked: float, rounding: float = 0.0
    ) -> None:
        """Write a physical quantity; the camera may round it to its own step.

        Args:
            rounding: by how much it may differ then; at least by one per cent.
        """
        name = self._first(key, names)
        if not self._is_float(name):
            self.write_integer(key, [name], round(asked))
            return
        low, high = self.call(key, self._device.get_float_feature_bounds, name)
        step = self._float_step(name)
        allowed = f"it allows {low:g} to {high:g}" + (f" in steps of {step:g}" if step else "")
        if not low <= asked <= high:
            raise self.refusal(key, asked, allowed)
        self.call(key, self._device.set_float_feature_value, name, asked)
        got = self.read_number(name)
        if abs(got - asked) > max(step, rounding, ROUNDING * abs(asked)):
            raise self.refusal(key, asked, f"it took {got:g}; {allowed}")
        if got != asked:
            log.info("%s: %s: asked for %g, uses %g", self.identity, key, asked, got)
        self.applied[key] = f"{got:g}"

    def switch(self, key: str, name: str, asked: str) -> None:
        """Write an enumeration where the camera has it; nothing where it has not."""
        if self.offers(name) and self.read_text(name) != asked:
            self.write_choice(key, [name], asked)

    def enable(self, key: str, name: str, asked: bool) -> None:
        """Write yes or no where the camera has the feature; nothing where it has not."""
        if self.offers(name):
            self.call(key, self._device.set_boolean_feature_value, name, asked)

    def call(self, key: str, function: Any, *arguments: object) -> Any:
        """Call a function of Aravis on behalf of a key."""
        try:
            return function(*arguments)
        except self._aravis.Error as error:
            self._raise_if_gone(error)
            asked = " ".join(str(argument) for argument in arguments)
            raise self.refusal(key, asked, self._aravis.words(error)) from error

    def refusal(self, key: str, asked: object, reason: str) -> CameraSettingRefused:
        shown = f"{asked:g}" if isinstance(asked, float) else asked
        todo = f"Change or remove {key}" if key in self._given else f"Set {key} to what it takes"
        return CameraSettingRefused(
            f"{self.identity}: {key}: the camera does not accept {shown}; {reason}. {todo}."
        )

    def _first(self, key: str, names: Sequence[str]) -> str:
        for name in names:
            if self.offers(name):
                return name
        raise CameraSettingRefused(
            f"{self.identity}: {key}: this camera has no {' or '.join(names)}, at least "
            f"not in its present mode. Remove {key}, or set it in the camera."
        )

    def _is_float(self, name: str) -> bool:
        return isinstance(self._device.get_feature(name), self._aravis.api.GcFloat)

    def _float_step(self, name: str) -> float:
        try:
            step = float(self._device.get_float_feature_increment(name))
        except self._aravis.Error:
            return 0.0
        # Aravis gives the smallest positive number where the camera names no step.
        return step if step > 1e-12 else 0.0

    def _raise_if_gone(self, error: Any) -> None:
        if self._aravis.unreachable(error) or self._aravis.busy(error):
            raise CameraNotOpened(
                f"{self.identity}: the camera stopped answering while it was set up "
                f"({self._aravis.words(error)}). Check cable and power."
            ) from error
