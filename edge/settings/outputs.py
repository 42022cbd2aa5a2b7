"""What a site sets about digital outputs: which line each is, and when it switches."""

from collections.abc import Iterator
from typing import Literal, Self

from pydantic import Field, model_validator

from edge.section import Section

Device = Literal["module", "camera", "gpio"]
Level = Literal["active", "inactive"]
Line = int | str
PART_OUTPUTS = ("reject", "good")
STATE_OUTPUTS = ("ready", "fault", "busy")
MAX_COIL = 65_535


class RemoteIoSettings(Section):
    """A remote I/O module that is a Modbus TCP server; its lines are its coils."""

    host: str = Field(min_length=1, description="Address of the module.", examples=["192.168.0.20"])
    port: int = Field(default=502, ge=1, le=65_535, description="Port of the module.")
    unit: int = Field(default=1, ge=0, le=255, description="Its unit id.")
    timeout_ms: float = Field(
        default=200.0,
        ge=5,
        le=10_000,
        description="The module counts as disconnected after this time without an answer.",
    )
    refresh_ms: float = Field(
        default=100.0,
        ge=5,
        le=10_000,
        description="Period at which all coils are written; set the module's watchdog to three "
        "times that.",
    )


class EncoderSettings(Section):
    """A counter of the conveyor's encoder, in a register of a Modbus TCP server."""

    host: str = Field(
        min_length=1,
        description="Address of the module or PLC that counts.",
        examples=["192.168.0.20"],
    )
    port: int = Field(default=502, ge=1, le=65_535, description="Port of that device.")
    unit: int = Field(default=1, ge=0, le=255, description="Its unit id.")
    address: int = Field(
        ge=0,
        le=MAX_COIL - 1,
        description="Register of the counter, from 0; with 32 bits, the first of two.",
        examples=[4],
    )
    area: Literal["input", "holding"] = Field(
        default="input", description="Kind of register: input or holding."
    )
    bits: Literal[16, 32] = Field(default=32, description="Width of the counter in bits: 16 or 32.")
    word_order: Literal["big", "little"] = Field(
        default="big",
        description="Word order with 32 bits. big: high word first; little: low word first.",
    )
    reversed: bool = Field(
        default=False, description="The counter counts down while parts move forward."
    )
    poll_ms: float = Field(
        default=10.0, ge=1, le=100, description="Period at which the counter is read."
    )
    timeout_ms: float = Field(
        default=200.0,
        ge=5,
        le=10_000,
        description="After this time without a count, parts on the conveyor are rejected.",
    )


class GpioSettings(Section):
    """Lines of a GPIO chip of this PC."""

    chip: str = Field(
        default="/dev/gpiochip0", min_length=1, description="GPIO chip; gpiodetect lists them."
    )


class OutputSettings(Section):
    """A line that shows what the station is doing."""

    device: Device = Field(
        description="Device that has the line: module, camera or gpio.", examples=["module"]
    )
    line: Line = Field(
        description=(
            "With module, the number of the coil, from 0; with camera, a name such as "
            "Line2; with gpio, offset or name."
        ),
        examples=[0],
    )
    inverted: bool = Field(default=False, description="The active level is low.")
    safe: Level | None = Field(
        default=None,
        description="Level at start, stop and crash; left out: see docs/outputs.md.",
        examples=["active"],
    )


class PartOutputSettings(OutputSettings):
    """A line that switches for parts."""

    delay_ms: float | None = Field(
        default=None,
        ge=0,
        le=600_000,
        description="Time from the arrival of the image to the edge; left out: as soon as the "
        "verdict is recorded.",
        examples=[250],
    )
    delay_counts: int | None = Field(
        default=None,
        ge=1,
        description="Instead of delay_ms: encoder counts from the image to the edge.",
        examples=[1200],
    )
    window_ms: float = Field(
        default=500.0,
        gt=0,
        le=600_000,
        description="Without a delay: an OK that comes later than this after the image no "
        "longer counts.",
    )
    pulse_ms: float | None = Field(
        default=None,
        ge=1,
        le=60_000,
        description="Length of the pulse; left out: the level stays until the next part.",
        examples=[40],
    )
    hold_ms: float = Field(
        default=2000.0, ge=1, le=600_000, description="Longest time that a level stays active."
    )

    @model_validator(mode="after")
    def _one_delay(self) -> Self:
        if self.delay_ms is not None and self.delay_counts is not None:
            raise ValueError("delay_ms and delay_counts cannot be combined. Remove one")
        return self


class RejectSettings(PartOutputSettings):
    """The line that rejects parts."""

    idle: Level = Field(
        default="active",
        description=(
            "active: everything is rejected, and an OK lets its part pass; inactive: "
            "bad parts are rejected by a pulse, and everything passes while the station "
            "is not running."
        ),
    )


