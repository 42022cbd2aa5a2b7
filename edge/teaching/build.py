"""From the files of images to a signed bundle: all of teaching but where it is written."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edge.bundle.signing import load_private_key
from edge.bundle.teacher import load_teacher
from edge.recipes.folder import MODEL
from edge.recipes.taught import TAUGHT_FILE, Taught
from edge.teaching.golden_features import check_features
from edge.teaching.images import ReadImages, TaughtImage, read_images
from edge.teaching.product_view import ProductView
from edge.teaching.refusals import TeachingRefused
from edge.teaching.taught_bundle import Lesson, TaughtBundle, make_bundle
from edge.teaching.teach import Progress, TaughtModel, TeachingImages, TeachingOrder, teach
from edge.teaching.teacher_graph import TeacherGraph

log = logging.getLogger(__name__)


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
        threads: of inference.
        public_key: that must have signed the teacher; None asks for no signature.
        key, password: sign the bundle; None leaves it unsigned.
    """

    name: str
    teacher: Path
    images: Sequence[Path]
    order: TeachingOrder
    threads: int
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
    """

    teacher_sha256: str
    read: ReadImages
    given: TeachingImages
    taught: TaughtModel
    bundle: TaughtBundle
    signature: bytes | None
    view: ProductView

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
    spec = asked.order.view.applied(teacher.manifest.input)
    read = read_images([*asked.images, *asked.defective, *asked.rejected, *asked.passed], spec)
    given = TeachingImages(
        good=_among(read, asked.images),
        confirmed=frozenset(image.content for image in _among(read, asked.confirmed)),
        passed=_among(read, asked.passed),
        defective=_among(read, asked.defective),
        rejected=_among(read, asked.rejected),
    )
    if not given.good:
        raise TeachingRefused("no good image is left. Capture about 20.", kind="no_images")
    read = ReadImages(tuple(given.good), read.repeated)
    graph = TeacherGraph(teacher, asked.threads)
    check_features(graph.features(), teacher.manifest)
    taught = teach(given, graph, asked.order, progress)
    lesson = Lesson(
        name=asked.name,
        created=now(),
        teacher=teacher,
        order=asked.order,
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
        view=asked.order.view,
    )


def _among(read: ReadImages, paths: Sequence[Path]) -> tuple[TaughtImage, ...]:
    wanted = set(paths)
    return tuple(image for image in read.images if image.path in wanted)


def _contents(images: Sequence[TaughtImage]) -> list[str]:
    return [image.content.hex() for image in images]
