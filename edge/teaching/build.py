"""From the files of images to a signed bundle: all of teaching but where it is written."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from edge.bundle.input_spec import AlignMode, Crop, InputSpec, Locator
from edge.bundle.signing import load_private_key
from edge.bundle.teacher import load_teacher
from edge.errors import FrameUnsuitable, ImageUnreadable
from edge.imaging.image_files import read_image
from edge.inspection.preprocessing import to_samples
from edge.recipes.folder import MODEL
from edge.recipes.taught import TAUGHT_FILE, Taught
from edge.teaching.golden_features import check_features
from edge.teaching.images import ReadImages, TaughtImage, named_cause, named_fault, read_images
from edge.teaching.part_reference import (
    JUDGES,
    LocatorChoice,
    SeenImage,
    most_typical,
    tried_locator,
    with_agreed_likeness,
)
from edge.teaching.product_view import ProductView
from edge.teaching.refusals import TeachingRefused
from edge.teaching.taught_bundle import Lesson, TaughtBundle, make_bundle
from edge.teaching.teach import Progress, TaughtModel, TeachingImages, TeachingOrder, teach
from edge.teaching.teacher_graph import TeacherGraph
from edge.wording import counted

_NO_IMAGE = "no good image is left. Capture about 20."

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """How the part is to be found.

    Attributes:
        reference: file of an image that shows it; None takes the most typical good one.
        roi: where the part lies there; None takes what stands out.
        scale: share by which the part may be larger or smaller than there.
    """

    mode: AlignMode
    reference: Path | None = None
    roi: Crop | None = None
    scale: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOrder:
    """What is to be built, of what.

    Attributes:
        name: of the product.
        teacher: the ``.xml`` of a teacher.
        images: files of good images.
        confirmed: those of them that a person has confirmed to be good.
        passed: files of parts that passed; good, not learned, the threshold is held against them.
        defective, rejected: files of defects, marked and rejected, that it is held against, too.
        order: how they are learned.
        alignment: the part is found by a new reference, in which the crop and mask of ``order``
            lie then; None finds it as the view of ``order`` does, or not at all.
        threads: of inference.
        public_key: that must have signed the teacher; None asks for no signature.
        key, password: sign the bundle; None leaves it unsigned.
    """

    name: str
    teacher: Path
    images: Sequence[Path]
    order: TeachingOrder
    threads: int
    alignment: Alignment | None = None
    public_key: Path | None = None
    key: Path | None = None
    password: bytes | None = None
    confirmed: Sequence[Path] = ()
    passed: Sequence[Path] = ()
    defective: Sequence[Path] = ()
    rejected: Sequence[Path] = ()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class BuiltModel:
    """A model that nothing was written of yet.

    Attributes:
        teacher_sha256: of the teacher's manifest.
        given: all that it was taught with.
        signature: of the manifest; None unsigned.
        view: where in its images the product is.
        reference: name of the image by which the part is found; None where none was chosen now.
    """

    teacher_sha256: str
    read: ReadImages
    given: TeachingImages
    taught: TaughtModel
    bundle: TaughtBundle
    signature: bytes | None
    view: ProductView
    reference: str | None = None

    def order(self) -> Taught:
        """Return what a build needs to give the same model again."""
        training = self.bundle.manifest.training
        return Taught(
            teacher=self.teacher_sha256,
            seed=training.seed,
            views=self.taught.viewed,
            check_good=training.good_check is not None,
            balanced=None if self.taught.choice.method is None else self.taught.choice.numbers,
            images=_contents(self.given.good),
            confirmed=sorted(content.hex() for content in self.given.confirmed),
            passed=_contents(self.given.passed),
            defective=_contents(self.given.defective),
            rejected=_contents(self.given.rejected),
        )

    def version_files(self, folder: Path) -> list[tuple[Path, bytes]]:
        """Return what a version of a recipe holds of it; the manifest last."""
        order = self.order().model_dump_json(indent=1).encode() + b"\n"
        return [(folder / TAUGHT_FILE, order), *self.files(folder / f"{MODEL}.xml")]

    def files(self, xml_path: Path) -> list[tuple[Path, bytes]]:
        """Return what to write; the manifest last: until then the hashes match nothing."""
        files = self.bundle.files(xml_path)
        if self.signature is not None:
            files.insert(len(files) - 1, (xml_path.with_suffix(".sig"), self.signature))
        return files


def build(
    asked: BuildOrder,
    progress: Progress = log.info,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> BuiltModel:
    """Read, teach, lay the bank in, prove it, and sign.

    Raises:
        StationError: the teacher, the images or the key cannot be used.
    """
    signer = load_private_key(asked.key, asked.password) if asked.key else None
    teacher = load_teacher(asked.teacher, asked.public_key)
    view, reference = asked.order.view, None
    if asked.alignment is not None:
        progress("looking for the most typical image, or at the reference")
        locator, reference = _chosen(asked, asked.alignment, teacher.manifest.input)
        view = replace(view, locator=locator)
    spec = view.applied(teacher.manifest.input)
    read = read_images([*asked.images, *asked.defective, *asked.rejected, *asked.passed], spec)
    given = TeachingImages(
        good=_among(read, asked.images),
        confirmed=frozenset(image.content for image in _among(read, asked.confirmed)),
        passed=_among(read, asked.passed),
        defective=_among(read, asked.defective),
        rejected=_among(read, asked.rejected),
    )
    if not given.good:
        raise TeachingRefused(_NO_IMAGE, kind="no_images")
    if len(read.images) == 1 and read.repeated and not asked.order.with_views:
        raise TeachingRefused(
            f"all {counted(1 + len(read.repeated), 'file shows', 'files show')} the very same "
            "image, as "
            f"{read.images[0].path.name} does. Check that the camera does not repeat one image, "
            "and capture about 20 different parts.",
            kind="one_image",
        )
    read = ReadImages(tuple(given.good), read.repeated)
    if asked.alignment is not None and view.locator is not None:
        good = [image.located for image in (*given.good, *given.passed) if image.located]
        view = replace(view, locator=with_agreed_likeness(view.locator, good))
    order = replace(asked.order, view=view)
    graph = TeacherGraph(teacher, asked.threads)
    check_features(graph.features(), teacher.manifest)
    taught = teach(given, graph, order, progress)
    lesson = Lesson(
        name=asked.name,
        created=now(),
        teacher=teacher,
        order=order,
        images=given,
    )
    bundle = make_bundle(taught, graph, lesson, asked.threads)
    signature = signer.sign(bundle.manifest_text) if signer is not None else None
    return BuiltModel(
        teacher_sha256=teacher.sha256,
        read=read,
        given=given,
        taught=taught,
        bundle=bundle,
        signature=signature,
        view=view,
        reference=reference,
    )


def _chosen(asked: BuildOrder, alignment: Alignment, spec: InputSpec) -> tuple[Locator, str]:
    """Return how the part is found, and the name of the image by which it is.

    Raises:
        TeachingRefused: an image cannot be read, or the part could not be found by it.
    """
    choice = LocatorChoice(
        mode=alignment.mode,
        roi=alignment.roi,
        crop=asked.order.view.crop,
        scale=alignment.scale,
    )
    if alignment.reference is not None:
        return tried_locator(_seen(alignment.reference, spec), choice), alignment.reference.name
    paths = asked.images
    if not paths:
        raise TeachingRefused(_NO_IMAGE, kind="no_images")
    count = min(JUDGES, len(paths))
    judges = [paths[index * len(paths) // count] for index in range(count)]
    return most_typical([_seen(path, spec) for path in judges], choice)


def _seen(path: Path, spec: InputSpec) -> SeenImage:
    try:
        return SeenImage(path.name, to_samples(read_image(path), spec))
    except (ImageUnreadable, FrameUnsuitable) as error:
        raise TeachingRefused(
            named_fault(path, error), kind="unusable_images", n=1, **{named_cause(error): path.stem}
        ) from error


def _among(read: ReadImages, paths: Sequence[Path]) -> tuple[TaughtImage, ...]:
    wanted = set(paths)
    return tuple(image for image in read.images if image.path in wanted)


def _contents(images: Sequence[TaughtImage]) -> list[str]:
    return [image.content.hex() for image in images]
