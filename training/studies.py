"""Studies: fits that any number of processes and workstations share through a database.

A worker that works on a trial gives signs of life. When they stay away, another worker, or the same
one started again, takes the trial up from the beginning.
"""

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, Trial, TrialState

from edge.errors import StationError
from edge.wording import counted
from training.errors import SettingError, TrialFailed

ERROR = "error"

# A trial whose worker was lost so often is given up: it may be what kills the workers.
_MAX_RETRIES = 3
_SILENT_BEATS = 3
_SQLITE_WAIT_S = 60
_MAX_ATTEMPTS = 6

log = logging.getLogger(__name__)


class StudyUnreachable(StationError):
    """The database of a study cannot be reached or used; the message says what to check."""

    exit_code = 69


@dataclass(frozen=True, slots=True)
class StudyPlace:
    """Where a study is kept.

    Attributes:
        url: of the database, as SQLAlchemy writes it.
        name: of the study in it.
        heartbeat_s: seconds between two signs of life of a worker.
    """

    url: str
    name: str
    heartbeat_s: int = 10

    @property
    def shown(self) -> str:
        """The URL without its password."""
        try:
            return sqlalchemy.make_url(self.url).render_as_string(hide_password=True)
        except sqlalchemy.exc.ArgumentError:
            return "the given URL"


@dataclass(slots=True)
class OpenStudy:
    """A study and whether this process made it."""

    study: optuna.Study
    place: StudyPlace
    is_new: bool

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Return the trials in these states, or all, in their order."""
        return self.study.get_trials(deepcopy=False, states=states or None)

    def running(self) -> int:
        """Return how many trials other workers are at, after lost ones were given back."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.fail_stale_trials(self.study)
        return len(self.trials(TrialState.RUNNING))


def open_study(place: StudyPlace, sampler: Callable[[bool], Any] | None = None) -> OpenStudy:
    """Open a study, or make it.

    Args:
        sampler: returns what draws parameters, told whether the study is new.

    Raises:
        StudyUnreachable: names the database and what to check.
    """
    # Its warnings are tracebacks of failed trials, which are told in words here.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with _reaching(place):
        storage = _storage_made_once(place)
        try:
            study = optuna.create_study(
                storage=storage, study_name=place.name, direction="maximize"
            )
            is_new = True
        except optuna.exceptions.DuplicatedStudyError:
            study = optuna.load_study(storage=storage, study_name=place.name)
            is_new = False
        if sampler is not None:
            study.sampler = sampler(is_new)
    return OpenStudy(study, place, is_new)


def work_off(
    opened: OpenStudy,
    wanted: Callable[[OpenStudy], bool],
    objective: Callable[[Trial], float],
) -> None:
    """Work on trials until nobody has anything left to do.

    Waits for the trials of other workers, to take them up should their workers be lost.

    Args:
        wanted: whether another trial is to be begun.
        objective: makes one trial; ``TrialFailed`` fails this one only.

    Raises:
        StudyUnreachable: the database was lost; the same command goes on later.
    """
    logged = False
    with _reaching(opened.place):
        while True:
            running = opened.running()
            if wanted(opened):
                _one_trial(opened.study, objective)
                logged = False
                continue
            if not running:
                return
            if not logged:
                log.info("waiting for %s of other workers", counted(running, "trial"))
                logged = True
            time.sleep(min(1.0, opened.place.heartbeat_s / 2))


def enqueue(opened: OpenStudy, attributes: dict[str, str]) -> None:
    """Put a trial in line for whichever worker is free.

    Raises:
        StudyUnreachable: the database was lost.
    """
    with _reaching(opened.place):
        opened.study.enqueue_trial({}, user_attrs=attributes)


def _one_trial(study: optuna.Study, objective: Callable[[Trial], float]) -> None:
    def recorded(trial: Trial) -> float:
        try:
            return objective(trial)
        except TrialFailed as error:
            trial.set_user_attr(ERROR, str(error))
            log.warning("trial %d failed: %s", trial.number, error)
            raise

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            study.optimize(recorded, n_trials=1, catch=(TrialFailed,))
        except (optuna.exceptions.UpdateFinishedTrialError, ValueError) as error:
            if isinstance(error, ValueError) and "Cannot tell a" not in str(error):
                raise
            # As after a night's sleep of a notebook: the other worker's result counts.
            log.warning("this worker was silent for too long, and another one took over its trial")


def _storage_made_once(place: StudyPlace) -> RDBStorage:
    """Open the database; workers that start together may all try to make its tables."""
    for attempt in range(_MAX_ATTEMPTS):
        try:
            return _storage(place)
        except sqlalchemy.exc.DBAPIError as error:
            lost = isinstance(error, sqlalchemy.exc.IntegrityError)
            if not lost and "already exists" not in str(error):
                raise
            time.sleep(0.1 * 2**attempt)
    return _storage(place)


def _storage(place: StudyPlace) -> RDBStorage:
    engine: dict[str, Any] = {"pool_pre_ping": True}
    if place.url.startswith("sqlite"):
        engine = {"connect_args": {"timeout": _SQLITE_WAIT_S}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return RDBStorage(
            place.url,
            engine_kwargs=engine,
            heartbeat_interval=place.heartbeat_s,
            grace_period=_SILENT_BEATS * place.heartbeat_s,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(_MAX_RETRIES),
        )


@contextmanager
def _reaching(place: StudyPlace) -> Iterator[None]:
    """Turn what databases raise into one error that says what to check."""
    try:
        yield
    except (ImportError, sqlalchemy.exc.NoSuchModuleError) as error:
        raise StudyUnreachable(
            f"{place.shown}: no driver for this database ({error}). Install one, for example "
            "pip install psycopg2-binary or pymysql."
        ) from error
    except sqlalchemy.exc.ArgumentError as error:
        raise SettingError(
            "--study: not a database URL. Write for example sqlite:///study.db or "
            "postgresql://user:password@host/name."
        ) from error
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        reason = str(getattr(error, "orig", None) or error.__cause__ or error).splitlines()[0]
        raise StudyUnreachable(
            f"{place.shown}: cannot be used as the study's database ({reason}). Check that it "
            "runs, its name and permissions; then start the same command again: finished trials "
            "are kept."
        ) from error
