"""The bundle: whatever is missing, damaged or of another version is refused before a verdict."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle.loading import Bundle, load_bundle, manifest_sha256
from edge.bundle.manifest import Extent, Manifest, parse_manifest
from edge.errors import BundleDamaged, BundleError, BundleMissing, BundleVersionUnsupported
from tests.support.small_bundle import write_bundle

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_bundle(tmp_path)


@pytest.fixture(scope="module")
def shared_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle"))


def edited(path: Path, edit: Edit) -> Path:
    """Change the manifest as a text editor would."""
    manifest = path.with_suffix(".json")
    content = json.loads(manifest.read_text("utf-8"))
    edit(content)
    manifest.write_text(json.dumps(content), "utf-8")
    return path


def refused(path: Path, error: type[BundleError], file_name: str, *words: str) -> None:
    """Check type, file, cause and next step of the refusal."""
    with pytest.raises(error) as raised:
        load_bundle(path)
    assert type(raised.value) is error
    assert str(path.parent / file_name) in str(raised.value)
    for word in [*words, *([] if error is BundleMissing else ["again"])]:
        assert word in str(raised.value)


def test_a_whole_bundle_is_loaded_with_the_bytes_that_were_verified(path: Path) -> None:
    bundle = load_bundle(path)
    assert bundle.xml == path.read_bytes()
    assert bundle.weights == path.with_suffix(".bin").read_bytes()
    assert bundle.sha256 == hashlib.sha256(path.with_suffix(".json").read_bytes()).hexdigest()
    assert bundle.path == path


def test_a_manifest_survives_writing_and_reading(path: Path) -> None:
    manifest = load_bundle(path).manifest
    assert parse_manifest(manifest.model_dump_json().encode(), path) == manifest


def test_a_loaded_bundle_does_not_feel_its_files_being_overwritten(path: Path) -> None:
    bundle = load_bundle(path)
    before = (bundle.xml, bundle.weights)
    path.with_suffix(".bin").write_bytes(b"")
    path.write_bytes(b"\0" * 10)
    assert (bundle.xml, bundle.weights) == before


@pytest.mark.parametrize("suffix", [".xml", ".bin", ".json"])
def test_a_missing_file_is_named(path: Path, suffix: str) -> None:
    path.with_suffix(suffix).unlink()
    refused(path, BundleMissing, f"part{suffix}", "No such file", "copy all three")


@pytest.mark.parametrize("suffix", [".xml", ".bin", ".json"])
def test_a_folder_in_place_of_a_file_is_named(path: Path, suffix: str) -> None:
    path.with_suffix(suffix).unlink()
    path.with_suffix(suffix).mkdir()
    refused(path, BundleMissing, f"part{suffix}", "Is a directory")


@pytest.mark.parametrize("name", ["part.onnx", "part.bin", "part.json", "part", "."])
def test_anything_but_the_xml_is_refused(path: Path, name: str) -> None:
    refused(path.parent / name, BundleMissing, "", "takes the .xml")


def test_the_file_the_user_named_is_missed_first(tmp_path: Path) -> None:
    refused(tmp_path / "part.xml", BundleMissing, "part.xml", "No such file")


@pytest.mark.parametrize("suffix", [".xml", ".bin"])
def test_an_empty_file_is_refused(path: Path, suffix: str) -> None:
    path.with_suffix(suffix).write_bytes(b"")
    refused(path, BundleDamaged, f"part{suffix}", "0 bytes", "Copy all three files")


@pytest.mark.parametrize("suffix", [".xml", ".bin"])
def test_a_file_of_another_bundle_is_refused(path: Path, tmp_path: Path, suffix: str) -> None:
    path.with_suffix(suffix).write_bytes(b"of another bundle")
    refused(path, BundleDamaged, f"part{suffix}", "does not match", "Copy all three files")


@pytest.mark.parametrize("suffix", [".xml", ".bin", ".json"])
@given(share=st.floats(0.0, 1.0, exclude_max=True))
def test_a_file_cut_anywhere_is_refused(shared_path: Path, suffix: str, share: float) -> None:
    file = shared_path.with_suffix(suffix)
    whole = file.read_bytes()
    try:
        file.write_bytes(whole[: int(share * len(whole))])
        refused(shared_path, BundleDamaged, file.name)
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize("suffix", [".xml", ".bin"])
@given(share=st.floats(0.0, 1.0, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_refused(
    shared_path: Path, suffix: str, share: float, bit: int
) -> None:
    file = shared_path.with_suffix(suffix)
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[int(share * len(whole))] ^= 1 << bit
    try:
        file.write_bytes(flipped)
        refused(shared_path, BundleDamaged, file.name, "SHA-256")
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b'"bundle/1"', b"{}", b"\xff\xfe\x00", b"{'a': 1}", b"<xml/>"],
)
def test_a_manifest_that_is_none_is_refused(path: Path, content: bytes) -> None:
    path.with_suffix(".json").write_bytes(content)
    refused(path, BundleDamaged, "part.json", "not a bundle manifest")


@given(st.binary(max_size=200))
def test_no_bytes_get_past_the_parser_untyped(content: bytes) -> None:
    with pytest.raises(BundleError):
        parse_manifest(content, Path("part.json"))


@pytest.mark.parametrize("version", ["bundle/2", "bundle/0", "", "1"])
def test_another_schema_version_is_not_reported_as_damage(path: Path, version: str) -> None:
    edited(path, lambda m: m.update(schema_version=version))
    refused(path, BundleVersionUnsupported, "part.json", repr(version), "bundle/1", "export-model")


def test_another_schema_version_is_named_even_if_all_else_changed(path: Path) -> None:
    path.with_suffix(".json").write_text('{"schema_version": "bundle/9", "parts": []}')
    refused(path, BundleVersionUnsupported, "part.json", "bundle/9")


@pytest.mark.parametrize(
    ("edit", "key", "cause"),
    [
        (lambda m: m.update(colour=1), "colour", "is unknown"),
        (lambda m: m["input"].update(mean=[0, 0, 0]), "input.mean", "is unknown"),
        (lambda m: m.pop("threshold"), "threshold", "is missing"),
        (lambda m: m["threshold"].pop("image"), "threshold.image", "is missing"),
        (lambda m: m["input"].update(height="64"), "input.height", "integer"),
        (lambda m: m["input"].update(height=64.5), "input.height", "integer"),
        (lambda m: m["input"].update(height=True), "input.height", "integer"),
        (lambda m: m["input"].update(height=0), "input.height", "greater than"),
        (lambda m: m["input"].update(width=-1), "input.width", "greater than"),
        (lambda m: m["input"].update(colour_order="rgb"), "input.colour_order", "bgr"),
        (lambda m: m["input"].update(resize="nearest"), "input.resize", "area"),
        (lambda m: m["input"].update(pixel_formats=[]), "input.pixel_formats", "at least 1"),
        (lambda m: m["input"].update(pixel_formats=["yuv"]), "input.pixel_formats", "bgr8"),
        (lambda m: m["input"].update(pixel_formats=["grey16"]), "input", "levels are required"),
        (lambda m: m["input"].update(levels={"black": 9, "white": 9}), "input.levels", "below"),
        (lambda m: m["output"].update(image_score=1), "output.image_score", "true or false"),
        (lambda m: m["normalization"]["image"].update(min=200), "normalization.image", "above max"),
        (lambda m: m["threshold"].update(method="guess"), "threshold.method", "f1_adaptive"),
        (lambda m: m["threshold"].update(good_count=-1), "threshold.good_count", "greater than"),
        (lambda m: m["threshold"].update(interval=[2.0, 1.0]), "threshold", "low, high"),
        (lambda m: m["statistics"].update(scores=[1.0]), "statistics", "3 probabilities but 1"),
        (lambda m: m["statistics"].update(scores=[3.0, 2.0, 1.0]), "statistics", "ascend"),
        (lambda m: m["precision"].update(inference="auto"), "precision.inference", "f32"),
        (lambda m: m["identity"].update(bin_sha256="0" * 63), "identity.bin_sha256", "pattern"),
        (lambda m: m["identity"].update(created="2026-01-01T00:00:00"), "created", "timezone"),
        (lambda m: m["identity"].update(name=""), "identity.name", "at least 1"),
        (lambda m: m.update(self_test=[{"picture": "ramp"}]), "self_test.0.score", "is missing"),
        (lambda m: m["identity"].update(name="n" * 101), "identity.name", "at most 100"),
        (lambda m: m["identity"].update(name="a\nb"), "identity.name", "U+000A"),
        (lambda m: m["identity"].update(name="a\u202eb"), "identity.name", "RIGHT-TO-LEFT"),
        (lambda m: m["identity"].update(algorithm="a\x1b[2J"), "identity.algorithm", "U+001B"),
        (lambda m: m["identity"].update(backbone="b" * 2001), "identity.backbone", "at most 2000"),
        (lambda m: m["identity"].update(made_with={"\x00": "1"}), "made_with", "U+0000"),
        (lambda m: m["identity"].update(xml_bytes=10**12), "identity.xml_bytes", "less than"),
        (lambda m: m["training"].update(dataset="d" * 10**6), "training.dataset", "at most 2000"),
        (lambda m: m["training"].update(seed=10**30), "training.seed", "less than"),
        (lambda m: m["input"].update(height=100_000), "input.height", "less than"),
        (lambda m: m["input"].update(height=60_000, width=60_000), "input", "pixels"),
        (lambda m: m["output"].update(map_height=60_000, map_width=60_000), "output", "pixels"),
        (lambda m: m["threshold"].update(image=1e300), "threshold.image", "less than"),
        (
            lambda m: m["threshold"].update(image=1e9),
            "image threshold",
            "far from all observed scores",
        ),
        (
            lambda m: m["threshold"].update(pixel=-1e9),
            "pixel threshold",
            "far from all observed scores",
        ),
        (
            lambda m: m["normalization"]["map"].update(max=1e30),
            "normalization.map.max",
            "less than",
        ),
        (lambda m: m.update({"k" * 10**6: 1}), "kkkk", "is unknown"),
    ],
)
def test_a_wrong_key_is_named_with_what_is_wrong(
    path: Path, edit: Edit, key: str, cause: str
) -> None:
    refused(edited(path, edit), BundleDamaged, "part.json", key, cause)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize(
    "keys",
    [
        ("threshold", "image"),
        ("threshold", "pixel"),
        ("normalization", "image", "max"),
        ("normalization", "map", "min"),
        ("precision", "gate", "largest_score_difference"),
    ],
    ids=".".join,
)
def test_a_number_that_is_not_finite_is_refused(
    path: Path, keys: tuple[str, ...], number: str
) -> None:
    def put_mark(manifest: dict[str, Any]) -> None:
        for key in keys[:-1]:
            manifest = manifest[key]
        manifest[keys[-1]] = "@"

    manifest = edited(path, put_mark).with_suffix(".json")
    manifest.write_text(manifest.read_text("utf-8").replace('"@"', number), "utf-8")
    refused(path, BundleDamaged, "part.json", ".".join(keys))


@pytest.mark.parametrize("name", ["xml_sha256", "bin_sha256"])
def test_a_hash_that_was_edited_does_not_let_a_file_through(path: Path, name: str) -> None:
    edited(path, lambda m: m["identity"].update({name: "0" * 64}))
    refused(path, BundleDamaged, f"part.{name[:3]}", "000000000000…")


def test_a_manifest_may_have_no_self_test(path: Path) -> None:
    edited(path, lambda m: m.pop("self_test"))
    assert load_bundle(path).manifest.self_test == ()


def test_a_path_through_links_is_resolved_so_that_all_files_are_of_one_version(
    path: Path, tmp_path: Path
) -> None:
    version = tmp_path / "2"
    version.mkdir()
    for suffix in (".xml", ".bin", ".json"):
        path.with_suffix(suffix).rename(version / f"part{suffix}")
    (tmp_path / "current").symlink_to("2")
    assert load_bundle(tmp_path / "current" / "part.xml").path == version / "part.xml"


def test_files_that_are_links_themselves_are_followed(path: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    for number, suffix in enumerate((".xml", ".bin", ".json")):
        (store / f"blob{number}").write_bytes(path.with_suffix(suffix).read_bytes())
        path.with_suffix(suffix).unlink()
        path.with_suffix(suffix).symlink_to(store / f"blob{number}")
    assert load_bundle(path).path == path


def test_links_in_a_circle_are_refused(path: Path, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(BundleMissing, match="symbolic links"):
        load_bundle(tmp_path / "a" / "part.xml")


def test_a_size_other_than_the_manifests_is_refused_before_anything_is_read(path: Path) -> None:
    with path.with_suffix(".bin").open("r+b") as file:
        file.truncate(10**12)  # a sparse file: reading it would end the station
    refused(path, BundleDamaged, "part.bin", "1000000000000 bytes", "in the manifest")


@pytest.mark.parametrize("suffix", [".xml", ".bin", ".json"])
def test_a_file_without_a_named_size_is_bounded_too(path: Path, suffix: str) -> None:
    edited(path, lambda m: [m["identity"].pop(key) for key in ("xml_bytes", "bin_bytes")])
    with path.with_suffix(suffix).open("r+b") as file:
        file.truncate(5 * 10**9)
    refused(path, BundleDamaged, f"part{suffix}", "5000000000 bytes", "at most")


def test_a_manifest_may_name_no_sizes(path: Path) -> None:
    edited(path, lambda m: [m["identity"].pop(key) for key in ("xml_bytes", "bin_bytes")])
    assert load_bundle(path).manifest.identity.bin_bytes is None


@pytest.mark.parametrize("suffix", [".xml", ".bin", ".json"])
def test_a_fifo_in_place_of_a_file_is_refused_and_not_waited_for(path: Path, suffix: str) -> None:
    path.with_suffix(suffix).unlink()
    os.mkfifo(path.with_suffix(suffix))
    refused(path, BundleMissing, f"part{suffix}", "Not a regular file")
    assert suffix != ".json" or manifest_sha256(path) is None


def test_what_a_foreign_manifest_says_does_not_flood_the_message(path: Path) -> None:
    edited(path, lambda m: m.update({"\x1b" + "k" * 10**6: 1}))
    with pytest.raises(BundleDamaged) as raised:
        load_bundle(path)
    assert len(str(raised.value)) < 1000
    assert "\x1b" not in str(raised.value)


def test_letters_of_any_language_are_plain_characters(path: Path) -> None:
    edited(path, lambda m: m["identity"].update(name="Flasche Größe 2, 瓶 №3"))
    assert load_bundle(path).manifest.identity.name == "Flasche Größe 2, 瓶 №3"


def test_constant_validation_scores_make_a_valid_extent() -> None:
    assert Extent(min=1.5, max=1.5).min == 1.5


def test_a_manifest_cannot_be_changed_after_loading(path: Path) -> None:
    bundle: Bundle = load_bundle(path)
    manifest: Manifest = bundle.manifest
    with pytest.raises(ValueError, match="frozen"):
        manifest.threshold.image = 0.0
