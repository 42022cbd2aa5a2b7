"""What can be wrong with a plant's database."""

from edge.errors import ConfigurationError, StationError


class DatabaseUnavailable(StationError):
    """The database does not take records at present: away, full, slow, or being exchanged."""

    exit_code = 75


class DatabaseRefused(ConfigurationError):
    """Address, account or rights are wrong; waiting does not help."""


class DatabaseNewer(ConfigurationError):
    """The tables are of a newer version of this software, or of another program."""
