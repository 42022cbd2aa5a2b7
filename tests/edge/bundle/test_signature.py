"""Signatures: what openssl signs we accept, what anybody changed we refuse, in both directions."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from edge.bundle.loading import load_bundle
from edge.bundle.signature import PublicKeyUnusable, SignatureInvalid, SignatureMissing
from edge.bundle.signing import PrivateKeyUnusable, sign_bundle
from edge.cli.sign import main
from edge.errors import BundleError
from tests.support.small_bundle import write_bundle


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


def make_keys(folder: Path, algorithm: str = "ed25519") -> tuple[Path, Path]:
    private, public = folder / f"{algorithm}.pem", folder / f"{algorithm}.pub.pem"
    openssl("genpkey", "-algorithm", algorithm, "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    return private, public


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_bundle(tmp_path)


@pytest.fixture
def signed(path: Path, keys: tuple[Path, Path]) -> Path:
    sign_bundle(path, keys[0])
    return path


def test_a_signed_bundle_is_loaded_with_the_key_and_without(
    signed: Path, keys: tuple[Path, Path]
) -> None:
    assert load_bundle(signed, keys[1]).sha256 == load_bundle(signed).sha256


def test_openssl_verifies_what_we_sign_and_we_what_openssl_signs(
    signed: Path, keys: tuple[Path, Path]
) -> None:
    private, public = keys
    manifest, signature = signed.with_suffix(".json"), signed.with_suffix(".sig")
    verify = ("-verify", "-pubin", "-inkey", public, "-rawin", "-in", manifest)
    openssl("pkeyutl", *verify, "-sigfile", signature)
    signature.unlink()
    openssl("pkeyutl", "-sign", "-inkey", private, "-rawin", "-in", manifest, "-out", signature)
    load_bundle(signed, public)


def test_an_unsigned_bundle_is_refused_where_a_key_is_configured(
    path: Path, keys: tuple[Path, Path]
) -> None:
    with pytest.raises(SignatureMissing, match=r"part\.sig: cannot be read.*model\.public_key"):
        load_bundle(path, keys[1])


def test_a_changed_manifest_is_refused_before_it_is_parsed(
    signed: Path, keys: tuple[Path, Path]
) -> None:
    manifest = signed.with_suffix(".json")
    manifest.write_bytes(manifest.read_bytes().replace(b"20.0", b"90.0"))
    with pytest.raises(SignatureInvalid, match="do not use it"):
        load_bundle(signed, keys[1])
    manifest.write_bytes(b"no manifest at all")
    with pytest.raises(SignatureInvalid):
        load_bundle(signed, keys[1])


@pytest.mark.parametrize("suffix", [".xml", ".bin"])
def test_a_changed_file_is_refused_by_the_hash_in_the_signed_manifest(
    signed: Path, keys: tuple[Path, Path], suffix: str
) -> None:
    signed.with_suffix(suffix).write_bytes(b"of somebody else")
    with pytest.raises(BundleError, match="does not match"):
        load_bundle(signed, keys[1])


@pytest.mark.parametrize("change", ["empty", "cut", "longer", "flipped", "of another bundle"])
def test_a_signature_that_is_none_is_refused(
    signed: Path, keys: tuple[Path, Path], tmp_path: Path, change: str
) -> None:
    signature = signed.with_suffix(".sig")
    whole = signature.read_bytes()
    other = tmp_path / "other"
    other.mkdir()
    signature.write_bytes(
        {
            "empty": b"",
            "cut": whole[:-1],
            "longer": whole + b"\n",
            "flipped": bytes([whole[0] ^ 1]) + whole[1:],
            "of another bundle": sign_bundle(write_bundle(other, "cap"), keys[0]).read_bytes(),
        }[change]
    )
    with pytest.raises(SignatureInvalid):
        load_bundle(signed, keys[1])


def test_the_signature_comes_before_the_files_and_sizes_before_their_content(
    signed: Path, keys: tuple[Path, Path]
) -> None:
    with signed.with_suffix(".bin").open("r+b") as file:
        file.truncate(10**12)
    with pytest.raises(BundleError, match="1000000000000 bytes, which does not match"):
        load_bundle(signed, keys[1])
    signed.with_suffix(".sig").write_bytes(bytes(64))
    with pytest.raises(SignatureInvalid):
        load_bundle(signed, keys[1])


def test_a_fifo_in_place_of_the_signature_is_not_waited_for(
    path: Path, keys: tuple[Path, Path]
) -> None:
    os.mkfifo(path.with_suffix(".sig"))
    with pytest.raises(SignatureMissing, match="Not a regular file"):
        load_bundle(path, keys[1])


def test_a_signature_by_another_key_is_refused(signed: Path, tmp_path: Path) -> None:
    with pytest.raises(SignatureInvalid):
        load_bundle(signed, make_keys(tmp_path)[1])


@pytest.mark.parametrize("content", [None, b"", b"no key", b"\xff\x00"])
def test_a_public_key_that_is_none_is_named(
    signed: Path, tmp_path: Path, content: bytes | None
) -> None:
    key = tmp_path / "key.pem"
    if content is not None:
        key.write_bytes(content)
    with pytest.raises(PublicKeyUnusable, match=r"key\.pem: "):
        load_bundle(signed, key)


def test_a_key_of_another_kind_is_named(signed: Path, tmp_path: Path) -> None:
    private, public = make_keys(tmp_path, "x25519")
    with pytest.raises(PublicKeyUnusable, match="another kind"):
        load_bundle(signed, public)
    with pytest.raises(PrivateKeyUnusable, match="another kind"):
        sign_bundle(signed, private)


def test_a_private_key_open_to_others_signs_nothing(path: Path, tmp_path: Path) -> None:
    private, _ = make_keys(tmp_path)
    private.chmod(0o640)
    with pytest.raises(PrivateKeyUnusable, match="chmod 600"):
        sign_bundle(path, private)
    assert not path.with_suffix(".sig").exists()


def test_a_damaged_bundle_is_not_signed(path: Path, keys: tuple[Path, Path]) -> None:
    path.with_suffix(".bin").write_bytes(b"")
    with pytest.raises(BundleError):
        sign_bundle(path, keys[0])
    assert not path.with_suffix(".sig").exists()


def test_the_command_signs_and_verifies(
    path: Path, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    private, public = map(str, keys)
    assert main(["verify", str(path), "--public-key", public]) == 78
    assert "cannot be read" in capsys.readouterr().err
    assert main(["sign", str(path), "--key", private]) == 0
    assert main(["verify", str(path), "--public-key", public]) == 0
    assert "part, signed and whole" in capsys.readouterr().out
    assert main(["sign", str(path), "--key", public]) == 78


def test_the_password_of_a_key_is_asked_for_and_never_an_argument(
    path: Path, tmp_path: Path
) -> None:
    private = tmp_path / "locked.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-aes256", "-pass", "pass:secret", "-out", private)
    public = tmp_path / "public.pem"
    openssl("pkey", "-in", private, "-passin", "pass:secret", "-pubout", "-out", public)
    terminal, its_end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "edge.cli.sign", "sign", str(path), "--key", str(private)],
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
        start_new_session=True,
    )
    os.close(its_end)
    printed = b""
    while b"password of" not in printed:
        printed += os.read(terminal, 1024)
    os.write(terminal, b"secret\n")
    assert process.wait(60) == 0
    os.close(terminal)
    load_bundle(path, public)


def test_without_the_library_the_message_names_the_extra(
    signed: Path, keys: tuple[Path, Path]
) -> None:
    script = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from edge.cli.sign import main\n"
        f"sys.exit(main(['verify', {str(signed)!r}, '--public-key', {str(keys[1])!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 78
    assert "inspection-station[signing]" in done.stderr


def test_a_fifo_in_place_of_a_key_is_not_waited_for(signed: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "key.pem"
    os.mkfifo(fifo, 0o600)
    with pytest.raises(PublicKeyUnusable, match="Not a regular file"):
        load_bundle(signed, fifo)
    with pytest.raises(PrivateKeyUnusable, match="Not a regular file"):
        sign_bundle(signed, fifo)


def test_a_password_that_nobody_can_be_asked_for_is_named(
    signed: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    encrypted = tmp_path / "encrypted.pem"
    command = f"openssl pkcs8 -topk8 -in {keys[0]} -out {encrypted} -passout pass:secret"
    subprocess.run(command.split(), check=True)
    encrypted.chmod(0o600)

    run = subprocess.run(
        [sys.executable, "-m", "edge.cli.sign", "sign", signed, "--key", encrypted],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )

    assert run.returncode == 78, run.stderr
    assert "no terminal to answer at" in run.stderr
