"""Settings: what a site writes, and how a mistake is told."""

from pathlib import Path

import pytest

from edge.errors import ConfigurationError, ConfigurationInvalid
from edge.settings.credentials import read_secret
from edge.settings.loading import load_settings
from edge.settings.mqtt import MqttSettings
from edge.settings.station import Settings
from edge.yaml_lines import ConfigurationUnreadable
from tests.edge.conftest import EdgeRun

GOOD = """\
camera:
  uri: /data/frames
  rate_fps: 5
  crop: {x: 10, y: 20, width: 300, height: 200}
model:
  path: /models/bottle.xml
decision:
  guard_band: 0.05
mqtt:
  url: mqtt://broker:1884
  station: plant/line/cap/top
"""


@pytest.fixture
def station_yaml(tmp_path: Path) -> Path:
    return tmp_path / "station.yaml"


def load(path: Path, text: str) -> Settings:
    path.write_text(text, "utf-8")
    return load_settings(path)


def test_a_good_file_becomes_one_frozen_tree(station_yaml: Path) -> None:
    settings = load(station_yaml, GOOD)

    assert settings.camera.rate_fps == 5.0
    assert settings.camera.crop is not None and settings.camera.crop.width == 300
    assert settings.mqtt is not None
    assert (settings.mqtt.host, settings.mqtt.port) == ("broker", 1884)
    assert settings.save is None
    with pytest.raises(ValueError, match="frozen"):
        settings.camera.loop = True


def test_the_command_line_goes_over_the_file(station_yaml: Path) -> None:
    station_yaml.write_text(GOOD)

    settings = load_settings(
        station_yaml,
        {"camera": {"uri": "0", "rate_fps": None}, "save": {"folder": "out"}},
    )

    assert settings.camera.uri == "0"
    assert settings.camera.rate_fps == 5.0
    assert settings.save is not None and settings.save.folder == "out"


def test_paths_in_the_file_are_relative_to_the_file(station_yaml: Path) -> None:
    settings = load(station_yaml, "camera: {uri: frames}\nmodel: {path: ../m/a.xml}\n")

    assert settings.camera.uri == str(station_yaml.parent / "frames")
    assert settings.model.path == str(station_yaml.parent.parent / "m" / "a.xml")


@pytest.mark.parametrize("uri", ["0", "rtsp://camera/1", "/dev/video0"])
def test_cameras_that_are_no_relative_path_stay_as_written(station_yaml: Path, uri: str) -> None:
    assert load(station_yaml, f"camera: {{uri: {uri}}}\nmodel: {{path: a}}\n").camera.uri == uri


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("camera:\n  uri: x\n  rate_fsp: 3\n", ["line 3", "camera.rate_fsp", "'rate_fps'"]),
        ("camera:\n  uri: x\nmodell:\n  path: y\n", ["line 3", "modell", "'model'"]),
        ("camera:\n  uri: x\n  loop: maybe\n", ["line 3", "camera.loop: found 'maybe'", "true or"]),
        ("camera:\n  uri: x\n  rate_fps: fast\n", ["line 3", "camera.rate_fps", "valid number"]),
        ("camera:\n  uri: x\n  rate_fps: 0\n", ["line 3", "greater than 0"]),
        ("camera:\n  uri: x\n  rate_fps: .nan\n", ["line 3", "finite"]),
        ("camera:\n  uri: x\n  queue_depth: true\n", ["line 3", "camera.queue_depth"]),
        ("camera:\n  uri: x\n  queue_depth: '8'\n", ["line 3", "camera.queue_depth"]),
        ("camera:\n  uri: x\n  policy: newest\n", ["'latest', 'every' or 'auto'"]),
        ("camera:\n  uri: x\n  crop: {x: 1, y: 2, width: 3}\n", ["line 3", "crop.height"]),
        ("camera: folder\n", ["line 1", "must hold keys: uri"]),
        ("camera: {}\n", ["line 1", "camera.uri is missing", "--camera URI"]),
        ("model: {path: x}\n", ["camera is missing", "--camera URI"]),
        ("decision: {guard_band: 0.5}\n", ["line 1", "less than 0.5"]),
        ("mqtt: {url: 'http://x'}\n", ["mqtt://HOST:PORT"]),
        ("mqtt: {url: 'mqtt://x:99999'}\n", ["mqtt.url", "range"]),
        ("mqtt: {url: 'mqtt://x', station: a/b}\n", ["mqtt.station", "SITE/LINE/STATION/CAMERA"]),
        ("mqtt: {url: 'mqtt://x', station: A/b/c/d}\n", ["'A'", "lower-case"]),
        ("mqtt: {url: 'mqtt://x', password_file: p}\n", ["needs a username"]),
        ("mqtt: {url: 'mqtt://x', ca_file: p}\n", ["mqtts://"]),
        ("image: {min_mean: 9, max_mean: 9}\n", ["min_mean (9) must lie below max_mean (9)"]),
        (
            "image: {reference: {x: 0, y: 9, width: 32, height: 32, min_mean: 1, max_mean: 2}}\n"
            "camera: {uri: '0', sensor: {width_px: 32, height_px: 40}}\n"
            "model: {path: x.xml}\n",
            ["image.reference ends at pixel 41", "camera.sensor.height_px is 40"],
        ),
    ],
)
def test_a_wrong_key_is_reported_with_line_key_and_what_is_allowed(
    station_yaml: Path, text: str, expected: list[str]
) -> None:
    with pytest.raises(ConfigurationInvalid) as raised:
        load(station_yaml, text)

    assert str(station_yaml) in str(raised.value)
    for part in expected:
        assert part in str(raised.value)


