"""Checks of hyperparameters beyond their type."""

from training.components.light_variation import MAX_BRIGHTNESS, LightVariation
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


def require_share(algorithm: str, name: str, value: float) -> float:
    """Return the value if it is a share that is not nothing.

    Raises:
        SettingError: it is not above 0, or above 1.
    """
    if not 0.0 < value <= 1.0:
        raise SettingError(
            f"{algorithm}.{name}: found {value!r}. Give a share above 0 and at most 1."
        )
    return value


def require_positive(algorithm: str, name: str, value: float) -> float:
    """Return the value if it is above 0.

    Raises:
        SettingError: it is not.
    """
    if not value > 0.0:
        raise SettingError(f"{algorithm}.{name}: found {value!r}. Give a number above 0.")
    return value


def light_variation(algorithm: str, brightness: float, seed: int) -> LightVariation | None:
    """Return what a model learns beside each image; None where brightness is 0.

    Raises:
        SettingError: it is below 0, or more than any lamp varies.
    """
    if not 0.0 <= brightness <= MAX_BRIGHTNESS:
        raise SettingError(
            f"{algorithm}.brightness: found {brightness!r}. Give a share from 0 (off) to "
            f"{MAX_BRIGHTNESS:g}; 0.2 is mild."
        )
    return LightVariation(brightness, seed) if brightness > 0.0 else None
