"""``edge-run --recipe``: recipes listed, shown, put in force, and carried to the next station."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.bundle.loading import load_bundle, manifest_sha256
from edge.bundle.mask_file import mask_content, read_mask_file
from edge.bundle.signing import ask_password, load_private_key
from edge.contract.verdict import Recipe
from edge.errors import ConfigurationError, StationError
from edge.recipes.archive import export_recipe, import_recipe, read_archive_manifest
from edge.recipes.content import RecipeContent, read_product_settings, recipe_yaml
from edge.recipes.folder import MASK_FILE, RecipeFolder, RecipeVersion, bundle_copier, use_command
from edge.recipes.names import recipe_name
from edge.recipes.taught import read_taught
from edge.redaction import one_line
from edge.settings.carried import carried_version, page_settings, station_values
from edge.settings.layers import with_recipe
from edge.settings.overrides import Overrides, PageSettings
from edge.settings.station import Settings
from edge.wording import counted

# Actions that write into the folder.
_CHANGING = ("add", "use", "import")


class RecipeCommandInvalid(ConfigurationError):
    """The words behind ``--recipe`` are none of its actions."""


@dataclass(frozen=True, slots=True)
class RecipeStation:
    """The station whose folder of recipes it is.

    Attributes:
        settings: of the file, with what was released.
        overrides: what was set at its page; None where it keeps no journal.
    """

    settings: Settings
    overrides: Overrides | None

    def check(self) -> None:
        """Demand that what was set at the page can be read, before anything is changed.

        Raises:
            ConfigurationError: thresholds, or which masks were drawn, cannot be read.
        """
        if self.overrides is not None:
            self.overrides.check()

    @property
    def journal_missing(self) -> Path | None:
        """The folder of the journal where there is none: what was set at the page is not known."""
        folder = self.overrides.path.parent if self.overrides is not None else None
        return folder if folder is not None and not folder.is_dir() else None

    def page_settings(self, version: RecipeVersion) -> PageSettings:
        """Return what was set for a version at its page.

        Raises:
            ConfigurationError: which masks were drawn cannot be read.
        """
        if self.overrides is None:
            return PageSettings()
        return page_settings(version, self.settings, self.overrides)

    def unused_lines(self, version: RecipeVersion) -> list[str]:
        """Return what was set for a version at its page, and does not count here any more.

        Raises:
            ConfigurationError: which masks were drawn cannot be read.
        """
        if self.overrides is None:
            return []
        recipe = Recipe(version.name, version.version)
        unused = self.overrides.unused(with_recipe(self.settings, version), recipe=recipe)
        return [f"page     not used here any more: {one_line(one)}" for one in unused]

    def left_behind(self, before: RecipeVersion, now: RecipeVersion) -> PageSettings:
        """Return what was set at its page for a version, and by which another does not decide.

        Raises:
            StationError: a bundle or mask cannot be read.
        """
        found = self.page_settings(before)
        if self.overrides is None or not found:
            return found
        recipe = Recipe(now.name, now.version)
        settings = self.overrides.laid_over(with_recipe(self.settings, now), recipe=recipe)
        return self.overrides.left_behind(found, settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeOrder:
    """What is to be done.

    Attributes:
        words: an action and what it is done to; a version is named as ``NAME@2``.
        images: export also what the version was taught with.
        as_published: export without what was set at the station's page.
        station: whose folder it is; None of a folder that is named by itself.
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
    as_published: bool = False
    station: RecipeStation | None = None
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

    def emit_all(lines: Sequence[str]) -> None:
        for line in lines:
            emit(line)

    if order.station is not None:
        order.station.check()
    if order.words[0] in _CHANGING:
        recipes.refuse_root()
    match list(order.words):
        case ["list"]:
            _list(recipes, emit)
        case ["show", name]:
            version = _version(recipes, name)
            _show(version, recipes, emit)
            if order.station is not None:
                if found := order.station.page_settings(version):
                    emit(f"page     {one_line(str(found))}; this counts in place of the above")
                emit_all(order.station.unused_lines(version))
        case ["add", name, bundle]:
            order.check_name(recipe_name(name))
            recipes.make()
            content = read_content(name, order.settings)
            build = _copied(Path(bundle), order.mask)
            added = recipes.publish(content, build, order.public_key)
            emit(f"{added}: made of {bundle}, not in force. Put it in force: {use_command(added)}")
            if order.station is not None:
                emit_all(_lines_of_same_model(order.station, added))
        case ["use", name]:
            chosen = _verified(recipes, name, order.public_key)
            order.check_name(chosen.name)
            lines = _exchanged_lines(recipes, order.station, chosen) if order.station else []
            recipes.put_in_force(chosen.name, chosen.version)
            emit(f"{chosen}: in force; parts that name it are inspected by it from now on")
            emit_all(lines)
        case ["export", name, file]:
            version = _verified(recipes, name, order.public_key)
            emit_all(_exported(recipes, version, order, Path(file)))
        case ["import", file]:
            brought = read_archive_manifest(Path(file), order.public_key).name
            order.check_name(brought)
            recipes.make()
            known = recipes.versions(brought)
            version = import_recipe(
                recipes, Path(file), order.public_key, max_images=order.max_images
            )
            how = (
                "is here already, with the same content" if version.version in known else "imported"
            )
            if recipes.in_force(version.name) == version.version:
                emit(f"{version}: {how}; in force")
            else:
                emit(f"{version}: {how}, not in force. Put it in force: {use_command(version)}")
            emit_all(_imported_lines(version, order.station))
        case _:
            raise RecipeCommandInvalid(
                "--recipe takes: list; show NAME; add NAME BUNDLE.xml; use NAME@VERSION; "
                "export NAME FILE; import FILE. NAME@2 names a version, NAME the one in force."
            )


