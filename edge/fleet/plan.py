"""The plan of a roll-out: which stations, in what order, within which bounds."""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from edge.contract.fleet import FleetMessage
from edge.fleet.errors import PlanInvalid
from edge.recipes.recipients import StationPattern
from edge.settings.fleet import Address
from edge.validation import in_words
from edge.yaml_lines import read_settings_file

Rate = Annotated[float, Field(ge=0, le=1)]
Minutes = Annotated[float, Field(ge=0, le=10_080)]
MAX_STATIONS = 500
MAX_WAVES = 20


class Canary(FleetMessage):
    """The stations that take a release first.

    Attributes:
        share: of the stations, at least one.
        stations: or these.
        minutes, parts: so long, and so many parts at each, before the rest follows. Of 400 parts
            it is seen that a rate of NOK of 5 % has doubled.
    """

    share: float = Field(default=0.1, gt=0, le=1)
    stations: tuple[StationPattern, ...] = Field(default=(), max_length=MAX_STATIONS)
    minutes: Minutes = 30.0
    parts: int = Field(default=400, ge=0, le=2000)


class RolloutBounds(FleetMessage):
    """When a station counts as bad with a release; None does not ask.

    Rates are compared by exact intervals (Clopper and Pearson, 95 %): what chance explains is not
    bad yet.

    Attributes:
        error_rate: bad when the rate of ERROR surely lies above.
        nok_factor: bad when the rate of NOK surely lies above that of the week before times this.
        nok_factor_below: bad when it surely lies below that times this: defects may pass.
        p99_ms: bad when the 99th percentile of at least 100 parts lies above.
        drift: whether an alarm of drift is bad.
        challenge: whether a station has to have passed its challenge before the rest follows.
    """

    error_rate: Rate | None = 0.01
    nok_factor: float | None = Field(default=1.2, ge=1, le=100)
    nok_factor_below: float | None = Field(default=None, ge=0, le=1)
    p99_ms: float | None = Field(default=None, gt=0)
    drift: bool = True
    challenge: bool = False


class Plan(FleetMessage):
    """One roll-out, as its file says.

    Attributes:
        stations: SITE/LINE/STATION/CAMERA, ``+`` for any name at a place.
        address: folder or URL below which stations fetch the release.
        put: folder or URL where this command puts it; None where that is ``address``.
        waves: shares of the stations behind the canary that have it at the end of each wave.
        wave_minutes, wave_parts: as the canary's.
        answer_minutes: a station that is online and has it neither in force nor refused by then,
            is bad.
        on_bad: what a bad station leads to.
        older: stations take it also where a newer version was in force.
        change_product: and where they inspect for another product.
    """

    stations: tuple[StationPattern, ...] = Field(min_length=1, max_length=MAX_STATIONS)
    address: Address
    put: Address | None = None
    canary: Canary = Canary()
    waves: tuple[float, ...] = Field(default=(1.0,), min_length=1, max_length=MAX_WAVES)
    wave_minutes: Minutes = 10.0
    wave_parts: int = Field(default=0, ge=0, le=2000)
    answer_minutes: Minutes = 15.0
    bounds: RolloutBounds = RolloutBounds()
    on_bad: Literal["roll_back", "pause"] = "roll_back"
    older: bool = False
    change_product: bool = False

    @field_validator("waves")
    @classmethod
    def _rising_to_all(cls, waves: tuple[float, ...]) -> tuple[float, ...]:
        rising = all(low < high for low, high in pairwise(waves))
        if not rising or waves[0] <= 0 or waves[-1] != 1.0:
            raise ValueError("must rise from above 0 to 1.0, for example [0.3, 1.0]")
        return waves

    @model_validator(mode="after")
    def _puts_where_it_can(self) -> Self:
        if self.put is None and self.address.startswith(("http://", "https://")):
            raise ValueError("needs put: the folder that the web server of address serves")
        return self

    def minutes(self, wave: int) -> float:
        """Return how long a wave is watched; wave 0 is the canary."""
        return self.canary.minutes if wave == 0 else self.wave_minutes

    def parts(self, wave: int) -> int:
        return self.canary.parts if wave == 0 else self.wave_parts


def read_plan(path: Path) -> Plan:
    """Read a plan: YAML, and so JSON.

    Raises:
        ConfigurationUnreadable: it is no YAML.
        PlanInvalid: names file, line and key.
    """
    file = read_settings_file(path)
    try:
        return Plan.model_validate(file.values)
    except ValidationError as error:
        faults = [
            f"{file.place(tuple(fault['loc']))}: "
            f"{'.'.join(str(part) for part in fault['loc']) or 'the plan'} {in_words(fault)}."
            for fault in error.errors()[:10]
        ]
        raise PlanInvalid(*faults) from error


def make_waves(plan: Plan, stations: Sequence[str], online: Sequence[str]) -> list[list[str]]:
    """Return the canary's stations and those of each wave.

    Args:
        stations: of the plan.
        online: of them; without names for the canary, those go first, as only they show anything.
    """
    ordered = sorted(stations, key=lambda one: (one not in online, one))
    named = {one for one in stations if any(_same(p, one) for p in plan.canary.stations)}
    count = max(1, math.ceil(plan.canary.share * len(ordered)))
    canary = [one for one in ordered if one in named] if named else ordered[:count]
    rest = [one for one in ordered if one not in canary]
    waves, begin = [canary], 0
    for share in plan.waves:
        end = math.ceil(share * len(rest))
        if rest[begin:end]:
            waves.append(rest[begin:end])
        begin = end
    return waves


def chosen(plan: Plan, known: Sequence[str]) -> list[str]:
    """Return the stations of a plan: those known that fit, and those that it names whole."""
    named = [one for one in plan.stations if "+" not in one]
    return sorted({*named, *(s for s in known if any(_same(p, s) for p in plan.stations))})


def _same(pattern: str, station: str) -> bool:
    pairs = zip(pattern.split("/"), station.split("/"), strict=False)
    return all(wanted in ("+", given) for wanted, given in pairs)
