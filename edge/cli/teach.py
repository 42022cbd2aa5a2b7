"""``edge-run --teach``: a model of a new product from good images, on the inspection PC."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edge.atomic_files import check_writable, write_all
from edge.bundle.bounds import LONGEST_NAME
from edge.bundle.signing import load_private_key
from edge.bundle.teacher import load_teacher
from edge.cli.recipes import use_command
from edge.errors import ConfigurationError
from edge.recipes.content import RecipeContent
from edge.recipes.folder import MODEL, RecipeFolder, RecipeVersion
from edge.recipes.names import recipe_name
from edge.redaction import one_line
from edge.teaching.golden_features import check_features
from edge.teaching.guarantees import guarantee_sentence
from edge.teaching.images import ReadImages, images_of, read_images
from edge.teaching.lots import MOST_CROSS_VALIDATED
from edge.teaching.taught_bundle import Lesson, TaughtBundle, make_bundle
from edge.teaching.teach import TaughtModel, TeachingOrder, teach
from edge.teaching.teacher_graph import TeacherGraph
from edge.teaching.views import MOST_FEW

# Below the line that inspects meanwhile.
_NICENESS = 10
_STRANGEST = 5
_MOST_NAMED = 5

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


def run_teach(command: TeachCommand, say: Callable[[str], None]) -> None:
    """Teach, write the bundle, and print what was learned.

    Raises:
        StationError: the teacher, the images or a key cannot be used; nothing is written.
    """
    _check(command)
    os.nice(_NICENESS)
    signer = load_private_key(command.key, command.password) if command.key else None
    public_key = Path(command.public_key) if command.public_key else None
    teacher = load_teacher(command.teacher, public_key)
    read = read_images(images_of(command.source, command.count), teacher.manifest.input)
    graph = TeacherGraph(teacher, command.threads)
    check_features(graph.features(), teacher.manifest)
    order = TeachingOrder(with_views=command.views, check_good=command.check_good)
    taught = teach(read.images, graph, order)
    lesson = Lesson(
        name=command.name,
        created=datetime.now(UTC),
        teacher=teacher,
        order=order,
        images=read.images,
    )
    bundle = make_bundle(taught, graph, lesson, command.threads)
    signature = signer.sign(bundle.manifest_text) if signer is not None else None
    if command.output is not None:
        write_all(_files(bundle, command.output, signature))
        written = f"written to {command.output}"
    else:
        version = _published(command, read, bundle, signature)
        written = f"{version}, not in force. Put it in force: {use_command(version)}"
    for line in result_lines(taught, bundle, read):
        say(line)
    say(written)


def _published(
    command: TeachCommand, read: ReadImages, bundle: TaughtBundle, signature: bytes | None
) -> RecipeVersion:
    """Add a version to the recipe, and keep what it was taught with."""
    assert command.recipes is not None  # _check
    recipes = RecipeFolder(command.recipes)
    recipes.keep_images(command.name, {image.content: image.path for image in read.images})
    note = f"taught with {len(read.images)} images"
    return recipes.publish(
        RecipeContent(name=recipe_name(command.name), version=1, note=note),
        lambda folder: write_all(_files(bundle, folder / f"{MODEL}.xml", signature)),
        Path(command.public_key) if command.public_key else None,
    )


def _files(
    bundle: TaughtBundle, xml_path: Path, signature: bytes | None
) -> list[tuple[Path, bytes]]:
    """Return what to write; the manifest last: until then the hashes match nothing."""
    files = bundle.files(xml_path)
    if signature is not None:
        files.insert(len(files) - 1, (xml_path.with_suffix(".sig"), signature))
    return files


def _check(command: TeachCommand) -> None:
    """Refuse before long work what could not be written in the end."""
    name = command.name
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise ConfigurationError(
            f"--teach {one_line(name)!r}: a name has 1 to {LONGEST_NAME} plain characters."
        )
    if command.output is None:
        if command.recipes is None:
            raise ConfigurationError(
                "--teach needs to know where its model goes: -o BUNDLE.xml; or the next version of "
                "a recipe: --recipes DIR, or --config STATION.yaml with recipes.folder."
            )
        recipe_name(name)
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
    lines = [f"taught   {bundle.manifest.identity.name}: {count} images, {_views(taught)}"]
    if read.repeated:
        names = ", ".join(one_line(path.name) for path in read.repeated[:_MOST_NAMED])
        lines.append(
            f"repeated {len(read.repeated)} files show the same as others and count once: {names}"
        )
    for item in taught.scored[:_STRANGEST]:
        mark = "  looks like a defect, left out" if item.doubtful else ""
        lines.append(f"score    {item.raw.score:9.4g}  {one_line(item.image.path.name)}{mark}")
    lines.append(f"decision threshold {threshold.image:.6g}, regions {threshold.pixel:.6g}")
    check = taught.check
    if check is not None and check.suspect_count:
        lines.append(
            f"suspects {check.suspect_count} of {check.compared} images look like defects and are "
            f"left out: {', '.join(check.suspects[:_MOST_NAMED])}. Look at them: remove those that "
            "show a defect; if all are good, teach again with --no-check-good."
        )
    lines.append(f"worth    {guarantee_sentence(threshold, check)}")
    if count <= MOST_FEW:
        lines.append(
            f"few      {count} images show little of how good parts differ: expect good parts to "
            "be rejected that differ in a way these do not. Views turn and shift the same parts "
            "and are no further ones. Teach again with 20 or more."
        )
    return lines


def _views(taught: TaughtModel) -> str:
    threshold = taught.described.threshold
    text = f"bank of {len(taught.learned)}{' and their views' if taught.viewed else ''}"
    if threshold.cross_validated_count:
        return f"{text}, {threshold.cross_validated_count} of them cross-validated"
    if len(taught.scored) > MOST_CROSS_VALIDATED:
        return f"{text}, the others held out"
    return text
