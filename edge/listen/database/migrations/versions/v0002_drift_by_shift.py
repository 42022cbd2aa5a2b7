"""The view of drift by shift. Views are made anew after each upgrade, so no table changes."""

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Change no table."""
