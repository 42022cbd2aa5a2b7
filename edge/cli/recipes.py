"""``edge-run --recipe``: recipes listed, shown, put in force, and carried to the next station."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.bundle.loading import load_bundle
from edge.bundle.mask_file import mask_content, read_mask_file
from edge.bundle.signing import ask_password, load_private_key
from edge.errors import ConfigurationError
from edge.recipes.archive import export_recipe, import_recipe, read_archive_manifest
from edge.recipes.content import RecipeContent, read_product_settings, recipe_yaml
from edge.recipes.folder import MASK_FILE, RecipeFolder, RecipeVersion, bundle_copier, use_command
from edge.recipes.names import recipe_name
from edge.recipes.taught import read_taught


class RecipeCommandInvalid(ConfigurationError):
    """The words behind ``--recipe`` are none of its actions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeOrder:
    """What is to be done.

    Attributes:
        words: an action and what it is done to; a version is named as ``NAME@2``.
        images: export also what the version was taught with.
        stations: patterns of those that an export is meant for; None for all.
        key: ed25519 private key that signs the file.
        public_key: that must have signed what is imported.
        settings: what the product changes beside its model, of a recipe that is added.
        mask: file of its mask.
        max_images: that a recipe keeps of all its versions; None removes none.
        check_name: raises where the station could not use a recipe of this name.
    """

    words: Sequence[str]
    images: bool
    stations: Sequence[str] | None = None
    key: Path | None
    public_key: Path | None
    settings: Path | None = None
    mask: Path | None = None
    check_name: Callable[[str], None]
    max_images: int | None = None


def run_recipe_command(
    recipes: RecipeFolder, order: RecipeOrder, emit: Callable[[str], None]
) -> None:
    """Carry out one command.

    Raises:
        StationError: cause and next step; nothing was changed.
    """
    match list(order.words):
        case ["list"]:
            _list(recipes, emit)
        case ["show", name]:
            _show(_version(recipes, name), recipes, emit)
        case ["add", name, bundle]:
            order.check_name(recipe_name(name))
            recipes.path.mkdir(parents=True, exist_ok=True)
            content = read_content(name, order.settings)
            build = _copied(Path(bundle), order.mask)
            added = recipes.publish(content, build, order.public_key)
            emit(f"{added}: made of {bundle}, not in force. Put it in force: {use_command(added)}")
        case ["use", name]:
            chosen = _verified(recipes, name, order.public_key)
            order.check_name(chosen.name)
            recipes.put_in_force(chosen.name, chosen.version)
            emit(f"{chosen}: in force; parts that name it are inspected by it from now on")
        case ["export", name, file]:
            version = _verified(recipes, name, order.public_key)
            key = load_private_key(order.key, ask_password(order.key)) if order.key else None
            path = Path(file)
            made = export_recipe(
                recipes, version, path, images=order.images, key=key, stations=order.stations
            )
            emit(f"{path}: {version}, {len(made.files)} files, {path.stat().st_size} bytes")
            if order.images:
                emit(f"images   {_images_line(version, recipes)}")
        case ["import", file]:
            order.check_name(read_archive_manifest(Path(file), order.public_key).name)
            recipes.path.mkdir(parents=True, exist_ok=True)
            version = import_recipe(
                recipes, Path(file), order.public_key, max_images=order.max_images
            )
            emit(f"{version}: imported, not in force. Put it in force: {use_command(version)}")
        case _:
            raise RecipeCommandInvalid(
                "--recipe takes: list; show NAME; add NAME BUNDLE.xml; use NAME@VERSION; "
                "export NAME FILE; import FILE. NAME@2 names a version, NAME the one in force."
            )


def read_content(name: str, settings: Path | None) -> RecipeContent:
    """Return what a new version says of its product.

    Raises:
        ConfigurationError: the file of settings cannot be used.
    """
    name = recipe_name(name)
    if settings is None:
        return RecipeContent(name=name, version=1)
    return read_product_settings(settings, name)


def _copied(bundle: Path, mask: Path | None) -> Callable[[Path], None]:
    """Return what builds a version of a bundle; publishing checks it."""
    drawn = mask_content(read_mask_file(mask), mask) if mask is not None else []
    if len(drawn) > 1:
        raise ConfigurationError(
            f"{mask}: the mask of a recipe must consist of polygons, and this one is "
            "painted. Write polygons, or draw it at the page."
        )

    copy = bundle_copier(bundle)

    def build(folder: Path) -> None:
        copy(folder)
        for _, content in drawn:
            (folder / MASK_FILE).write_bytes(content)

    return build


def _version(recipes: RecipeFolder, text: str) -> RecipeVersion:
    name, marked, version = text.rpartition("@")
    if not marked:
        return recipes.load(text)
    if not (version.isascii() and version.isdecimal()):
        raise RecipeCommandInvalid(f"{text!r}: {version!r} is not a version. Write NAME@2.")
    return recipes.load(name, int(version))


def _verified(recipes: RecipeFolder, text: str, public_key: Path | None) -> RecipeVersion:
    """Return a version whose files are what its manifest says, and whose mask can be read."""
    version = _version(recipes, text)
    load_bundle(version.model, public_key)
    if version.mask is not None:
        read_mask_file(version.mask)
    return version


def _images_line(version: RecipeVersion, recipes: RecipeFolder) -> str:
    """Return what is known of the images that a version was taught with."""
    taught = read_taught(version.folder)
    if taught is None:
        return "none: it was not taught at a station"
    missing = len(recipes.missing_images(version, taught))
    count = f"taught with {len(taught.contents)}"
    if not missing:
        return f"{count}, all kept"
    return f"{count}, {missing} no longer kept: this version cannot be built again"


def _list(recipes: RecipeFolder, emit: Callable[[str], None]) -> None:
    found = recipes.listing()
    if not found:
        emit(f"{recipes.path}: contains no recipe")
    for one in found:
        versions = ", ".join(f"{v}*" if v == one.in_force else str(v) for v in one.versions)
        emit(f"{one.name}: version {versions}" + ("" if one.in_force else "; none in force"))


def _show(version: RecipeVersion, recipes: RecipeFolder, emit: Callable[[str], None]) -> None:
    manifest = load_bundle(version.model).manifest
    in_force = recipes.in_force(version.name) == version.version
    emit(f"{version}" + (", in force" if in_force else ""))
    emit(f"model    {manifest.identity.name}: {manifest.identity.algorithm}")
    emit(f"created  {manifest.identity.created.isoformat()}")
    emit(f"images   {_images_line(version, recipes)}")
    emit(recipe_yaml(version.content).decode().rstrip("\n"))