# 11 kB that would be ten thousand million values, written out.
ALIAS_BOMB = (
    b"a: &a ["
    + b"1," * 100
    + b"1]\n"
    + b"".join(
        b"%c: &%c [" % (name, name) + b",".join([b"*%c" % (name - 1)] * 100) + b"]\n"
        for name in b"bcdef"
    )
)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"camera: [1,\nuri: x\n", "flow sequence begun in line 1"),
        (b"\tcamera: x\n", "line 1, column 1"),
        (b"- a\n- b\n", "holds a list instead of sections"),
        (b"just text\n", "holds a single value instead of sections"),
        (b"camera: {uri: x}\ncamera: {uri: y}\n", "line 2: 'camera' is given twice"),
        (b"camera: &a\n  uri: *a\n", "line 2: no earlier anchor is named &a"),
        (b"camera: {uri: !!python/object:os.system x}\n", "line 1: the tag .* is not allowed"),
        (b"drift: {enabled: !!bool maybe}\n", "line 1: the tag .* is not allowed"),
        (b"drift:\n  enabled: !!int ''\n", "line 2: the tag .* is not allowed"),
        (b"camera: ! x\n", "line 1: the tag '!' is not allowed"),
        (b"a: " + b"[" * 50_000, "line 1: nested too deep"),
        (b"{a: " * 50_000, "line 1: nested too deep"),
        (ALIAS_BOMB, "line 2: more than 10000 values"),
        (b"a: &a [1]\nb: &b [*a]\nc: &c [*b]\nd: [[[[[[*c]]]]]]\n", "line 4: nested too deep"),
        (b"a: 2026-13-01\n", "line 1: month must be in 1..12"),
        (b"a: 2026-11-28T10:00:00+99:00\n", "line 1: "),
        (b"camera: \xff\xfe\n", "UTF-8"),
        (b"camera: \x00\n", "not valid YAML"),
        (b"? [a, b]\n: c\n", "plain word"),
    ],
)
def test_a_file_that_is_not_settings_is_reported_with_its_place(
    station_yaml: Path, content: bytes, expected: str
) -> None:
    station_yaml.write_bytes(content)

    with pytest.raises(ConfigurationUnreadable, match=expected) as raised:
        load_settings(station_yaml)

    assert str(station_yaml) in str(raised.value)
    assert raised.value.exit_code == 78


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationUnreadable, match="No such file"):
        load_settings(tmp_path / "none.yaml")


def test_a_wrong_option_is_not_blamed_on_the_file(station_yaml: Path) -> None:
    station_yaml.write_text(GOOD)

    with pytest.raises(ConfigurationInvalid, match=r"command line: camera\.rate_fps"):
        load_settings(station_yaml, {"camera": {"rate_fps": -1.0}})


def test_all_mistakes_are_reported_at_once(station_yaml: Path) -> None:
    with pytest.raises(ConfigurationInvalid) as raised:
        load(station_yaml, "camera: {uri: x, loop: 3}\nmodel: {path: 4}\nsave: {folder: 5}\n")

    assert len(str(raised.value).splitlines()) == 3


def test_no_secret_is_shown_in_an_error(station_yaml: Path) -> None:
    text = "camera: {uri: x}\nmqtt: {url: 'mqtt://me:geheim@host', password: geheim}\n"

    with pytest.raises(ConfigurationInvalid) as raised:
        load(station_yaml, text)

    assert "geheim" not in str(raised.value)
    assert "password_file" in str(raised.value)


def test_the_hash_names_the_effective_settings_without_secrets() -> None:
    def sha256(uri: str, **decision: float) -> str:
        options: dict[str, dict[str, object]]
        options = {"camera": {"uri": uri}, "model": {"path": "m.xml"}, "decision": {**decision}}
        return load_settings(None, options).sha256

    assert sha256("rtsp://me:one@cam/1") == sha256("rtsp://you:two@cam/1")
    assert sha256("rtsp://cam/1") != sha256("rtsp://cam/2")
    assert sha256("rtsp://cam/1") != sha256("rtsp://cam/1", guard_band=0.1)


@pytest.mark.parametrize(("url", "port"), [("mqtt://h", 1883), ("mqtts://h", 8883)])
def test_a_broker_without_port_has_the_usual_one(url: str, port: int) -> None:
    assert MqttSettings(url=url).port == port


