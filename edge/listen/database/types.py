"""Column types that SQLite and PostgreSQL take alike."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Dialect, Integer, Text
from sqlalchemy.types import TypeDecorator, UserDefinedType


class _UtcText(TypeDecorator[datetime]):
    """A moment in UTC as text that sorts by time; SQLite has no type of its own for it."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> str | None:
        if value is None:
            return None
        return value.astimezone(UTC).isoformat(sep=" ", timespec="microseconds")

    def process_result_value(self, value: Any, _dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)


class _Jsonb(UserDefinedType[str]):
    """JSON that comes, and goes, as the text it already is."""

    cache_ok = True

    def get_col_spec(self, **_kw: Any) -> str:
        return "JSONB"


UTC_TIME = DateTime(timezone=True).with_variant(_UtcText(), "sqlite")
JSON_TEXT = Text().with_variant(_Jsonb(), "postgresql")
# SQLite numbers rows by themselves only in a column of exactly this type.
KEY = BigInteger().with_variant(Integer(), "sqlite")