def _exported(
    recipes: RecipeFolder, version: RecipeVersion, order: RecipeOrder, path: Path
) -> list[str]:
    """Write a version into a file; return what goes with it, and what stays here."""
    key = load_private_key(order.key, ask_password(order.key)) if order.key else None
    station = order.station
    carried = None
    if station is not None and station.overrides is not None and not order.as_published:
        carried = carried_version(version, station.settings, station.overrides)
    made = export_recipe(
        recipes,
        version,
        path,
        carried=carried,
        images=order.images,
        key=key,
        stations=order.stations,
    )
    files = counted(len(made.files), "file")
    lines = [f"{path}: {version}, {files}, {path.stat().st_size} bytes"]
    if order.images:
        lines.append(f"images   {_images_line(version, recipes)}")
    if station is None:
        return [
            *lines,
            "page     not in the file: what was set for it at the page of a station. Name that "
            "station to carry it: --config STATION.yaml in place of --recipes.",
        ]
    content = version.content
    if station.journal_missing is not None:
        lines.append(
            f"page     not known: {station.journal_missing}, this station's journal, is not there. "
            "If something was set at its page, export from where the station runs."
        )
    if carried is not None:
        content = carried.content
        lines += _origin_lines(content)
    elif found := station.page_settings(version):
        lines.append(
            f"page     not in the file, as --as-published asks: {one_line(str(found))}. This "
            "station decides by it, and who imports the file does not."
        )
    lines += station.unused_lines(version)  # nor in the file
    return lines + _station_lines(content, station, "not in the file, the next station has its own")


def _imported_lines(version: RecipeVersion, station: RecipeStation | None) -> list[str]:
    """Return where what a version decides by comes from, beside its model."""
    lines = _origin_lines(version.content)
    if station is None:
        return lines
    if found := station.page_settings(version):
        lines.append(
            f"page     {one_line(str(found))} here, for this version, which was here before: this "
            "counts in place of what the file says"
        )
    return lines + _station_lines(version.content, station, "not in the file, this station has")


def _origin_lines(content: RecipeContent) -> list[str]:
    """Return what of a version was set at a page, of this station or of one before."""
    return [f"page     in the file: {one_line(line)}" for line in content.set_at_page_lines]


def _exchanged_lines(
    recipes: RecipeFolder, station: RecipeStation, chosen: RecipeVersion
) -> list[str]:
    """Return what was set at the page for a version, and for the one that is in force now."""
    lines, before = list[str](), recipes.in_force(chosen.name)
    if found := station.page_settings(chosen):
        lines.append(f"page     {one_line(str(found))}; this counts for it")
    if before is None or before == chosen.version:
        return lines
    try:
        left = station.left_behind(recipes.load(chosen.name, before), chosen)
    except StationError as error:  # a damaged version must not keep another from replacing it
        return [*lines, f"page     what was set for version {before} is not known: {error}"]
    if left:
        lines.append(
            f"page     {one_line(str(left))} for version {before}: this stays with that version, "
            f"and does not count for version {chosen.version}"
        )
    return lines


def _lines_of_same_model(station: RecipeStation, added: RecipeVersion) -> list[str]:
    """Return what was set at the page for the same bundle at ``model.path``."""
    if station.overrides is None:
        return []
    settings = station.settings
    left = station.overrides.counting(settings)
    if not left or manifest_sha256(Path(settings.model.path)) != manifest_sha256(added.model):
        return []
    return [
        f"page     {one_line(str(left))} for model.path: not in the recipe. Add it with "
        "--settings and --mask, or set it again at the page."
    ]


def _station_lines(content: RecipeContent, station: RecipeStation, where: str) -> list[str]:
    """Return what a station decides by that a recipe leaves to it."""
    values = station_values(content, station.settings)
    named = ", ".join(
        f"{key} {'as the camera has it' if value is None else value}"
        for key, value in values.items()
    )
    return [f"station  {where}: {named}"] if named else []


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
    drawn = mask_content(read_mask_file(mask), Path(MASK_FILE)) if mask is not None else []
    copy = bundle_copier(bundle)

    def build(folder: Path) -> None:
        copy(folder)
        for path, content in drawn:
            (folder / path.name).write_bytes(content)

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