@pytest.mark.parametrize("shifts", ["[06:00, 14:00, 22:00]", "['06:00', '14:00', '22:00']"])
def test_times_of_day_need_no_quotes(station_yaml: Path, shifts: str) -> None:
    settings = load(station_yaml, f"{GOOD}hmi: {{shifts: {shifts}}}\n")

    assert settings.hmi is not None and settings.hmi.shifts == ["06:00", "14:00", "22:00"]


def test_a_secret_that_an_editor_gave_a_byte_order_mark_is_read_without_it(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes(b"\xef\xbb\xbfgeheim\r\n")
    path.chmod(0o600)

    assert read_secret(path, "mqtt.password_file") == "geheim"


def test_a_password_file_is_read_without_its_line_end(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("geheim \n")
    path.chmod(0o600)

    assert read_secret(path, "mqtt.password_file") == "geheim "


@pytest.mark.parametrize(
    ("content", "mode", "cause"),
    [(b"geheim", 0o640, "chmod 600"), (b"\n", 0o600, "empty"), (b"\xff", 0o600, "UTF-8")],
)
def test_a_password_file_that_cannot_be_used_is_refused(
    tmp_path: Path, content: bytes, mode: int, cause: str
) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    path.chmod(mode)

    with pytest.raises(ConfigurationError, match=cause) as raised:
        read_secret(path, "mqtt.password_file")

    assert "geheim" not in str(raised.value)


@pytest.mark.parametrize(
    ("key", "section"),
    [
        ("hmi.token_file", "hmi: {{token_file: {}}}"),
        (
            "mqtt.password_file",
            "mqtt: {{url: 'mqtt://localhost', username: me, password_file: {}}}",
        ),
    ],
)
@pytest.mark.parametrize("mode", [None, 0o644])
def test_checking_opens_every_secret_and_names_the_key_of_one_that_is_of_no_use(
    tmp_path: Path, bundle: Path, edge_run: EdgeRun, key: str, section: str, mode: int | None
) -> None:
    secret = tmp_path / "secret"
    if mode is not None:
        secret.write_text("geheim\n")
        secret.chmod(mode)
    config = tmp_path / "station.yaml"
    config.write_text(
        f"camera: {{uri: 0}}\nmodel: {{path: {bundle}}}\n"
        f"journal: {{folder: {tmp_path}}}\n{section.format(secret)}\n"
    )

    done = edge_run("--check", "--config", config)

    assert done.returncode == 78
    assert f"{secret}: the file of {key} " in done.stderr


def test_a_secret_that_systemd_gives_to_the_service_alone_is_not_asked_for_by_a_check(
    tmp_path: Path, bundle: Path, edge_run: EdgeRun
) -> None:
    config = tmp_path / "station.yaml"
    config.write_text(
        f"camera: {{uri: 0}}\nmodel: {{path: {bundle}}}\njournal: {{folder: {tmp_path}}}\n"
        'hmi: {token_file: "${CREDENTIALS_DIRECTORY}/page-token"}\n'
    )

    done = edge_run("--check", "--config", config)

    assert done.returncode == 0, done.stderr
    assert "secrets  given by systemd" in done.stdout


@pytest.mark.parametrize(
    ("section", "key"), [("save", "out"), ("snapshots", "in/kept"), ("journal", "in")]
)
def test_output_into_the_watched_folder_is_refused(
    section: str, key: str, tmp_path: Path, edge_run: EdgeRun
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").symlink_to("in")
    config = tmp_path / "station.yaml"
    config.write_text(
        f"camera: {{uri: 'watch://in'}}\nmodel: {{path: m.xml}}\n{section}: {{folder: {key}}}\n"
    )

    reported = edge_run("--config", config, "--check")

    assert reported.returncode == 78
    assert f"{section}.folder" in reported.stderr and "watches" in reported.stderr
    load(config, config.read_text().replace(f"folder: {key}", "folder: in2"))


def test_captured_images_do_not_go_where_they_are_taken_from(
    tmp_path: Path, edge_run: EdgeRun
) -> None:
    (tmp_path / "set" / "good").mkdir(parents=True)

    reported = edge_run("--capture", tmp_path / "set", "--camera", f"watch://{tmp_path}/set/good")

    assert reported.returncode == 78 and "--capture" in reported.stderr


@pytest.mark.parametrize(
    "section",
    [
        "hmi: {port: 0}",
        "opcua: {host: 127.0.0.1}",
        "modbus: {host: 127.0.0.1}",
        "outputs: {module: {host: 10.0.0.2}, reject: {device: module, line: 0}}",
        "recipes: {folder: recipes}",
        "challenge: {every_hours: 8}",
    ],
)
def test_what_needs_a_journal_is_refused_without_one(tmp_path: Path, section: str) -> None:
    (tmp_path / "station.yaml").write_text(
        f"camera: {{uri: in}}\nmodel: {{path: part.xml}}\n{section}\n"
    )
    with pytest.raises(ConfigurationError, match=r"Set journal\.folder"):
        load_settings(tmp_path / "station.yaml")
