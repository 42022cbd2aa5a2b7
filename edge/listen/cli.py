"""edge-listen: keeps every verdict of every station once: SQLite, CSV, or a plant's database."""

import argparse
import logging
import random
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edge.errors import ConfigurationInvalid, StationError
from edge.listen.file_store import FileStore
from edge.listen.joined_parts import Parts
from edge.listen.listener import BACK_OFF_S, Listener, ListenOptions
from edge.listen.part_settings import read_part_settings
from edge.listen.part_store import PartStore
from edge.listen.records import RecordStore
from edge.mqtt.broker_login import read_broker_login
from edge.mqtt.broker_options import PASSWORD_OPTION, add_broker_options, broker_settings
from edge.mqtt.reconnect import Backoff
from edge.settings.credentials import read_secret
from edge.system.log_output import log_to_stderr, print_line, write_line
from edge.system.process_start import prepare_process
from edge.wording import counted

log = logging.getLogger(__name__)

TEMPORARY_FAILURE = 75
CLIENT_ID = "edge-listen"
_PATTERN = re.compile(r"(?:[a-z0-9_-]{1,32}|\+)(?:/(?:[a-z0-9_-]{1,32}|\+)){3}")
_CLIENT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``edge-listen``; return its exit status."""
    if arguments is None:
        prepare_process()
    options = _parser().parse_args(arguments)
    log_to_stderr()
    try:
        return _listen(options)
    except StationError as error:
        write_line(f"edge-listen: {error}")
        return error.exit_code


def _listen(options: argparse.Namespace) -> int:
    settings = broker_settings(options)
    read_broker_login(settings, PASSWORD_OPTION)  # told before anything is opened
    if not _PATTERN.fullmatch(options.station):
        raise ConfigurationInvalid(
            f"--station {options.station!r} is not SITE/LINE/STATION/CAMERA, each a name or +."
        )
    if not _CLIENT_ID.fullmatch(options.client_id):
        raise ConfigurationInvalid("--client-id is 1 to 64 of A-Z a-z 0-9 _ -.")
    part = read_part_settings(options.part, options.station) if options.part else None
    _check_database_options(options)
    wanted = ListenOptions(options.station, options.client_id, not options.no_repair, options.share)
    ended = _Ended(options.until_seq, options.timeout)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ended.by_signal)
    store = _store(options, ended)
    if store is None:
        write_line("edge-listen: the database was never reached; see the log")
        return TEMPORARY_FAILURE if ended.late() else 0
    ended.watch(store)
    # The database's own thread: MQTT goes on while it is slow, or away.
    executor = ThreadPoolExecutor(1, thread_name_prefix="database") if options.database else None
    parts = None
    if part is not None:
        parts_store = PartStore(_beside(options), part.name)
        parts = Parts(part, parts_store, time.monotonic_ns(), time.time_ns())
    listener = Listener(
        settings=settings, wanted=wanted, store=store, executor=executor, parts=parts
    )
    signal.signal(signal.SIGHUP, lambda _number, _frame: listener.reload())
    try:
        listener.run(ended)
        for line in summary(store):
            print_line(line)
    finally:
        if executor is not None:
            executor.shutdown()
        if parts is not None:
            parts.close()
        store.close()
    if options.until_seq is None and ended.late() and not listener.has_listened:
        write_line(f"edge-listen: no subscription at {settings.url} succeeded; see the log")
        return TEMPORARY_FAILURE
    if ended.late() and listener.cannot_store:
        write_line("edge-listen: records could not be stored and stay at the broker; see the log")
        return TEMPORARY_FAILURE
    if options.until_seq is None or ended.complete():
        return 0
    write_line("edge-listen: not all verdicts came in time")
    return TEMPORARY_FAILURE


def _store(options: argparse.Namespace, ended: "_Ended") -> RecordStore | None:
    """Open where records are kept; None when it was ended before a database answered."""
    if options.database is None:
        return FileStore(_beside(options), options.csv, options.from_seq)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # which else lists its own parts
    try:
        # SQLAlchemy, which only a plant's database needs
        from edge.listen.database.errors import DatabaseUnavailable
        from edge.listen.database.open import make_engine, parse_url
        from edge.listen.database.store import DatabaseStore, PlantSettings
    except ModuleNotFoundError as error:
        raise ConfigurationInvalid(
            f"--database needs {error.name}, which is not installed. Install the extra: "
            "pip install 'inspection-station[database]', for PostgreSQL 'inspection-station"
            "[postgresql]'."
        ) from error

    password = None
    if options.database_password_file is not None:
        password = read_secret(options.database_password_file, "--database-password-file")
    plant = PlantSettings(
        shifts=options.shifts,
        time_zone=options.time_zone,
        keep_days=options.keep_days,
        partition_days=options.partition_days,
    )
    engine = make_engine(parse_url(options.database), password, options.client_id)
    store = DatabaseStore(engine, plant, options.from_seq, time.monotonic)
    backoff = Backoff(BACK_OFF_S, random.random)
    complaint = ""
    while not ended():
        try:
            store.open()
            return store
        except DatabaseUnavailable as error:
            if str(error) != complaint:
                complaint = str(error)
                log.error("%s; trying again", error)
        until_s = time.monotonic() + backoff.delay_s()
        while not ended() and time.monotonic() < until_s:
            time.sleep(0.05)
    store.close()
    return None


def _beside(options: argparse.Namespace) -> Path:
    """Return the SQLite file that holds what a listener knows, or all of it."""
    table: Path | None = options.csv
    file: Path = options.sqlite if table is None else table.with_name(f"{table.name}.state.db")
    return file


def _check_database_options(options: argparse.Namespace) -> None:
    names = (
        *("share", "keep_days", "partition_days", "shifts", "time_zone"),
        "database_password_file",
    )
    for name in names:
        if options.database is None and getattr(options, name) is not None:
            raise ConfigurationInvalid(
                f"--{name.replace('_', '-')} can only be used with --database."
            )
    if options.database and options.part:
        raise ConfigurationInvalid(
            "--part can only be used with --sqlite or --csv: run a second listener for "
            "it, with its own --client-id."
        )
    if options.share is None:
        return
    if not _CLIENT_ID.fullmatch(options.share):
        raise ConfigurationInvalid("--share is 1 to 64 of A-Z a-z 0-9 _ -.")
    if options.client_id == CLIENT_ID:
        raise ConfigurationInvalid(
            "--share: each listener that shares records needs its own name, which a "
            "restart keeps: give --client-id."
        )


class _Ended:
    """Whether to go on listening."""

    def __init__(self, until_seq: int | None, timeout_s: float | None) -> None:
        self._store: RecordStore | None = None
        self._until_seq = until_seq
        self._deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        self._signalled = False

    def watch(self, store: RecordStore) -> None:
        """Look for the numbers of ``until_seq`` here from now on."""
        self._store = store

    def __call__(self) -> bool:
        return self._signalled or self.late() or self.complete()

    def late(self) -> bool:
        """Whether ``--timeout`` has passed, and nobody ended it before."""
        passed = self._deadline_s is not None and time.monotonic() >= self._deadline_s
        return passed and not self._signalled

    def complete(self) -> bool:
        """Whether the newest journal of some station is there without a gap up to ``until_seq``."""
        store, until_seq = self._store, self._until_seq
        if store is None or until_seq is None:
            return False
        return any(
            store.numbers(*key).last >= until_seq
            and not any(gap.first <= until_seq for gap in store.missing(*key, until_seq))
            for key in store.journals()
        )

    def by_signal(self, _number: int, _frame: object) -> None:
        self._signalled = True


def summary(store: RecordStore) -> list[str]:
    """Return a line for each station and journal."""
    lines = []
    for station, journal in sorted(store.journals()):
        numbers = store.numbers(station, journal)
        kept = sum(stretch.last - max(stretch.first, 1) + 1 for stretch in numbers)
        gaps = ", ".join(str(gap) for gap in store.missing(station, journal, 0)) or "none"
        lost = ", ".join(str(gap) for gap in store.lost(station, journal)) or "none"
        line = (
            f"{station}: {counted(kept, 'verdict')}, newest {numbers.last}; missing {gaps}; lost "
            f"{lost} "
        )
        if conflicts := store.conflicts(station, journal):
            line += f"; CONFLICT: other verdicts under {', '.join(map(str, conflicts))} "
        reported = store.reported(station, journal)
        head = (
            f", head {reported.head} at verdict {reported.seq}"
            if reported and reported.head
            else ""
        )
        lines.append(f"{line}(journal {journal}{head})")
    return lines


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError("must be above 0")
        return value

    return parse


def _count_from(minimum: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isdecimal() and minimum <= int(text) <= 36_500):
            raise argparse.ArgumentTypeError(f"must be a whole number from {minimum} to 36500")
        return int(text)

    return parse


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-listen",
        description="Keep every verdict of every station once, find gaps and have them filled.",
    )
    add_broker_options(parser)
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--sqlite", type=Path, metavar="FILE", help="table verdict in this database")
    place.add_argument(
        "--csv", type=Path, metavar="FILE", help="a line each; FILE.state.db lies beside it"
    )
    place.add_argument(
        "--database",
        metavar="URL",
        help="sqlite:///FILE.db or postgresql://USER@HOST/DATABASE: verdicts, events and states "
        "of a plant, with views; several listeners may share it",
    )
    parser.add_argument(
        "--station",
        default="+/+/+/+",
        metavar="S/L/S/C",
        help="stations to listen to; + stands for any name (default: all)",
    )
    parser.add_argument(
        "--part",
        type=Path,
        metavar="FILE",
        help="YAML: join the verdicts of several stations by part id, and publish one",
    )
    parser.add_argument(
        "--client-id",
        default=CLIENT_ID,
        help="name of the session at the broker; each listener needs its own",
    )
    parser.add_argument(
        "--from-seq",
        type=_positive(int),
        metavar="N",
        help="keep journals that are new here complete from record N on (default: from "
        "the first that arrives)",
    )
    parser.add_argument("--no-repair", action="store_true", help="do not request missing records")
    parser.add_argument(
        "--until-seq",
        type=_positive(int),
        metavar="N",
        help="end when a station's verdicts have arrived up to N without a gap",
    )
    parser.add_argument(
        "--timeout", type=_positive(float), metavar="S", help="end after this many seconds"
    )
    plant = parser.add_argument_group("with --database")
    plant.add_argument(
        "--share",
        metavar="GROUP",
        help="share the records with the other listeners of this group (MQTT 5); each has a "
        "--client-id of its own",
    )
    plant.add_argument(
        "--database-password-file", type=Path, metavar="FILE", help="mode 0600, one line"
    )
    plant.add_argument(
        "--keep-days",
        type=_count_from(0),
        metavar="N",
        help="remove records after this many days; 0 keeps them (saved in the database, "
        "at first 0)",
    )
    plant.add_argument(
        "--partition-days",
        type=_count_from(1),
        metavar="N",
        help="days per partition of PostgreSQL (saved in the database, at first 1)",
    )
    plant.add_argument(
        "--shifts",
        metavar="NAME=HH:MM,…",
        help="start times of the plant's shifts (saved in the database, at first "
        "early=06:00,late=14:00,night=22:00)",
    )
    plant.add_argument(
        "--time-zone",
        metavar="ZONE",
        help="time zone of the shifts (saved in the database, at first UTC)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
