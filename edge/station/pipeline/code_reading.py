"""Reads the code of a part beside its inspection, within a time."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from edge.contract.verdict import Recipe
from edge.imaging.codes import CodeReading, demand_readable, read_code
from edge.imaging.frame import Box, Frame, FrameStatus, Pixels
from edge.inspection.decision import Decision, Reason, Result
from edge.inspection.inspector import Inspection
from edge.recipes.errors import CodeNamesNoRecipe
from edge.settings.code import CodeSettings

# Returns the recipe that parts may ask for by a name; None where none of that name is in force.
OfferedRecipe = Callable[[str], Recipe | None]


@dataclass(frozen=True, slots=True)
class PartCode:
    """What is known of the code of a part.

    Attributes:
        part_id: that it says; None where it was not read.
        fault: why not; else empty.
        recipe: that it names, version 0 of one that is not in force; None where it names none.
        refusal: why no recipe inspects the part; else empty.
    """

    part_id: str | None
    fault: str = ""
    recipe: Recipe | None = None
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class StartedReading:
    """A reading that runs or waits for a thread.

    Attributes:
        due_ns: monotonic time until which it is waited for.
        given_up: nobody waits for it any more; it need not begin.
    """

    future: Future[PartCode]
    due_ns: int
    given_up: threading.Event


class CodeReader:
    """Threads that read codes, as many as there are inspectors.

    A reading that takes too long is given up; its thread reads to the end, and what waits behind it
    is given up in its own time. For each thread one more may wait: a decoder that hangs holds no
    more frames than that, and the parts after it have no code at once.

    Attributes:
        names_recipes: codes say which recipe inspects their parts, so each part's is read first.
    """

    def __init__(
        self,
        settings: CodeSettings,
        threads: int,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        *,
        offered: OfferedRecipe = lambda _: None,
    ) -> None:
        """Prepare to read.

        Args:
            offered: finds the recipe that a code names.

        Raises:
            CodesNotInstalled: a kind of code cannot be read here.
        """
        demand_readable(settings.kinds)
        self._settings = settings
        self._clock_ns = clock_ns
        region = settings.region
        box = None if region is None else Box(region.x, region.y, region.width, region.height)
        self._read = partial(read_code, kinds=settings.kinds, region=box)
        self._pattern = settings.recipe.reader() if settings.recipe is not None else None
        self.names_recipes = self._pattern is not None
        self._offered = offered
        self._places = threading.BoundedSemaphore(2 * threads)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="code")

    def start(self, frame: Frame) -> StartedReading | None:
        """Begin to read; None of a frame that is not whole."""
        if frame.status is not FrameStatus.COMPLETE or not frame.pixels.size:
            return None
        due_ns = self._clock_ns() + int(self._settings.timeout_ms * 1e6)
        given_up = threading.Event()
        if not self._places.acquire(blocking=False):
            refused: Future[PartCode] = Future()
            refused.set_result(self._not_read("codes of earlier parts are still being read"))
            return StartedReading(refused, due_ns, given_up)
        future = self._pool.submit(self._read_in_time, frame.pixels, given_up)
        return StartedReading(future, due_ns, given_up)

    def wait(self, reading: StartedReading) -> PartCode:
        """Return what was read, at the latest when the reading's time is over."""
        left_s = max(reading.due_ns - self._clock_ns(), 0) / 1e9
        try:
            return reading.future.result(left_s)
        except (TimeoutError, CancelledError):
            reading.given_up.set()
            return self._not_read(f"the code was not read within {self._settings.timeout_ms:g} ms")

    def fault(self, code: PartCode) -> str | None:
        """Return why a part is an ERROR for want of its code; None where it is not."""
        if code.part_id is not None or self._settings.unreadable == "empty":
            return None
        return code.fault

    def identified(self, inspection: Inspection, reading: StartedReading | None) -> Inspection:
        """Return an inspection with what the code says, or with the fault that there is none."""
        if reading is None:
            return inspection
        code = self.wait(reading)
        fault = self.fault(code)
        if fault is None or inspection.decision.result is Result.ERROR:
            return replace(inspection, part_id=code.part_id)
        decision = Decision(Result.ERROR, Reason.CODE_UNREADABLE)
        return replace(inspection, decision=decision, detail=fault)

    def close(self) -> None:
        """Begin no more readings."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _read_in_time(self, pixels: Pixels, given_up: threading.Event) -> PartCode:
        """Read in a thread of the pool, and leave the place before anybody has the result."""
        try:
            if given_up.is_set():
                return self._not_read("the reading was given up")
            return self._with_recipe(self._read(pixels))
        finally:
            self._places.release()

    def _with_recipe(self, found: CodeReading) -> PartCode:
        """Return what a code says, with the recipe that it names as it is in force now."""
        if found.text is None or self._pattern is None:
            return PartCode(found.text, found.fault)
        try:
            content = self._pattern.read(found.text)
        except CodeNamesNoRecipe as error:
            return PartCode(found.text, refusal=str(error))
        recipe = self._offered(content.recipe)
        if recipe is not None:
            return PartCode(content.part_id, recipe=recipe)
        recipe = Recipe(content.recipe, 0)
        return PartCode(
            content.part_id,
            recipe=recipe,
            refusal=f"the code on the part names {recipe}, but it is not in force at this station. "
            "Put a version of it in force, or take the part out.",
        )

    def _not_read(self, why: str) -> PartCode:
        return PartCode(None, f"{why}. Set code.region to a smaller one, or raise code.timeout_ms.")
