"""The tables that the first version began with."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from edge.listen.database.types import JSON_TEXT, KEY, UTC_TIME

revision = "0001"
down_revision = None

_HYPERTABLE = (
    "SELECT create_hypertable('verdict', 'arrived_utc', chunk_time_interval => INTERVAL '1 day')"
)


def upgrade() -> None:
    """Make all tables; PostgreSQL cuts verdicts by their arrival, TimescaleDB where it is there."""
    connection = op.get_bind()
    timescale = connection.dialect.name == "postgresql" and connection.scalar(
        sa.text("SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'")
    )
    cut: dict[str, Any] = {} if timescale else {"postgresql_partition_by": "RANGE (arrived_utc)"}
    op.create_table(
        "station",
        sa.Column("key", KEY, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("state", sa.Text),
        sa.Column("session", sa.Text),
        sa.Column("reasons", sa.Text),
        sa.Column("reported_utc", UTC_TIME),
        sa.Column("payload", JSON_TEXT),
    )
    op.create_table(
        "journal",
        sa.Column("key", KEY, primary_key=True),
        sa.Column("station", KEY, sa.ForeignKey("station.key"), nullable=False),
        sa.Column("journal", sa.Text, nullable=False),
        sa.Column("first_utc", UTC_TIME, nullable=False),
        sa.Column("first_seq", sa.BigInteger, nullable=False, server_default="1"),
        sa.Column("follows", sa.Text),
        sa.Column("position", sa.BigInteger),
        sa.Column("seq", sa.BigInteger),
        sa.Column("head", sa.Text),
        sa.UniqueConstraint("station", "journal", name="journal_of_station"),
    )
    op.create_table(
        "stream",
        sa.Column("journal", KEY, sa.ForeignKey("journal.key"), primary_key=True),
        sa.Column("kind", sa.SmallInteger, primary_key=True),
        sa.Column("begins", sa.BigInteger, nullable=False),
        sa.Column("chosen", sa.Boolean, nullable=False),
        sa.Column("complete_to", sa.BigInteger, nullable=False),
        sa.Column("forgotten_to", sa.BigInteger, nullable=False, server_default="0"),
    )
    op.create_table(
        "received",
        sa.Column("journal", sa.BigInteger, primary_key=True),
        sa.Column("kind", sa.SmallInteger, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True),
        sa.Column("id", sa.LargeBinary, nullable=False),
        sa.Column("arrived_utc", UTC_TIME, nullable=False),
    )
    op.create_table(
        "conflict",
        sa.Column("journal", sa.BigInteger, primary_key=True),
        sa.Column("kind", sa.SmallInteger, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True),
        sa.Column("id", sa.LargeBinary, primary_key=True),
        sa.Column("arrived_utc", UTC_TIME, nullable=False),
    )
    op.create_table(
        "lost",
        sa.Column("journal", sa.BigInteger, primary_key=True),
        sa.Column("kind", sa.SmallInteger, primary_key=True),
        sa.Column("first", sa.BigInteger, primary_key=True),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("noted_utc", UTC_TIME, nullable=False),
    )
    op.create_table(
        "verdict",
        sa.Column("station", sa.BigInteger, nullable=False),
        sa.Column("journal", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("id", sa.Text),
        sa.Column("at_utc", UTC_TIME, nullable=False),
        sa.Column("decided_utc", UTC_TIME),
        sa.Column("arrived_utc", UTC_TIME, nullable=False),
        sa.Column("shift_day", sa.Date, nullable=False),
        sa.Column("shift", sa.Text, nullable=False),
        sa.Column("product", sa.Text, nullable=False),
        sa.Column("product_version", sa.Text, nullable=False),
        sa.Column("part_id", sa.Text),
        sa.Column("trigger_id", sa.Text),
        sa.Column("result", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("anomaly_score", sa.Double),
        sa.Column("threshold", sa.Double),
        sa.Column("margin", sa.Double),
        sa.Column("total_ms", sa.Double),
        sa.Column("deadline_met", sa.Boolean),
        sa.Column("simulated", sa.Boolean),
        sa.Column("replayed", sa.Boolean),
        sa.Column("model", sa.Text),
        sa.Column("model_version", sa.Text),
        sa.Column("image_uri", sa.Text),
        sa.Column("image_source_uri", sa.Text),
        sa.Column("image_name", sa.Text),
        sa.Column("payload", JSON_TEXT, nullable=False),
        **cut,
    )
    op.create_index("verdict_by_time", "verdict", ["station", "at_utc"])
    op.create_index("verdict_by_number", "verdict", ["journal", "seq"])
    op.create_table(
        "event",
        sa.Column("station", sa.BigInteger, nullable=False),
        sa.Column("journal", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("id", sa.Text),
        sa.Column("at_utc", UTC_TIME, nullable=False),
        sa.Column("arrived_utc", UTC_TIME, nullable=False),
        sa.Column("kind", sa.Text),
        sa.Column("severity", sa.Text),
        sa.Column("detail", sa.Text),
        sa.Column("payload", JSON_TEXT, nullable=False),
    )
    op.create_index("event_by_time", "event", ["station", "at_utc"])
    op.create_index("event_by_arrival", "event", ["arrived_utc"])
    op.create_table(
        "state_change",
        sa.Column("station", sa.BigInteger, primary_key=True),
        sa.Column("session", sa.Text, primary_key=True),
        sa.Column("state", sa.Text, primary_key=True),
        sa.Column("since_utc", sa.Text, primary_key=True),
        sa.Column("reasons", sa.Text, primary_key=True),
        sa.Column("arrived_utc", UTC_TIME, nullable=False),
        sa.Column("payload", JSON_TEXT, nullable=False),
    )
    op.create_index("state_change_by_arrival", "state_change", ["arrived_utc"])
    op.create_table(
        "production",
        sa.Column("station", sa.BigInteger, primary_key=True),
        sa.Column("hour_utc", UTC_TIME, primary_key=True),
        sa.Column("shift_day", sa.Date, primary_key=True),
        sa.Column("shift", sa.Text, primary_key=True),
        sa.Column("product", sa.Text, primary_key=True),
        sa.Column("product_version", sa.Text, primary_key=True),
        sa.Column("simulated", sa.Boolean, primary_key=True),
        sa.Column("result", sa.Text, primary_key=True),
        sa.Column("reason", sa.Text, primary_key=True),
        sa.Column("parts", sa.BigInteger, nullable=False),
        sa.Column("scored", sa.BigInteger, nullable=False),
        sa.Column("score_sum", sa.Double, nullable=False),
        sa.Column("score_squares", sa.Double, nullable=False),
    )
    op.create_index("production_by_day", "production", ["shift_day"])
    op.create_table(
        "refused",
        sa.Column("key", KEY, primary_key=True),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("arrived_utc", UTC_TIME, nullable=False),
    )
    op.create_table(
        "lease",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("until_utc", UTC_TIME, nullable=False),
    )
    op.create_table(
        "setting",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    if timescale:
        op.execute(_HYPERTABLE)
