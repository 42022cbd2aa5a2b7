"""Which settings a running station can take over, and which need it started again."""

from typing import Any

from edge.errors import ConfigurationError
from edge.settings.station import Settings

# What parts are decided by and for, apart from the network.
_DECISION = (
    *("decision.image_threshold", "decision.pixel_threshold", "decision.guard_band"),
    *("decision.smallest_region_px", "decision.mask", "camera.crop", "image.", "recipe."),
)
# Everything that only the inspectors rest on; they are exchanged whole, between two parts.
_EXCHANGEABLE = (*_DECISION, "model.path", "model.public_key", "model.allow_downgrade")


class RestartNeeded(ConfigurationError):
    """A setting has changed that a running station cannot take over."""


def changed_keys(before: Settings, after: Settings) -> list[str]:
    """Return the keys whose values differ, as they are written in the YAML, sorted."""
    old, new = _flat(before.model_dump(mode="json")), _flat(after.model_dump(mode="json"))
    return sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))


def check_exchangeable(before: Settings, after: Settings) -> list[str]:
    """Return the changed keys if a running station can take all of them over.

    Raises:
        RestartNeeded: names those that it cannot.
    """
    keys = changed_keys(before, after)
    fixed = [key for key in keys if not f"{key}.".startswith(_EXCHANGEABLE)]
    if fixed:
        raise RestartNeeded(
            f"{', '.join(fixed)} changed, which a running station cannot reload. Nothing "
            "was changed. Restart the station, or undo the change."
        )
    return keys


def only_decision(keys: list[str]) -> bool:
    """Tell whether changed keys concern the decision alone, and not the network."""
    return all(f"{key}.".startswith(_DECISION) for key in keys)


def described(before: Settings, after: Settings) -> str:
    """Return what differs, for people: ``decision.guard_band 0.02 → 0.05``; empty for nothing."""
    old, new = _flat(before.model_dump(mode="json")), _flat(after.model_dump(mode="json"))
    return ", ".join(
        f"{key} {_shown(old.get(key))} → {_shown(new.get(key))}"
        for key in changed_keys(before, after)
    )


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


def _flat(tree: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Return the leaves of a tree by dotted key."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            leaves |= _flat(value, f"{above}{key}.")
        else:
            leaves[f"{above}{key}"] = value
    return leaves
