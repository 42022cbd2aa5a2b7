"""Opening a plant's database: its address, its account, and its tables at this version."""

import logging
import os
import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url

from edge.listen.database.errors import DatabaseNewer, DatabaseRefused, DatabaseUnavailable
from edge.listen.database.views import view_statements
from edge.redaction import one_line

log = logging.getLogger(__name__)

CONNECT_LIMIT_S = 5
# Of the newest migration.
REVISION = "0002"
# What takes longer is broken off and tried again; MQTT goes on meanwhile.
STATEMENT_LIMIT_S = 30
LOCK_LIMIT_S = 10
# Held in a transaction by whoever upgrades: "edgeplnt" in ASCII.
_UPGRADE_LOCK = 0x65646765706C6E74
# PostgreSQL refuses a connection with words, without a code that a driver could hand on.
_REFUSALS = (
    *("password authentication failed", "no password supplied", "no pg_hba.conf entry"),
    *("does not exist", "is not permitted to log in", "permission denied for database"),
    *("certificate", "does not support SSL", "sslmode", "invalid connection option"),
)
# Of statements: no right, no such schema, wrong kind of object.
_REFUSED_CODES = frozenset({"42501", "3F000", "3D000", "28000", "28P01", "42809"})


def parse_url(text: str) -> URL:
    """Read ``--database``.

    Raises:
        DatabaseRefused: it names no database that we know, or holds a password.
    """
    try:
        url = make_url(text)
        url = url.set(port=url.port)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise DatabaseRefused(
            "--database is not the address of a database: write sqlite:///FILE.db, or "
            "postgresql://USER@HOST/DATABASE."
        ) from error
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise DatabaseRefused(
            f"--database {url.get_backend_name()}: records are kept in sqlite or postgresql."
        )
    if url.password is not None:
        raise DatabaseRefused(
            "--database holds a password, which others can see in the list of processes. "
            "Write it to a file of mode 0600 and pass it with --database-password-file, "
            "or use ~/.pgpass."
        )
    if url.get_backend_name() == "sqlite":
        if not url.database or url.database == ":memory:":
            raise DatabaseRefused("--database sqlite:///FILE.db: name a file.")
        return url.set(drivername="sqlite")
    return url.set(drivername="postgresql+psycopg")


def make_engine(url: URL, password: str | None, name: str) -> Engine:
    """Return an engine; nothing is opened yet.

    Args:
        name: of this listener, as the server lists it.

    Raises:
        DatabaseRefused: the driver is not installed.
    """
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url)
    limits = {
        "statement_timeout": STATEMENT_LIMIT_S * 1000,
        "lock_timeout": LOCK_LIMIT_S * 1000,
        "idle_in_transaction_session_timeout": 2 * STATEMENT_LIMIT_S * 1000,
    }
    arguments: dict[str, Any] = {
        "connect_timeout": CONNECT_LIMIT_S,
        "application_name": f"edge-listen {name}"[:63],
        "options": " ".join(f"-c {key}={value}" for key, value in limits.items()),
        # A server that went without a word is noticed in as many milliseconds.
        "tcp_user_timeout": STATEMENT_LIMIT_S * 1000,
        "keepalives_idle": CONNECT_LIMIT_S,
    }
    if password is not None:
        url = url.set(password=password)
    try:
        engine = sa.create_engine(
            url,
            connect_args=arguments,
            pool_size=1,
            max_overflow=1,
            pool_pre_ping=True,
        )
        # Many rows in one statement; the driver's own way is one a row.
        engine.dialect.use_insertmanyvalues_wo_returning = True
        sa.event.listen(engine, "connect", _wait_for_disk)
        return engine
    except ModuleNotFoundError as error:
        raise DatabaseRefused(
            f"--database postgresql needs {error.name}, which is not installed. Install the "
            "extra: pip install 'inspection-station[postgresql]'."
        ) from error
    except (sa.exc.ArgumentError, TypeError, ImportError) as error:
        raise DatabaseRefused(f"--database cannot be used ({one_line(str(error))}).") from error


def _wait_for_disk(connection: Any, _record: Any) -> None:
    """Have a commit mean the disk, also at a server that is set to answer sooner.

    What was committed is acknowledged, and the broker forgets it.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('synchronous_commit', 'on', false)"
            " WHERE current_setting('synchronous_commit') = 'off'"
        )
    connection.commit()


def upgrade(engine: Engine) -> None:
    """Bring the tables to this version, or make them; safe beside others that do the same.

    Raises:
        DatabaseNewer: they are of a newer version, or another program's.
        DatabaseRefused: this account may not.
        DatabaseUnavailable: not now.
    """
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})"))
            found = _revision(connection, engine)
            if found == REVISION:
                return
            _migrate(engine, connection, found)
            log.info("%s: tables are at revision %s", engine.url, REVISION)
    except (sa.exc.DBAPIError, sqlite3.Error) as error:
        raise translated(engine, error) from error


def _migrate(engine: Engine, connection: Connection, found: str | None) -> None:
    try:
        # alembic: most starts find tables of this version, and a listener starts often.
        from alembic import command
        from alembic.config import Config
        from alembic.script import ScriptDirectory
    except ModuleNotFoundError as error:
        raise DatabaseRefused(
            f"--database needs {error.name} to make its tables, which is not installed. Install "
            "the extra: pip install 'inspection-station[database]'."
        ) from error

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    if found is not None and found not in {one.revision for one in script.walk_revisions()}:
        raise DatabaseNewer(
            f"{engine.url}: its tables belong to a newer version of this software "
            f"(revision {found}, this version knows {REVISION}). Install that version "
            "here, too, or name another database."
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    for statement in view_statements(engine.dialect.name):
        connection.execute(sa.text(statement))


def translated(engine: Engine, error: Exception) -> DatabaseRefused | DatabaseUnavailable:
    """Return the typed error: one that waiting may cure, or one that it does not."""
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    text = one_line(str(cause).strip().partition("\n")[0])[:300]
    code = getattr(cause, "sqlstate", None)
    refused = code in _REFUSED_CODES or (
        code is None
        and isinstance(error, sa.exc.OperationalError)
        and engine.dialect.name == "postgresql"
        and any(words in str(cause) for words in _REFUSALS)
    )
    if engine.dialect.name == "sqlite" and _is_no_place(engine.url.database or "", str(cause)):
        refused = True
    if refused:
        return DatabaseRefused(
            f"{engine.url}: the database refuses this listener ({text}). Check the address, the "
            "account and its password, and that it may make tables."
        )
    return DatabaseUnavailable(
        f"{engine.url}: the database cannot be used at present ({text}). Check that "
        "it runs, can be reached, and has free space"
    )


def _is_no_place(path: str, text: str) -> bool:
    folder = Path(path).absolute().parent
    return "not a database" in text or not folder.is_dir() or not os.access(folder, os.W_OK)


def _revision(connection: Connection, engine: Engine) -> str | None:
    """Return the revision of the tables; None where there are none."""
    tables = set(sa.inspect(connection).get_table_names())
    if "alembic_version" in tables:
        found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
        return None if found is None else str(found)
    if tables & {"verdict", "received", "station"}:
        raise DatabaseNewer(
            f"{engine.url}: contains tables of another program (or of --sqlite, which has "
            "its own). Use a separate database for the plant."
        )
    return None


def _sqlite_engine(url: URL) -> Engine:
    engine = sa.create_engine(
        url, connect_args={"timeout": CONNECT_LIMIT_S, "check_same_thread": False}
    )

    @sa.event.listens_for(engine, "connect")
    def _(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")

    @sa.event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        # At once: a reader that comes to write later would be refused beside another listener.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
