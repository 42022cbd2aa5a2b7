"""What a seed makes of a station's days: how it is set up, its parts, and what goes wrong when."""

import random
from dataclasses import dataclass, field, replace

DAY_S = 86_400.0
PARTS = 240
WINDOWS = 4
REST_S = 3.0
# How many faults a stretch of production has: an ordinary day, and one in which much goes wrong.
ORDINARY = (0, 1, 2, 3, 5)
HARD = (4, 6, 8)

MODES = ("software", "software", "announced", "every_frame", "free_run")
CAMERA_FAULTS = (
    "lost",
    "repeated",
    "late",
    "too_late",
    "incomplete",
    "wrong_size",
    "old_image",
    "missed",
)
BROKER_FAULTS = ("away", "half_open", "slow", "refusing", "forgetful")
DISK_FAULTS = ("full", "failing", "slow", "unreadable")
PLC_FAULTS = (
    "twice",
    "contradicting",
    "replayed",
    "expired",
    "retained",
    "wrong_ack",
    "no_ack",
    "malformed",
)
KINDS = (
    *("camera", "camera", "gone", "plc", "plc", "broker", "broker", "disk", "clock"),
    *("kill", "kill", "kill", "inspector", "people"),
)
PEOPLE = ("threshold", "recipe", "wrong_recipe", "resend")


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that happens at a moment of the plan.

    Attributes:
        at_s: since the beginning of the run.
        what: see the lists above.
        lasts_s: 0 of what has no length.
        number: whatever else it takes, drawn.
    """

    at_s: float
    what: str
    lasts_s: float = 0.0
    number: int = 0


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of production: a part a second, or as fast as ``period_s`` says."""

    at_s: float
    parts: int
    period_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that happens to a station, as the seed has it."""

    seed: str
    mode: str
    leader: str
    overlapping: bool
    slots: int
    deadline_ms: float | None
    windows: tuple[Window, ...]
    faults: tuple[Fault, ...]
    ends_s: float
    skips: tuple[tuple[float, float, str], ...] = field(default=())

    def without(self, fault: Fault) -> "Plan":
        return replace(self, faults=tuple(one for one in self.faults if one is not fault))


def make_plan(
    seed: str,
    days: int,
    parts: int = PARTS,
    counts: tuple[int, ...] = ORDINARY,
    *,
    favoured: tuple[str, ...] = (),
) -> Plan:
    """Draw a plan of so many days; hours without parts are passed over.

    Args:
        parts: of a day, in windows; the clock of the hours between them is set on.
        counts: of the faults in a window, one is drawn.
        favoured: faults, of which each other one is.
    """
    chance = random.Random(f"plan {seed}")
    mode = chance.choice(MODES)
    leader = "modbus" if mode == "announced" or chance.random() < 0.6 else "mqtt"
    overlapping = chance.random() < 0.4
    windows: list[Window] = []
    skips: list[tuple[float, float, str]] = []
    faults: list[Fault] = []
    at_s = 3.0
    for _ in range(days):
        for number in range(WINDOWS):
            period_s = chance.choice((1.0, 1.0, 1.0, 0.4, 2.5))
            count = max(1, parts // WINDOWS)
            windows.append(Window(at_s, count, period_s))
            lasts_s = count * period_s
            for _ in range(chance.choice(counts)):
                fault = _fault(chance, at_s, lasts_s, mode=mode, overlapping=overlapping)
                if favoured and chance.random() < 0.5:
                    fault = _instead(fault, chance.choice(favoured), overlapping)
                faults.append(fault)
            at_s += lasts_s + REST_S
            hours = chance.uniform(1.0, 3.0) if number < WINDOWS - 1 else chance.uniform(8.0, 14.0)
            how = chance.choice(("stands_still", "suspended"))
            skips.append((at_s, hours * 3600.0, how))
            at_s += REST_S
    return Plan(
        seed=seed,
        mode=mode,
        leader=leader,
        overlapping=overlapping,
        slots=chance.choice((1, 2, 8, 8)),
        deadline_ms=chance.choice((None, None, 300.0, 900.0)),
        windows=tuple(windows),
        faults=tuple(sorted(faults, key=lambda one: one.at_s)),
        ends_s=at_s,
        skips=tuple(skips),
    )


def _instead(fault: Fault, what: str, overlapping: bool) -> Fault:
    if what == "missed" and overlapping:
        return fault
    lasts = what.startswith(("camera_", "broker_", "disk_", "inspector_"))
    return replace(fault, what=what, lasts_s=(fault.lasts_s or 4.0) if lasts else 0.0)


def _fault(
    chance: random.Random, at_s: float, lasts_s: float, *, mode: str, overlapping: bool
) -> Fault:
    moment_s = round(at_s + chance.uniform(-1.5, lasts_s), 3)
    number = chance.randrange(1, 1 << 30)
    kind = chance.choice(KINDS)
    short_s, long_s = round(chance.uniform(0.2, 6.0), 2), round(chance.uniform(2.0, 45.0), 2)
    match kind:
        case "camera":
            what = chance.choice(CAMERA_FAULTS)
            # Of several parts that wait, no counter shows an edge that was neither exposed nor
            # counted: the hand-shake names this limit, and asks for one part at a time.
            if what == "missed" and overlapping:
                what = "lost"
            return Fault(moment_s, what, 0.0, number)
        case "gone":
            what = chance.choice(("camera_gone", "camera_silent", "camera_hangs"))
            return Fault(moment_s, what, max(short_s, 2.5), number)
        case "plc":
            return Fault(moment_s, chance.choice(PLC_FAULTS), 0.0, number)
        case "broker":
            return Fault(moment_s, f"broker_{chance.choice(BROKER_FAULTS)}", long_s, number)
        case "disk":
            return Fault(moment_s, f"disk_{chance.choice(DISK_FAULTS)}", short_s, number)
        case "clock":
            return Fault(moment_s, chance.choice(("clock_step", "clock_drift")), 0.0, number)
        case "kill":
            what = chance.choice(
                ("kill", "kill", "kill_before_commit", "kill_after_commit", "stop")
            )
            return Fault(moment_s, what, 0.0, number)
        case "inspector":
            what = chance.choice(("inspector_slow", "inspector_hangs", "inspector_fails"))
            return Fault(moment_s, what, short_s, number)
    return Fault(moment_s, chance.choice(PEOPLE), 0.0, number)