class OutputsSettings(Section):
    """Digital outputs with a deadline."""

    module: RemoteIoSettings | None = Field(
        default=None,
        description="A Modbus TCP remote I/O module.",
    )
    gpio: GpioSettings | None = Field(
        default=None,
        description="A GPIO chip of this PC.",
        examples=[{"chip": "/dev/gpiochip0"}],
    )
    encoder: EncoderSettings | None = Field(
        default=None,
        description="A counter of the conveyor, for delay_counts.",
    )
    reject: RejectSettings | None = Field(
        default=None,
        description="Released only for a part that is OK.",
    )
    good: PartOutputSettings | None = Field(
        default=None,
        description="Active only for a part that is OK.",
        examples=[{"device": "module", "line": 1, "delay_counts": 1200, "pulse_ms": 40}],
    )
    ready: OutputSettings | None = Field(
        default=None,
        description="Active while parts are inspected or a trigger would be accepted.",
        examples=[{"device": "module", "line": 2}],
    )
    fault: OutputSettings | None = Field(
        default=None,
        description="Active unless the station is online; also while it is not running.",
        examples=[{"device": "module", "line": 3}],
    )
    busy: OutputSettings | None = Field(
        default=None,
        description="Active while a part has an image but no recorded verdict.",
        examples=[{"device": "gpio", "line": "GPIO17"}],
    )
    tolerance_ms: float = Field(
        default=20.0,
        gt=0,
        le=10_000,
        description="An edge that the device confirms later than this is missed and recorded as "
        "an event.",
    )
    missed_takes_ready_ms: float | None = Field(
        default=None,
        ge=1,
        le=600_000,
        description="After a missed edge, ready goes inactive for this time; left out: it does "
        "not.",
        examples=[5000],
    )
    record_edges: bool = Field(
        default=False,
        description="Record every edge as an event; false: only missed edges, and a summary "
        "every minute.",
    )

    def named(self) -> Iterator[tuple[str, OutputSettings]]:
        """Yield name and settings of each output that there is."""
        for name in (*PART_OUTPUTS, *STATE_OUTPUTS):
            found = getattr(self, name)
            if found is not None:
                yield name, found

    def lines(self, device: str) -> dict[str, OutputSettings]:
        """Return the outputs of a device."""
        return {name: one for name, one in self.named() if one.device == device}

    def safe_level(self, name: str) -> bool:
        """Return whether an output is active at start, stop and crash."""
        one: OutputSettings = getattr(self, name)
        if one.safe is not None:
            return one.safe == "active"
        return name in ("reject", "fault")

    def not_fail_safe(self) -> list[str]:
        """Return, for people, what lets parts pass without a fresh OK."""
        found = []
        if self.reject is not None and self.reject.idle == "inactive":
            found.append(
                "outputs.reject.idle is inactive: every part passes while this station is "
                "not running or a wire is broken. Wire good, or leave idle out."
            )
        if self.reject is not None and not self.safe_level("reject"):
            found.append(
                "outputs.reject.safe is inactive: at start, stop and crash every part passes. "
                "Leave it out."
            )
        if self.good is not None and self.safe_level("good"):
            found.append(
                "outputs.good.safe is active: at start, stop and crash every part passes. "
                "Leave it out."
            )
        return found

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        outputs = dict(self.named())
        if not outputs:
            raise ValueError("no output is named. Set reject, good, ready, fault or busy")
        for name, one in outputs.items():
            self._check_line(name, one)
        self._refuse_shared_lines(outputs)
        for device in ("module", "gpio"):
            if getattr(self, device) is not None and not self.lines(device):
                raise ValueError(f"{device} has no output. Give one device: {device}, or remove it")
        self._check_counts(outputs)
        return self

    def _check_counts(self, outputs: dict[str, OutputSettings]) -> None:
        counting = {
            name: one.delay_counts
            for name, one in outputs.items()
            if isinstance(one, PartOutputSettings) and one.delay_counts is not None
        }
        encoder = self.encoder
        if encoder is None:
            if counting:
                raise ValueError(f"{next(iter(counting))}.delay_counts: outputs.encoder is missing")
            return
        if not counting:
            raise ValueError("encoder is not used by any output. Set delay_counts, or remove it")
        half = 1 << (encoder.bits - 1)
        for name, counts in counting.items():
            if counts >= half:
                raise ValueError(
                    f"{name}.delay_counts {counts} must be less than half the range of a counter "
                    f"of {encoder.bits} bits ({half}). Use one of 32 bits, or a coarser encoder"
                )

    def _check_line(self, name: str, one: OutputSettings) -> None:
        if one.device != "camera" and getattr(self, one.device) is None:
            raise ValueError(f"{name}.device is {one.device}, but outputs.{one.device} is missing")
        number = isinstance(one.line, int)
        if one.device == "module" and not (number and 0 <= int(one.line) <= MAX_COIL):
            raise ValueError(
                f"{name}.line {one.line} is not a coil. Give its number, 0 to {MAX_COIL}"
            )
        if one.device == "camera" and (number or not one.line):
            raise ValueError(
                f"{name}.line {one.line} is not a line of a camera. Give a name such as Line2"
            )
        if one.device == "gpio" and (int(one.line) < 0 if number else not one.line):
            raise ValueError(
                f"{name}.line {one.line} is not a line of a GPIO chip. Give its offset or name"
            )

    def _refuse_shared_lines(self, outputs: dict[str, OutputSettings]) -> None:
        seen: dict[tuple[str, Line], str] = {}
        for name, one in outputs.items():
            other = seen.setdefault((one.device, one.line), name)
            if other != name:
                raise ValueError(
                    f"{other} and {name} are both line {one.line} of {one.device}. "
                    "Give each output a line of its own"
                )
