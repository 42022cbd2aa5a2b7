"""The teacher: an IR that gives an image's features, and judges by a bank that is laid into it.

``teacher.xml`` and ``teacher.bin`` are the OpenVINO IR, ``teacher.json`` is the manifest, as of a
model bundle. Its graph has the bank as further inputs: what is taught becomes constants of a copy.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from edge.bundle.bounds import MAX_SCORE
from edge.bundle.input_spec import InputSpec
from edge.bundle.loading import VerifiedFiles, read_verified
from edge.bundle.manifest import (
    TEACHER_SCHEMA,
    Identity,
    Manifest,
    OutputSpec,
    first_fault,
    parse_manifest,
    schema_version,
)
from edge.bundle.manifest_types import Count, ManifestPart, Name, Score, Share, Text
from edge.errors import BundleDamaged, BundleVersionUnsupported
from edge.wording import counted

# Tensors of the graph: the image, the bank, and what they give.
IMAGE, AXES, CENTRE, BANK = "pictures", "axes", "centre", "bank"
SCORE, MAP, FEATURES = "score", "anomaly_map", "features"

# Of a bank: numbers of all its vectors.
_MAX_BANK = 2**26


class TeacherHead(ManifestPart):
    """How patches are compared, as PatchCore's hyperparameters.

    Attributes:
        layers: of the backbone whose features are joined.
        width: numbers of a patch.
        bank_size: vectors of a bank at most; the graph takes exactly so many.
        variance: share of the bank's variance that its vectors keep.
        search_components: principal components that the nearest vectors are sought by.
        search_candidates: how many of them are measured along all components.
        search_block: side of the squares of cells whose nearest vectors are sought together.
        score: how patches make an image's score.
        sigma: of the map's blur, in pixels of the input.
    """

    layers: tuple[Name, ...] = Field(min_length=1, max_length=20)
    width: Annotated[int, Field(ge=1, le=65_536)]
    bank_size: Annotated[int, Field(ge=1, le=1_000_000)]
    variance: Share
    search_components: Annotated[int, Field(ge=1)]
    search_candidates: Annotated[int, Field(ge=1)] = 1
    search_block: Annotated[int, Field(ge=1)] = 1
    score: Literal["map"]
    sigma: Annotated[float, Field(gt=0.0, le=1e4)]


class TeacherGate(ManifestPart):
    """What INT8 changes of how images rank, at its worst over some products.

    Attributes:
        products: how many.
        images: of all of them, that no bank held.
        rank_correlation: Spearman's, of the scores of one product's images in INT8 and in FP32.
        auroc_drop: of telling images with pasted defects from good ones.
    """

    products: Count
    images: Count
    rank_correlation: Annotated[float, Field(ge=-1.0, le=1.0)]
    auroc_drop: Annotated[float, Field(ge=-1.0, le=1.0)]


class GoldenFeatures(ManifestPart):
    """What the exported graph gives for one of the images of ``edge.inspection.self_test``.

    Attributes:
        image: its name.
        mean, deviation: of all its features.
        tolerance: another PC's may be so far away.
    """

    image: Name
    mean: Score
    deviation: Score
    tolerance: Annotated[float, Field(gt=0.0, le=MAX_SCORE)]


class TeacherManifest(ManifestPart):
    """Everything that teaching needs beside the graph; written by export, never by a site.

    Attributes:
        output: of the bundles that are taught.
        weights, inference: number formats, as those of a bundle's ``precision``.
        gate: None of a teacher in floating point, of which nothing was rounded.
    """

    schema_version: Literal["teacher/1"] = TEACHER_SCHEMA
    identity: Identity
    input: InputSpec
    output: OutputSpec
    head: TeacherHead
    weights: Literal["fp32", "int8"]
    inference: Literal["f32"] = "f32"
    floating: tuple[Text, ...] = Field(default=(), max_length=1000)
    gate: TeacherGate | None = None
    self_test: tuple[GoldenFeatures, ...] = Field(min_length=1, max_length=100)

    @property
    def bank_shape(self) -> tuple[int, int]:
        """Vectors and numbers of the bank that the graph takes."""
        return self.head.bank_size, self.head.width


Teacher = VerifiedFiles[TeacherManifest]


def load_teacher(xml_path: Path, public_key: Path | None = None) -> Teacher:
    """Read and verify ``NAME.xml``, ``NAME.bin`` and ``NAME.json`` of a teacher.

    Args:
        public_key: that must have signed the manifest; None asks for no signature.

    Raises:
        BundleError: as ``load_bundle``.
    """
    return read_verified(xml_path, public_key, parse_teacher)


def load_signable(
    xml_path: Path, public_key: Path | None = None
) -> VerifiedFiles[Manifest | TeacherManifest]:
    """Read and verify what is signed, a bundle or a teacher; arguments and faults as those."""
    return read_verified(xml_path, public_key, _parse_either)


def _parse_either(text: bytes, path: Path) -> Manifest | TeacherManifest:
    if schema_version(text, path) == TEACHER_SCHEMA:
        return parse_teacher(text, path)
    return parse_manifest(text, path)


def parse_teacher(text: bytes, path: Path) -> TeacherManifest:
    """Parse a teacher's manifest; ``path`` is only named in errors.

    Raises:
        BundleDamaged: not JSON, or a key is unknown, missing, of another type or out of range.
        BundleVersionUnsupported: the manifest has another schema version.
    """
    found = schema_version(text, path)
    if found != TEACHER_SCHEMA:
        raise BundleVersionUnsupported(
            f"{path}: schema {found[:50]!r}, a teacher has {TEACHER_SCHEMA!r}. Make one with "
            "export-model --teacher of this version."
        )
    try:
        manifest = TeacherManifest.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise BundleDamaged(
            f"{path}: {first_fault(error)}. Copy the teacher again, or make it again with "
            "export-model --teacher of this version."
        ) from error
    vectors, width = manifest.bank_shape
    if vectors * width > _MAX_BANK:
        raise BundleDamaged(
            f"{path}: a bank of {counted(vectors, 'vector')} of {counted(width, 'number')}; at "
            f"most {_MAX_BANK} numbers "
            "are taken. Make the teacher again with export-model --teacher."
        )
    return manifest
