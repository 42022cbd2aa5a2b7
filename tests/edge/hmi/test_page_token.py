"""The page's token: made by a command, and refused where somebody could guess it."""

import base64
import secrets
import stat
from pathlib import Path

import pytest

from edge.errors import ConfigurationInvalid
from edge.hmi.page_token import MIN_TOKEN_BITS, make_token, most_bits, read_token
from tests.edge.conftest import EdgeRun


def test_a_command_writes_a_token_that_the_station_takes_and_nothing_over_it(
    tmp_path: Path, edge_run: EdgeRun
) -> None:
    path = tmp_path / "token"

    assert edge_run("--make-token", path).returncode == 0
    made = path.read_text()
    again = edge_run("--make-token", path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_token(path) == made.strip()
    assert again.returncode == 78 and "exists already" in again.stderr
    assert path.read_text() == made


def test_a_link_is_not_written_through(tmp_path: Path, edge_run: EdgeRun) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")

    assert edge_run("--make-token", tmp_path / "link").returncode == 78
    assert not (tmp_path / "elsewhere").exists()


def test_no_two_tokens_are_the_same_and_all_are_taken() -> None:
    made = {make_token() for _ in range(2000)}

    assert len(made) == 2000
    assert all(most_bits(token) >= MIN_TOKEN_BITS for token in made)


@pytest.mark.parametrize(
    "token",
    [
        secrets.token_hex(16),
        secrets.token_urlsafe(24),
        base64.b64encode(secrets.token_bytes(24)).decode(),
    ],
    ids=["hexadecimal", "urlsafe", "base64"],
)
def test_what_others_make_by_chance_is_taken(token: str) -> None:
    assert most_bits(token) >= MIN_TOKEN_BITS


@pytest.mark.parametrize(
    "token",
    [
        "4711",
        "geheim",
        "correct horse battery staple",
        "correcthorsebatterystaple",
        "Passwort123!",
        "1" * 200,
        "p4ssw0rd" * 10,
        "- " * 40,
    ],
)
def test_what_somebody_can_guess_is_refused_with_the_way_out(
    tmp_path: Path, bundle: Path, edge_run: EdgeRun, token: str
) -> None:
    path = tmp_path / "token"
    path.write_text(token + "\n")
    path.chmod(0o600)

    with pytest.raises(ConfigurationInvalid, match="edge-run --make-token FILE") as raised:
        read_token(path)
    assert token not in str(raised.value).replace(str(path), "")


@pytest.mark.parametrize("content", [None, ""], ids=["missing", "empty"])
def test_a_token_that_is_not_there_is_refused_with_the_command_that_makes_one(
    tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
        path.chmod(0o600)

    with pytest.raises(ConfigurationInvalid, match="edge-run --make-token FILE") as raised:
        read_token(path)
    assert str(path) in str(raised.value)


def test_a_station_with_a_token_that_can_be_guessed_does_not_start(
    tmp_path: Path, bundle: Path, edge_run: EdgeRun
) -> None:
    token = tmp_path / "token"
    token.write_text("4711\n")
    token.chmod(0o600)
    config = tmp_path / "station.yaml"
    config.write_text(
        f"camera: {{uri: {tmp_path}}}\nmodel: {{path: {bundle}}}\n"
        f"journal: {{folder: {tmp_path / 'journal'}}}\nhmi: {{token_file: {token}, port: 0}}\n"
    )

    for action in ("--check", "--once"):
        done = edge_run("--config", config, action)
        assert done.returncode == 78 and "can be guessed" in done.stderr
