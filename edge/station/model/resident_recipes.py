"""Recipes in memory: loaded away from the frame path, the one used longest ago makes room.

Recipes of one bundle share its network; what they are decided by is each one's own.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from edge.contract.verdict import Recipe
from edge.errors import StationError
from edge.settings.recipes import RecipesSettings
from edge.station.model.configured import ConfiguredModel
from edge.station.pipeline.work import InspectionSetup, RecipeUnavailable

Renewed = Callable[[Recipe | None, ConfiguredModel], ConfiguredModel]

log = logging.getLogger(__name__)

POLL_S = 0.2
# A recipe that could not be loaded is not tried again for so long, however often it is asked for.
RETRY_AFTER_S = 10.0
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class _Resident:
    model: ConfiguredModel
    setup: InspectionSetup
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Refusal:
    error: StationError
    until_s: float


class ResidentRecipes:
    """The recipes of a station that are in memory; any thread may call anything."""

    def __init__(
        self,
        *,
        settings: RecipesSettings,
        size_bytes: Callable[[Recipe | None], int],
        load: Callable[[Recipe | None], ConfiguredModel],
        setup: Callable[[ConfiguredModel], InspectionSetup],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with none in memory.

        Args:
            size_bytes: what a recipe's model takes in memory.
            load: makes the model; both raise StationError where the recipe must not inspect.
            setup: what parts are inspected with.
            clock_s: monotonic.
        """
        self._max_resident = settings.resident
        self._max_bytes = settings.memory_mb * _MIB
        self._wait_s = settings.wait_ms / 1e3
        self._size_bytes = size_bytes
        self._load = load
        self._setup = setup
        self._clock_s = clock_s
        self._changed = threading.Condition()
        self._loading = threading.RLock()  # one at a time; outer to ``_changed``
        self._residents: OrderedDict[Recipe | None, _Resident] = OrderedDict()
        self._wanted: OrderedDict[Recipe | None, None] = OrderedDict()
        self._refused: dict[Recipe | None, _Refusal] = {}
        self._renewal: tuple[Callable[[], None], Renewed] | None = None
        self._live: Recipe | None = None

    def want(self, recipe: Recipe | None) -> None:
        """Have the loader thread load a recipe, unless it is there; never waits."""
        with self._changed:
            if recipe not in self._residents and not self._refusal(recipe):
                self._wanted[recipe] = None
                self._changed.notify_all()

    def want_early(self, recipe: Recipe) -> bool:
        """Want a recipe that no part asks for yet; False where another would have to go."""
        with self._changed:
            waiting = len(self._residents.keys() | self._wanted.keys() | {recipe})
            if waiting > self._max_resident:
                return False
            self.want(recipe)
            return True

    def setup(self, recipe: Recipe | None) -> InspectionSetup:
        """Return what inspects a recipe's parts; what is not in memory is waited for.

        Raises:
            RecipeUnavailable: it could not be loaded, or not within ``recipes.wait_ms``.
        """
        until_s = self._clock_s() + self._wait_s
        with self._changed:
            while True:
                found = self._use(recipe)
                if found is not None:
                    return found.setup
                refusal = self._refusal(recipe)
                if refusal is not None:
                    raise RecipeUnavailable(str(refusal.error)) from refusal.error
                left_s = until_s - self._clock_s()
                if left_s <= 0:
                    raise RecipeUnavailable(
                        f"{recipe or 'the model without a recipe'} was not in memory within "
                        f"{self._wait_s * 1e3:g} ms (recipes.wait_ms). Raise recipes.resident, or "
                        "leave more time between the change and its first part."
                    )
                self.want(recipe)
                self._changed.wait(left_s)

    def load(self, recipe: Recipe | None) -> ConfiguredModel:
        """Return a recipe's model, loaded by the calling thread where it is not in memory.

        Raises:
            StationError: it must not inspect.
        """
        with self._loading:
            with self._changed:
                found = self._use(recipe)
            if found is not None:
                return found.model
            try:
                size_bytes = self._size_bytes(recipe)
                self._demand_room(recipe, size_bytes)
                self._make_room(size_bytes)
                model = self._load(recipe)
                setup = self._setup(model)
            except StationError as error:
                self._refuse(recipe, error)
                raise
            except Exception as error:  # whatever a foreign file makes happen, the line goes on
                log.exception("%s could not be loaded", recipe)
                refusal = RecipeUnavailable(f"{type(error).__name__}: {error}")
                self._refuse(recipe, refusal)
                raise refusal from error
            with self._changed:
                self._residents[recipe] = _Resident(model, setup, size_bytes)
                self._refused.pop(recipe, None)
                self._wanted.pop(recipe, None)
                # Another one may have become live meanwhile, and have taken the room.
                self._make_room(0, beside=0, but_for=recipe)
                self._changed.notify_all()
            return model

    def run(self, ending: Callable[[], bool]) -> None:
        """Load what is wanted until the station ends; the body of the loader thread."""
        while not ending():
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._renewal, POLL_S)
                recipe = next(iter(self._wanted), None)
                empty = not self._wanted
                renewal, self._renewal = self._renewal, None
            if renewal is not None:
                self.renew(*renewal)
            if empty:
                continue
            try:
                self.load(recipe)
            except StationError as error:
                log.warning("%s", error)
            finally:
                with self._changed:
                    self._wanted.pop(recipe, None)

    def on_activated(self, recipe: Recipe | None, model: ConfiguredModel) -> None:
        """Keep the model that takes over as its recipe's, and in memory as long as it is live."""
        bundle = model.bundle
        size_bytes = 2 * (len(bundle.xml) + len(bundle.weights))
        with self._changed:
            self._residents[recipe] = _Resident(model, self._setup(model), size_bytes)
            self._residents.move_to_end(recipe)
            self._live = recipe
            self._refused.pop(recipe, None)
            self._make_room(0, beside=0)
            self._changed.notify_all()

    def renew_soon(self, accept: Callable[[], None], renewed: Renewed) -> None:
        """Have the loader thread ``renew``; never waits."""
        with self._changed:
            self._renewal = (accept, renewed)
            self._changed.notify_all()

    def renew(self, accept: Callable[[], None], renewed: Renewed) -> None:
        """Have all but the live one decided by what the settings say now.

        Waits for a recipe that is being loaded: it would be decided by the settings before.

        Args:
            accept: has recipes loaded by the settings from here on.
            renewed: what it raises lets the recipe go.
        """
        with self._loading:
            accept()
            with self._changed:
                self._refused.clear()
                residents = list(self._residents.items())
                live = self._live
            for recipe, one in residents:
                if recipe != live:
                    self._renew(recipe, one, renewed)

    def _renew(self, recipe: Recipe | None, one: _Resident, renewed: Renewed) -> None:
        # Files are read here: parts that ask for a recipe do not wait for it.
        try:
            model = renewed(recipe, one.model)
            after = _Resident(model, self._setup(model), one.size_bytes)
        except StationError as error:
            log.warning("%s is no longer in memory: %s", recipe, error)
            after = None
        with self._changed:
            if self._residents.get(recipe) is not one:
                return
            if after is None:
                del self._residents[recipe]
            else:
                self._residents[recipe] = after

    def models(self) -> list[ConfiguredModel]:
        """Return the models in memory, the one used longest ago first."""
        with self._changed:
            return [one.model for one in self._residents.values()]

    def names(self) -> list[Recipe | None]:
        """Return what is in memory, the one used longest ago first."""
        with self._changed:
            return list(self._residents)

    def _use(self, recipe: Recipe | None) -> _Resident | None:
        found = self._residents.get(recipe)
        if found is not None:
            self._residents.move_to_end(recipe)
        return found

    def _refusal(self, recipe: Recipe | None) -> _Refusal | None:
        refusal = self._refused.get(recipe)
        return refusal if refusal is not None and self._clock_s() < refusal.until_s else None

    def _refuse(self, recipe: Recipe | None, error: StationError) -> None:
        with self._changed:
            now = self._clock_s()
            self._refused = {k: one for k, one in self._refused.items() if now < one.until_s}
            self._refused[recipe] = _Refusal(error, now + RETRY_AFTER_S)
            self._wanted.pop(recipe, None)
            self._changed.notify_all()

    def _demand_room(self, recipe: Recipe | None, size_bytes: int) -> None:
        if size_bytes > self._max_bytes:
            raise RecipeUnavailable(
                f"{recipe or 'the model'} takes {size_bytes / _MIB:.0f} MB, but "
                f"recipes.memory_mb is {self._max_bytes // _MIB}. Raise it."
            )

    def _make_room(self, size_bytes: int, beside: int = 1, but_for: Recipe | None = None) -> None:
        """Let recipes go until so many bytes and ``beside`` more recipes have room.

        Args:
            but_for: stays, as the live one does.
        """
        with self._changed:
            for recipe in list(self._residents):
                held = sum(one.size_bytes for one in self._residents.values())
                full = len(self._residents) + beside > self._max_resident
                if not full and held + size_bytes <= self._max_bytes:
                    return
                if recipe not in (self._live, but_for):
                    del self._residents[recipe]
