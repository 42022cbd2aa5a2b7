"""``edge-run --teach``: a model of a new product from good images, on the inspection PC."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edge.atomic_files import check_writable, write_all
from edge.bundle.bounds import MAX_NAME_LENGTH
from edge.bundle.input_spec import AlignMode, Crop, Locator
from edge.bundle.mask_file import read_mask_file
from edge.contract.verdict import Recipe
from edge.errors import ConfigurationError
from edge.recipes.content import RecipeContent, follow_up, read_product_settings
from edge.recipes.folder import RecipeFolder, RecipeVersion, taught_place, use_command
from edge.recipes.names import recipe_name
from edge.redaction import one_line
from edge.settings.layers import with_recipe
from edge.settings.overrides import Overrides
from edge.settings.station import Settings
from edge.teaching.build import Alignment, BuildOrder, BuiltModel, build
from edge.teaching.guarantees import guarantee_sentence
from edge.teaching.images import ReadImages, find_images
from edge.teaching.lots import MAX_CROSS_VALIDATED
from edge.teaching.part_reference import strangeness
from edge.teaching.product_view import ProductView, make_view
from edge.teaching.taught_bundle import TaughtBundle
from edge.teaching.teach import TaughtModel, TeachingOrder
from edge.teaching.views import MAX_FEW_IMAGES
from edge.wording import agreeing, counted

_STRANGEST = 5
_MAX_NAMED = 5

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TeachCommand:
    """What was asked for at the command line.

    Attributes:
        count: of images at most; None takes as many as can be taught with.
        output: the bundle's ``.xml``; None where a recipe gets a version.
        recipes: folder of the recipe that gets the next version, where there is no ``output``.
        public_key: that the teacher must be signed by; None asks for no signature.
        key: that signs the bundle; None leaves it unsigned.
        max_images: that the recipe keeps of all its versions; None removes none.
        settings, mask: of the product; None of a recipe are those of its version in force.
        align: how the part is found, ``none`` for not at all; None as in the version in force.
        reference, roi: the image that shows the part, and where; None of it are found.
        scale: share by which the part may be larger or smaller than there; None is 0.
        station, journal: whose recipe it is, and where its journal lies: what was drawn at its page
            counts; None of a folder without a station.
    """

    name: str
    source: Path
    teacher: Path
    output: Path | None
    recipes: Path | None
    count: int | None
    views: bool
    check_good: bool
    threads: int
    key: Path | None
    password: bytes | None
    public_key: str | None
    settings: Path | None = None
    mask: Path | None = None
    max_images: int | None = None
    align: str | None = None
    reference: Path | None = None
    roi: tuple[int, ...] | None = None
    scale: float | None = None
    station: Settings | None = None
    journal: Path | None = None


def run_teach(command: TeachCommand, emit: Callable[[str], None]) -> None:
    """Teach, write the bundle, and print what was learned.

    Raises:
        StationError: the teacher, the images or a key cannot be used; nothing is written.
    """
    _check(command)
    content, view = _product(command)
    built = build(
        BuildOrder(
            name=command.name,
            teacher=command.teacher,
            images=find_images(command.source, command.count),
            order=TeachingOrder(with_views=command.views, check_good=command.check_good, view=view),
            alignment=_alignment(command),
            threads=command.threads,
            public_key=Path(command.public_key) if command.public_key else None,
            key=command.key,
            password=command.password,
        )
    )
    if command.output is not None:
        write_all(built.files(command.output))
        written = f"written to {command.output}"
    else:
        version = _published(command, content, built)
        written = f"{version}, not in force. Put it in force: {use_command(version)}"
    for line in [*result_lines(built.taught, built.bundle, built.read), *_place_lines(built)]:
        emit(line)
    emit(written)


def _product(command: TeachCommand) -> tuple[RecipeContent, ProductView]:
    """Return what the product changes beside its model, and where in its images it is.

    Raises:
        StationError: settings, mask, or the version in force cannot be read.
    """
    public_key = Path(command.public_key) if command.public_key else None
    name, before, view = command.name, None, ProductView()
    if command.output is None:
        assert command.recipes is not None  # _check
        name, recipes = recipe_name(name), RecipeFolder(command.recipes)
        if recipes.in_force(name) is not None:
            version = recipes.load(name)
            before = version.content
            view = make_view(version, public_key, mask=_mask_in_force(command, version))
    else:
        name = "taught"  # a bundle may be called what no recipe may
    if command.align == "none":
        view = view.unaligned()
    elif command.align is not None:
        view = ProductView()  # what was drawn on the frame does not lie on the part
    content = follow_up(name, "", before)
    if command.settings is not None:
        given = read_product_settings(command.settings, name)
        view = replace(view, crop=given.camera.crop)
        content = follow_up(name, given.note, given)
    if command.mask is not None:
        view = replace(view, areas=read_mask_file(command.mask))
    return content, view


def _mask_in_force(command: TeachCommand, version: RecipeVersion) -> Path | None:
    """Return the mask of a version, or what was drawn at the station's page in its place.

    Raises:
        ConfigurationError: what was drawn cannot be read.
    """
    if command.station is None or command.journal is None:
        return version.mask
    settings = Overrides.beside(command.journal).laid_over(
        with_recipe(command.station, version), recipe=Recipe(version.name, version.version)
    )
    mask = settings.decision.mask
    return Path(mask) if mask is not None else None


def _alignment(command: TeachCommand) -> Alignment | None:
    if command.align in (None, "none"):
        return None
    crop = None
    if command.roi is not None:
        x, y, width, height = command.roi
        crop = Crop(x=x, y=y, width=width, height=height)
    return Alignment(
        mode=AlignMode(command.align),
        reference=command.reference,
        roi=crop,
        scale=command.scale or 0.0,
    )


def _published(command: TeachCommand, content: RecipeContent, built: BuiltModel) -> RecipeVersion:
    """Add a version to the recipe, and keep what it was taught with."""
    assert command.recipes is not None  # _check
    recipes, images = RecipeFolder(command.recipes), built.read.images
    note = f"taught with {counted(len(images), 'image')}"
    return recipes.publish(
        content.model_copy(update={"note": content.note or note}),
        lambda folder: write_all(built.version_files(folder)),
        Path(command.public_key) if command.public_key else None,
        images={taught_place(image.content, image.path): image.path for image in images},
        max_images=command.max_images,
    )


def _check(command: TeachCommand) -> None:
    """Refuse before long work what could not be written in the end."""
    name = command.name
    if not name.strip() or len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise ConfigurationError(
            f"--teach {one_line(name)!r}: a name must have 1 to {MAX_NAME_LENGTH} plain characters."
        )
    if command.align in (None, "none"):
        given = {"reference": command.reference, "roi": command.roi, "scale": command.scale}
        for option, value in given.items():
            if value is not None:
                raise ConfigurationError(
                    f"--{option} is only used when parts are aligned. Add --align "
                    f"{', '.join(mode.value for mode in AlignMode)}."
                )
    if command.output is None:
        if command.recipes is None:
            raise ConfigurationError(
                "--teach needs to know where its model goes: -o BUNDLE.xml; or the next version of "
                "a recipe: --recipes DIR, or --config STATION.yaml with recipes.folder."
            )
        recipe_name(name)
        RecipeFolder(command.recipes).refuse_root()
    elif command.output.suffix != ".xml":
        raise ConfigurationError(f"{command.output}: the bundle's name must end in .xml.")
    else:
        for suffix in (".xml", ".bin", ".json", ".sig"):
            check_writable(command.output.with_suffix(suffix))
    if command.public_key and command.key is None:
        raise ConfigurationError(
            "model.public_key asks for signed bundles, and this station could not load an "
            "unsigned one. Sign it: --key FILE."
        )


def result_lines(taught: TaughtModel, bundle: TaughtBundle, read: ReadImages) -> list[str]:
    """Return what was learned: the strangest images, the threshold, and what it is worth."""
    threshold = bundle.manifest.threshold
    count = len(read.images)
    lines = [
        f"taught   {bundle.manifest.identity.name}: {counted(count, 'image')}, {_views(taught)}"
    ]
    if read.repeated:
        names = ", ".join(one_line(path.name) for path in read.repeated[:_MAX_NAMED])
        lines.append(
            f"repeated {counted(len(read.repeated), 'file is', 'files are')} identical to others "
            f"and count once: {names}"
        )
    for item in taught.scored[:_STRANGEST]:
        mark = "  looks like a defect, left out" if item.doubtful else ""
        lines.append(f"score    {item.raw.score:9.4g}  {one_line(item.image.path.name)}{mark}")
    lines.append(f"decision threshold {threshold.image:.6g}, regions {threshold.pixel:.6g}")
    check = taught.check
    if check is not None and check.suspect_count:
        lines.append(
            f"suspects {check.suspect_count} of {counted(check.compared, 'image')} "
            f"{agreeing(check.suspect_count, 'looks like a defect', 'look like defects')}, "
            f"left out: {', '.join(check.suspects[:_MAX_NAMED])}. Look at them: remove those that "
            "show a defect; if all are good, teach again with --no-check-good."
        )
    lines.append(f"worth    {guarantee_sentence(threshold, check)}")
    if count <= MAX_FEW_IMAGES:
        lines.append(
            f"few      {counted(count, 'image shows', 'images show')} little of how good parts "
            "differ: expect good "
            "parts to be rejected that differ in other ways. Turned and shifted views "
            "show the same parts and do not count as more. Teach again with 20 or more."
        )
    return lines


def _place_lines(built: BuiltModel) -> list[str]:
    """Return how the part is found, and where it lies strangest; of a part that is not, nothing."""
    locator = built.bundle.manifest.input.locator
    if locator is None:
        return []
    roi = locator.roi
    shown = "the version in force" if built.reference is None else one_line(built.reference)
    lines = [
        f"part     found by {shown}, region {roi.x},{roi.y},{roi.width},{roi.height} "
        f"({locator.mode.value}{_size(locator)}), likeness {locator.least_likeness:.2f} or more"
    ]
    images = built.given.good
    strange = strangeness([image.located for image in images])
    for _, image in sorted(zip(strange, images, strict=True), key=lambda one: -one[0])[:_STRANGEST]:
        located = image.located
        assert located is not None  # read_images refuses the others
        pose = located.pose
        size = f" ×{pose.scale:.3f}" if locator.most_scale else ""
        lines.append(
            f"place    {pose.x:7.1f} {pose.y:7.1f} {pose.angle_deg:7.1f}°{size} "
            f"{located.likeness:.3f}  {one_line(image.path.name)}"
        )
    return lines


def _size(locator: Locator) -> str:
    return f", up to {locator.most_scale:.0%} larger or smaller" if locator.most_scale else ""


def _views(taught: TaughtModel) -> str:
    threshold = taught.described.threshold
    text = f"bank of {len(taught.learned)}{' and their views' if taught.viewed else ''}"
    if threshold.cross_validated_count:
        return f"{text}, {threshold.cross_validated_count} of them cross-validated"
    if len(taught.scored) > MAX_CROSS_VALIDATED:
        return f"{text}, the others held out"
    return text
