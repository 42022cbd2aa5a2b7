"""Which faults of the database pass, and which do not."""

import sqlite3

# Of the disk or of another program; the same statement may succeed later.
_PASSING = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}


def is_transient(error: sqlite3.Error) -> bool:
    """Tell whether trying again may help: a full or failing disk, a lock."""
    return _primary(error) in _PASSING


def is_damage(error: sqlite3.Error) -> bool:
    """Tell whether the file is no longer a sound database."""
    return _primary(error) in _DAMAGE


def _primary(error: sqlite3.Error) -> int:
    """Return the code without SQLite's finer distinctions."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
