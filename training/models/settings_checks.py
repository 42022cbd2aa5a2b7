"""Checks of hyperparameters that are one of a few words."""

from training.errors import SettingError


def require_choice(algorithm: str, name: str, value: str, choices: tuple[str, ...]) -> str:
    """Return the value if it is one of the choices.

    Raises:
        SettingError: it is none of them; the message lists them.
    """
    if value not in choices:
        raise SettingError(
            f"{algorithm}.{name}: found {value!r}. There are: {', '.join(sorted(choices))}."
        )
    return value
