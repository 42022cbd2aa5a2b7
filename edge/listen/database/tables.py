"""The tables of a plant's database; ``migrations`` makes them, and a test compares the two.

``received`` alone decides whether a record is new: one row a number of a journal, whoever brought
it. What it says is in ``verdict`` and ``event``, which may be cut into partitions by the database's
own time of arrival, whatever the clocks of stations and listeners say.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

from edge.listen.database.types import JSON_TEXT, KEY, UTC_TIME

VERDICT, EVENT = 0, 1
KINDS = {"verdict": VERDICT, "event": EVENT}

metadata = MetaData()

station = Table(
    "station",
    metadata,
    Column("key", KEY, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("state", Text),
    Column("session", Text),
    Column("reasons", Text),
    Column("reported_utc", UTC_TIME),
    Column("payload", JSON_TEXT),
)
journal = Table(
    "journal",
    metadata,
    Column("key", KEY, primary_key=True),
    Column("station", KEY, ForeignKey("station.key"), nullable=False),
    Column("journal", Text, nullable=False),
    Column("first_utc", UTC_TIME, nullable=False),
    Column("first_seq", BigInteger, nullable=False, server_default="1"),
    Column("follows", Text),
    Column("position", BigInteger),
    Column("seq", BigInteger),
    Column("head", Text),
    UniqueConstraint("station", "journal", name="journal_of_station"),
)
# ``complete_to``: from ``begins`` on to it every number arrived or was given up. ``forgotten_to``:
# up to it numbers are no longer compared, as retention removed them.
stream = Table(
    "stream",
    metadata,
    Column("journal", KEY, ForeignKey("journal.key"), primary_key=True),
    Column("kind", SmallInteger, primary_key=True),
    Column("begins", BigInteger, nullable=False),
    Column("chosen", Boolean, nullable=False),
    Column("complete_to", BigInteger, nullable=False),
    Column("forgotten_to", BigInteger, nullable=False, server_default="0"),
)
received = Table(
    "received",
    metadata,
    Column("journal", BigInteger, primary_key=True),
    Column("kind", SmallInteger, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("id", LargeBinary, nullable=False),
    Column("arrived_utc", UTC_TIME, nullable=False),
)
conflict = Table(
    "conflict",
    metadata,
    Column("journal", BigInteger, primary_key=True),
    Column("kind", SmallInteger, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("id", LargeBinary, primary_key=True),
    Column("arrived_utc", UTC_TIME, nullable=False),
)
lost = Table(
    "lost",
    metadata,
    Column("journal", BigInteger, primary_key=True),
    Column("kind", SmallInteger, primary_key=True),
    Column("first", BigInteger, primary_key=True),
    Column("last", BigInteger, nullable=False),
    Column("noted_utc", UTC_TIME, nullable=False),
)
verdict = Table(
    "verdict",
    metadata,
    Column("station", BigInteger, nullable=False),
    Column("journal", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("id", Text),
    Column("at_utc", UTC_TIME, nullable=False),
    Column("decided_utc", UTC_TIME),
    Column("arrived_utc", UTC_TIME, nullable=False),
    Column("shift_day", Date, nullable=False),
    Column("shift", Text, nullable=False),
    Column("product", Text, nullable=False),
    Column("product_version", Text, nullable=False),
    Column("part_id", Text),
    Column("trigger_id", Text),
    Column("result", Text),
    Column("reason", Text),
    Column("anomaly_score", Double),
    Column("threshold", Double),
    Column("margin", Double),
    Column("total_ms", Double),
    Column("deadline_met", Boolean),
    Column("simulated", Boolean),
    Column("replayed", Boolean),
    Column("model", Text),
    Column("model_version", Text),
    Column("image_uri", Text),
    Column("image_source_uri", Text),
    Column("image_name", Text),
    Column("payload", JSON_TEXT, nullable=False),
    Index("verdict_by_time", "station", "at_utc"),
    Index("verdict_by_number", "journal", "seq"),
)
event = Table(
    "event",
    metadata,
    Column("station", BigInteger, nullable=False),
    Column("journal", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("id", Text),
    Column("at_utc", UTC_TIME, nullable=False),
    Column("arrived_utc", UTC_TIME, nullable=False),
    Column("kind", Text),
    Column("severity", Text),
    Column("detail", Text),
    Column("payload", JSON_TEXT, nullable=False),
    Index("event_by_time", "station", "at_utc"),
    Index("event_by_arrival", "arrived_utc"),
)
state_change = Table(
    "state_change",
    metadata,
    Column("station", BigInteger, primary_key=True),
    Column("session", Text, primary_key=True),
    Column("state", Text, primary_key=True),
    Column("since_utc", Text, primary_key=True),
    Column("reasons", Text, primary_key=True),
    Column("arrived_utc", UTC_TIME, nullable=False),
    Column("payload", JSON_TEXT, nullable=False),
    Index("state_change_by_arrival", "arrived_utc"),
)
# What the views rest on: verdicts counted in the transaction that keeps them.
production = Table(
    "production",
    metadata,
    Column("station", BigInteger, primary_key=True),
    Column("hour_utc", UTC_TIME, primary_key=True),
    Column("shift_day", Date, primary_key=True),
    Column("shift", Text, primary_key=True),
    Column("product", Text, primary_key=True),
    Column("product_version", Text, primary_key=True),
    Column("simulated", Boolean, primary_key=True),
    Column("result", Text, primary_key=True),
    Column("reason", Text, primary_key=True),
    Column("parts", BigInteger, nullable=False),
    Column("scored", BigInteger, nullable=False),
    Column("score_sum", Double, nullable=False),
    Column("score_squares", Double, nullable=False),
    Index("production_by_day", "shift_day"),
)
refused = Table(
    "refused",
    metadata,
    Column("key", KEY, primary_key=True),
    Column("topic", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("arrived_utc", UTC_TIME, nullable=False),
)
lease = Table(
    "lease",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until_utc", UTC_TIME, nullable=False),
)
setting = Table(
    "setting",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
