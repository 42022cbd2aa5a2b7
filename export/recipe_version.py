"""An export as the next version of a recipe, beside those that were taught at the station."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge.atomic_files import check_writable
from edge.bundle.loading import load_bundle
from edge.bundle.manifest import Manifest
from edge.bundle.signing import ask_password, load_private_key, sign_bundle
from edge.errors import OutputNotWritable
from edge.recipes.content import MAX_NOTE, follow_up
from edge.recipes.folder import MODEL, RecipeFolder, RecipeVersion
from edge.recipes.names import recipe_name
from edge.redaction import one_line
from edge.teaching.product_view import make_view

log = logging.getLogger(__name__)

_SUFFIXES = (".bin", ".sig", ".xml", ".json")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeTarget:
    """Which recipe gets the next version.

    Attributes:
        folder: of all recipes.
        key: ed25519 private key that signs the bundle; None leaves it unsigned.
    """

    folder: Path
    name: str
    key: Path | None = None


def export_version(
    target: RecipeTarget, checkpoint: Path, write: Callable[[Path], Manifest]
) -> tuple[Manifest, RecipeVersion]:
    """Add what an export writes as a version: whole, or not at all; it is not in force.

    It keeps exposure, gain, guard band and smallest region of the version in force, as a taught one
    does. No version is ever overwritten.

    Args:
        checkpoint: named in the version's note.
        write: writes a bundle at the path of an ``.xml`` that it gets.

    Raises:
        RecipeError: no recipe can be called so, or its version in force is damaged.
        PrivateKeyUnusable: the key cannot sign.
        OutputNotWritable: folder or disk refused it.
        StationError: what ``write`` raises; nothing is left of it.
    """
    name = recipe_name(target.name)
    recipes = RecipeFolder(target.folder)
    recipes.refuse_root()
    _demand_folder(target.folder)
    password = ask_password(target.key) if target.key is not None else None
    if target.key is not None:
        load_private_key(target.key, password)  # before the export, which takes longest
    known = recipes.load(name) if recipes.in_force(name) is not None else None
    note = f"exported from {one_line(checkpoint.name)}"[:MAX_NOTE]
    written: list[Manifest] = []

    def build(folder: Path) -> None:
        xml = folder / f"{name}.xml"  # its manifest is called like the product
        written.append(write(xml))
        if target.key is not None:
            sign_bundle(xml, target.key, password)
        for suffix in _SUFFIXES:
            if xml.with_suffix(suffix).exists():
                xml.with_suffix(suffix).rename(folder / f"{MODEL}{suffix}")

    version = recipes.publish(
        follow_up(name, note, known.content if known is not None else None), build
    )
    if known is not None:
        _name_other_view(known, version)
    return written[0], version


def _demand_folder(folder: Path) -> None:
    """Demand a folder that a version can be written into, before the export.

    Raises:
        OutputNotWritable: it is none, or refuses files.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputNotWritable(
            f"{folder}: is not a folder that recipes can be kept in ({error.strerror}). Name "
            "another one with --recipes."
        ) from error
    check_writable(folder / ".writable")


def _name_other_view(before: RecipeVersion, version: RecipeVersion) -> None:
    """Warn where a new version looks at another part of the image than the one in force."""
    spec = load_bundle(version.model).manifest.input
    if spec.locator is not None or load_bundle(before.model).manifest.input.locator is not None:
        return  # their crops lie on the part that they find
    view = make_view(before, mask=before.mask)
    other = [("crop", view.crop != spec.crop), ("mask", view.areas != spec.areas)]
    if named := " and ".join(name for name, differs in other if differs):
        log.warning(
            "%s has another %s than %s, which is in force. If that is not meant, fit again with "
            "--crop and --mask as that one has them.",
            version,
            named,
            before,
        )
