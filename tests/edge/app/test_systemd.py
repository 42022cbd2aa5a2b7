"""The service: unit, user, folders, camera rules, broker; checked by the tools that read them.

Nothing here starts systemd or touches this machine's: files are installed into a temporary root.
"""

import json
import os
import re
import shutil
import ssl
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from tests.edge.conftest import edge_run_command
from tests.support.broker import GENEROUS_S, free_port
from tests.support.page_station import PageStation, wait_until
from tests.support.small_bundle import write_images

PROJECT = Path(__file__).parents[3]
SYSTEMD = PROJECT / "systemd"
UNIT = SYSTEMD / "edge-run@.service"
STATION = "plant-1/line-2/cap/top"
NEIGHBOUR = "plant-1/line-2/cap/side"


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | environment,
    )


def files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A temporary root with the station installed."""
    done = run(SYSTEMD / "install.sh", DESTDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    return tmp_path


def test_systemd_finds_nothing_wrong_with_the_unit(root: Path) -> None:
    program = root / "opt/edge/bin/edge-run"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = root / "edge-run@.service"
    unit.write_text(UNIT.read_text().replace("/opt/edge/bin/edge-run", str(program)))
    done = run("systemd-analyze", "verify", "--recursive-errors=no", unit)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_the_exposure_of_the_unit_is_at_most_two_of_ten() -> None:
    done = run(
        "systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", UNIT
    )
    assert done.returncode == 0, done.stdout[-300:]


def test_every_exception_from_the_hardening_is_explained_in_the_unit_and_no_other() -> None:
    done = run("systemd-analyze", "security", "--offline=true", "--json=short", UNIT)
    open_still = {
        name
        for row in json.loads(done.stdout)
        if row["set"] is False
        for name in [row["name"].partition("=")[0]]
    }
    table = UNIT.read_text().partition("and why it stays:\n")[2].partition("\n\n")[0]
    names = " ".join(line[3:34] for line in table.splitlines())
    explained = {word for word in re.findall(r"[A-Za-z]+", names) if word[0].isupper()}
    assert explained == open_still


def test_what_a_station_writes_is_for_its_user_alone() -> None:
    done = run("systemd-analyze", "security", "--offline=true", "--json=short", UNIT)
    (umask,) = (row for row in json.loads(done.stdout) if row["name"] == "UMask=")
    assert umask["set"] is True


def test_a_wrong_configuration_is_not_started_again_and_a_crash_is() -> None:
    unit = UNIT.read_text()
    assert "RestartPreventExitStatus=78" in unit
    assert "Restart=on-failure" in unit
    assert "Type=notify\nNotifyAccess=main" in unit


def test_the_start_waits_for_no_network() -> None:
    lines = [line for line in UNIT.read_text().splitlines() if not line.startswith("#")]
    assert "After=network.target" in lines
    assert not any("network-online" in line for line in lines)


def test_a_reload_with_an_error_fails_and_one_without_is_taken_over(
    tmp_path: Path, bundle: Path
) -> None:
    images = write_images(tmp_path / "pictures", good=1, defective=1)
    camera = {"uri": str(images), "rate_fps": 20, "loop": True}
    station = PageStation(tmp_path, camera, bundle)
    del station.settings["hmi"]
    given = {"/opt/edge/bin/edge-run": edge_run_command()[0], "/etc/edge/%i.yaml": station.config}

    def reload(**decision: float) -> subprocess.CompletedProcess[str]:
        """Do what systemd does for ``systemctl reload``: line by line, until one fails."""
        station.settings["decision"] = decision
        station.write()
        for line in re.findall(r"^ExecReload=(.+)$", UNIT.read_text(), re.MULTILINE):
            words = line.replace("$MAINPID", str(station.pid)).split()
            done = run(*(given.get(word, word) for word in words))
            if done.returncode != 0:
                break
        return done

    try:
        station.launch()
        wait_until(lambda: "inspecting" in station.log, "the start")
        failed = reload(treshold=3.0)
        assert failed.returncode == 78
        assert "decision.treshold is unknown" in failed.stderr
        assert reload(guard_band=0.1).returncode == 0
        wait_until(lambda: "reloaded: decision.guard_band" in station.log, "the reload")
        assert station.stop() == 0
    finally:
        station.close()
    assert "not reloaded" not in station.log


def test_installing_twice_changes_nothing(root: Path) -> None:
    before = files(root)
    done = run(SYSTEMD / "install.sh", DESTDIR=str(root))
    assert done.returncode == 0
    assert files(root) == before
    assert "kept" in done.stdout


def test_what_the_site_wrote_survives_install_and_uninstall(root: Path) -> None:
    settings = root / "etc/edge/cam1.yaml"
    journal = root / "var/lib/edge/cam1/journal.sqlite"
    journal.parent.mkdir(parents=True)
    settings.write_text("camera: {uri: 0}")
    journal.write_bytes(b"verdicts")
    example = root / "etc/edge/station.yaml.example"
    example.write_text("changed here")
    for script in ("install.sh", "uninstall.sh", "uninstall.sh", "install.sh"):
        assert run(SYSTEMD / script, DESTDIR=str(root)).returncode == 0
        assert settings.read_text() == "camera: {uri: 0}"
        assert journal.read_bytes() == b"verdicts"
        assert example.read_text() == "changed here"


def test_uninstalling_leaves_settings_and_models_only(root: Path) -> None:
    done = run(SYSTEMD / "uninstall.sh", DESTDIR=str(root))
    assert done.returncode == 0, done.stderr
    assert list(files(root)) == ["etc/edge/station.yaml.example"]
    assert f"kept       {root}/var/lib/edge" in done.stdout


def test_uninstalling_ends_the_start_at_boot_and_keeps_the_sites_drop_ins(root: Path) -> None:
    system = root / "etc/systemd/system"
    enabled = system / "multi-user.target.wants/edge-run@cam1.service"
    other = enabled.with_name("other.service")
    drop_in = system / "edge-run@cam1.service.d/override.conf"
    for folder in (enabled.parent, drop_in.parent):
        folder.mkdir(parents=True)
    for link in (enabled, other):
        link.symlink_to("/usr/local/lib/systemd/system/edge-run@.service")
    drop_in.write_text("[Service]\nCPUAffinity=0-3\n")
    assert run(SYSTEMD / "uninstall.sh", DESTDIR=str(root)).returncode == 0
    assert not enabled.is_symlink()
    assert other.is_symlink()
    assert drop_in.exists()
    assert run(SYSTEMD / "uninstall.sh", "--purge", DESTDIR=str(root)).returncode == 0
    assert not drop_in.exists()


def test_purging_leaves_nothing(root: Path) -> None:
    assert run(SYSTEMD / "install.sh", "--broker", DESTDIR=str(root)).returncode == 0
    assert run(SYSTEMD / "uninstall.sh", "--purge", DESTDIR=str(root)).returncode == 0
    assert files(root) == {}
    assert not (root / "etc/edge").exists()


@pytest.mark.parametrize("script", ["install.sh", "uninstall.sh"])
def test_an_unknown_option_changes_nothing_and_shows_the_use(tmp_path: Path, script: str) -> None:
    done = run(SYSTEMD / script, "--everything", DESTDIR=str(tmp_path))
    assert done.returncode == 64
    assert f"sudo systemd/{script}" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_installed_user_and_folders_are_what_systemd_makes_of_them(root: Path) -> None:
    done = run("systemd-sysusers", f"--root={root}", "edge.conf")
    assert done.returncode == 0, done.stderr
    user = next(
        line.split(":")
        for line in (root / "etc/passwd").read_text().splitlines()
        if line.startswith("edge:")
    )
    groups = {
        line.split(":")[0]: line.split(":")[3]
        for line in (root / "etc/group").read_text().splitlines()
    }
    assert user[5:] == ["/var/lib/edge", "/usr/sbin/nologin"]
    assert groups["video"] == groups["plugdev"] == "edge"

    shutil.rmtree(root / "etc/edge")
    done = run("systemd-tmpfiles", "--create", f"--root={root}", "edge.conf")
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE((root / "etc/edge").stat().st_mode) == 0o2750
    assert (root / "etc/edge").stat().st_gid == int(user[3])
    assert stat.S_IMODE((root / "etc/credstore").stat().st_mode) == 0o700
    assert (root / "var/lib/edge/models").is_dir()


def test_the_unit_uses_the_user_and_groups_that_are_made() -> None:
    unit, made = UNIT.read_text(), (SYSTEMD / "sysusers.d/edge.conf").read_text()
    (user,) = re.findall(r"^User=(.+)$", unit, re.MULTILINE)
    (groups,) = re.findall(r"^SupplementaryGroups=(.+)$", unit, re.MULTILINE)
    assert f"u {user} " in made
    for group in groups.split():
        assert f"g {group} " in made
        assert f"m {user} {group}" in made


def test_every_camera_rule_is_written_as_udev_reads_it() -> None:
    rules = (SYSTEMD / "udev/70-edge-cameras.rules").read_text()
    pair = re.compile(r'(?:[A-Z]+(?:\{[A-Za-z0-9_/]+\})?)(?:==|!=|=|\+=|:=)"[^"]*"')
    groups = set()
    for line in rules.splitlines():
        if not line or line.startswith("#"):
            continue
        assert all(pair.fullmatch(part) for part in line.split(", ")), line
        assert "==" in line  # a rule without a condition would be for every device
        groups.update(re.findall(r'GROUP="(\w+)"', line))
    assert groups == {"video", "plugdev"}
    assert 'MODE="0666"' not in rules


@pytest.mark.parametrize("script", ["install.sh", "uninstall.sh", "mosquitto/make-certificates.sh"])
def test_the_scripts_are_sound_for_any_shell(script: str) -> None:
    assert run("sh", "-n", SYSTEMD / script).returncode == 0
    if shutil.which("shellcheck"):
        done = run("shellcheck", SYSTEMD / script)
        assert done.returncode == 0, done.stdout


# A PC of its own: this machine's files below, and what the script writes in memory only.
ON_A_PC_OF_ITS_OWN = """
set -eu
mount -t tmpfs memory "$1"
for folder in etc usr/local var/lib; do
    mkdir -p "$1/$folder/upper" "$1/$folder/work"
    layers="lowerdir=/$folder,upperdir=$1/$folder/upper,workdir=$1/$folder/work"
    mount -t overlay overlay -o "$layers" "/$folder"
done
mount -t tmpfs memory /run
mkdir -p /run/systemd/system
rm -rf /etc/mosquitto/certs/*.crt /etc/mosquitto/conf.d/edge.conf /etc/mosquitto/edge.*
printf '#!/bin/sh\\n' >/usr/local/bin/systemctl
chmod +x /usr/local/bin/systemctl
PATH=/usr/local/bin:$PATH
"""


def on_a_pc_of_its_own(folder: Path, commands: str) -> str:
    """Run commands as root of a PC with systemd and without udev; return what they said."""
    place = folder / "memory"
    place.mkdir()
    script = folder / "script"
    script.write_text(ON_A_PC_OF_ITS_OWN + 'test "${2:-}" = try || { ' + commands + "\n}\n")
    if run("unshare", "--mount", "sh", script, place, "try").returncode != 0:
        pytest.skip(
            "this machine lets nobody mount overlays: it takes root, and a kernel with them"
        )
    done = run("unshare", "--mount", "sh", script, place)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_station_is_installed_where_systemd_runs_and_udev_does_not(tmp_path: Path) -> None:
    printed = on_a_pc_of_its_own(
        tmp_path, f"{SYSTEMD}/install.sh; {SYSTEMD}/install.sh; {SYSTEMD}/uninstall.sh"
    )

    assert "no udev" in printed
    assert "runuser -u edge -- /opt/edge/bin/edge-run --check" in printed


def test_the_broker_is_installed_with_certificates_and_keeps_what_the_site_changes(
    tmp_path: Path,
) -> None:
    printed = on_a_pc_of_its_own(
        tmp_path,
        f"""
        {SYSTEMD}/install.sh --broker
        echo '# the site' >> /etc/mosquitto/conf.d/edge.conf
        sed -i 's/^topic read/# &/' /etc/mosquitto/edge.acl
        cd /etc/mosquitto
        before=$(cat conf.d/edge.conf edge.acl certs/*.crt)
        {SYSTEMD}/install.sh --broker
        after=$(cat conf.d/edge.conf edge.acl certs/*.crt)
        test "$before" = "$after" && echo 'nothing was written over'
        openssl verify -CAfile certs/ca.crt certs/server.crt
        mosquitto_passwd -b edge.passwd mes secret
        stat -c '%a %G %n' edge.acl edge.passwd certs/server.key certs/ca.key
        stat -c '%a %G %n' conf.d/edge.conf conf.d/edge.conf.new edge.acl.new
        """,
    )

    assert "nothing was written over" in printed
    assert "ours lies beside it: /etc/mosquitto/conf.d/edge.conf.new" in printed
    assert "certs/server.crt: OK" in printed
    configuration = ("conf.d/edge.conf", "edge.acl")
    new = [f"{name}.new" for name in configuration]
    for private in (*configuration, *new, "edge.passwd", "certs/server.key"):
        assert f"640 mosquitto {private}\n" in printed
    assert "600 root certs/ca.key" in printed
    for step in ("mosquitto_passwd", "systemctl restart mosquitto", "mqtt.ca_file"):
        assert step in printed


@dataclass
class Client:
    """A client over TLS; records what it receives and how its messages were answered."""

    name: str
    client: paho.Client
    received: list[tuple[str, bytes]] = field(default_factory=list)
    answers: dict[int, ReasonCode] = field(default_factory=dict)
    connected: list[ReasonCode] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def publish(self, topic: str, payload: str = "{}") -> bool:
        """Publish with QoS 1; tell whether the broker allowed it."""
        mid = self.client.publish(topic, payload, 1).mid
        self.wait(lambda: mid in self.answers)
        return not self.answers[mid].is_failure

    def subscribe(self, topic: str) -> None:
        done = threading.Event()
        self.client.on_subscribe = lambda *_: done.set()
        self.client.subscribe(topic, 1)
        assert done.wait(GENEROUS_S)

    def wait(self, condition) -> None:  # type: ignore[no-untyped-def]
        with self.changed:
            assert self.changed.wait_for(condition, GENEROUS_S)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@dataclass
class SecuredBroker:
    """Mosquitto with the configuration that is shipped; only places and port are its own."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            ["mosquitto", "-c", str(self.folder / "mosquitto.conf")], stdout=log, stderr=log
        )
        log.close()
        deadline = time.monotonic() + GENEROUS_S
        while b"running" not in (self.folder / "log").read_bytes():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)  # polls a process that has no other way to say it is ready

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(GENEROUS_S)
        (self.folder / "log").unlink()

    def client(
        self,
        name: str | None,
        password: str = "secret",
        persistent: bool = False,
        certificate: Path | None = None,
        client_id: str | None = None,
    ) -> Client:
        one = Client(
            str(name),
            paho.Client(
                CallbackAPIVersion.VERSION2,
                client_id=client_id or str(name).replace("/", "-"),
                protocol=paho.MQTTv5,
            ),
        )
        context = ssl.create_default_context(cafile=str(self.folder / "certs/ca.crt"))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate is not None:
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        one.client.tls_set_context(context)
        if name is not None:
            one.client.username_pw_set(name, password)

        def on_message(_c: paho.Client, _d: object, message: paho.MQTTMessage) -> None:
            with one.changed:
                one.received.append((message.topic, bytes(message.payload)))
                one.changed.notify_all()

        def on_publish(
            _c: paho.Client, _d: object, mid: int, code: ReasonCode, _p: Properties
        ) -> None:
            with one.changed:
                one.answers[mid] = code
                one.changed.notify_all()

        def on_connect(
            _c: paho.Client, _d: object, _f: object, code: ReasonCode, _p: Properties | None
        ) -> None:
            with one.changed:
                one.connected.append(code)
                one.changed.notify_all()

        one.client.on_message, one.client.on_publish = on_message, on_publish
        one.client.on_connect = on_connect
        properties = Properties(1)  # of CONNECT
        properties.SessionExpiryInterval = 3600 if persistent else 0
        one.client.connect(
            "localhost", self.port, clean_start=not persistent, properties=properties
        )
        one.client.loop_start()
        one.wait(lambda: one.connected)
        return one


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    """The shipped broker, with passwords."""
    broker = shipped_broker(tmp_path_factory.mktemp("passwords"))
    for number, name in enumerate((STATION, NEIGHBOUR, "mes", "plc", "operator")):
        create = ["-c"] if number == 0 else []
        passwords = broker.folder / "edge.passwd"
        done = run("mosquitto_passwd", *create, "-b", passwords, name, "secret")
        assert done.returncode == 0, done.stderr
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def certified(tmp_path: Path) -> Iterator[SecuredBroker]:
    """The shipped broker, with the lines for certificates in force."""
    broker = shipped_broker(tmp_path)
    ours = broker.folder / "conf.d/edge.conf"
    ours.write_text(re.sub(r"^#(?=require_|use_identity_)", "", ours.read_text(), flags=re.M))
    (broker.folder / "edge.passwd").touch()
    broker.start()
    yield broker
    broker.stop()


def shipped_broker(root: Path) -> SecuredBroker:
    """Install the broker by the script, beside a main configuration like Debian's."""
    assert run(SYSTEMD / "install.sh", "--broker", DESTDIR=str(root)).returncode == 0
    folder = root / "etc/mosquitto"
    broker = SecuredBroker(folder)
    ours = folder / "conf.d/edge.conf"
    text = ours.read_text().replace("/etc/mosquitto", str(folder))
    ours.write_text(text.replace("listener 8883", f"listener {broker.port} 127.0.0.1"))
    (folder / "mosquitto.conf").write_text(
        f"persistence true\npersistence_location {folder}/\nuser root\n"
        f"log_dest stderr\ninclude_dir {folder}/conf.d\n"
    )
    done = run(SYSTEMD / "mosquitto/make-certificates.sh", folder / "certs", "localhost")
    assert done.returncode == 0, done.stderr
    return broker


NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def make_certificate(folder: Path, file_name: str, common_name: str) -> Path:
    path = folder / f"{file_name}.crt"
    done = run(
        *("openssl", "req", "-x509", *NEW_KEY, "-CA", folder / "ca.crt"),
        *("-CAkey", folder / "ca.key", "-keyout", path.with_suffix(".key"), "-out", path),
        *("-subj", "/CN=" + common_name.replace("/", r"\/")),
        *("-addext", "subjectAltName=DNS:localhost"),
        *("-addext", "basicConstraints=critical,CA:FALSE"),
    )
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def station(secured: SecuredBroker) -> Iterator[Client]:
    client = secured.client(STATION)
    yield client
    client.close()


@pytest.fixture
def mes(secured: SecuredBroker) -> Iterator[Client]:
    client = secured.client("mes")
    yield client
    client.close()


@pytest.mark.parametrize(("name", "password"), [(None, ""), (STATION, "wrong"), ("who", "secret")])
def test_nobody_connects_without_name_and_password(
    secured: SecuredBroker, name: str | None, password: str
) -> None:
    client = secured.client(name, password)
    client.close()
    assert client.connected[0].is_failure


def test_a_station_writes_below_its_own_name_and_nowhere_else(station: Client) -> None:
    topics = ["meta", "state", "verdict", "last", "event", "metrics", "handshake", "cmd/resend/res"]
    for topic in topics:
        assert station.publish(f"vi/v1/{STATION}/{topic}"), topic
        assert not station.publish(f"vi/v1/{NEIGHBOUR}/{topic}"), topic
    for topic in ("trigger", "ack", "cmd/reload", "anything"):
        assert not station.publish(f"vi/v1/{STATION}/{topic}"), topic
    assert not station.publish("elsewhere")


def test_a_station_is_given_its_own_triggers_and_commands_and_nobody_elses(
    secured: SecuredBroker, station: Client, mes: Client
) -> None:
    station.subscribe("#")
    plc, operator = secured.client("plc"), secured.client("operator")
    try:
        for name in (NEIGHBOUR, STATION):
            assert mes.publish(f"vi/v1/{name}/ack")
            assert mes.publish(f"vi/v1/{name}/cmd/resend")
            assert plc.publish(f"vi/v1/{name}/trigger")
            assert plc.publish(f"vi/v1/{name}/ack")
            assert operator.publish(f"vi/v1/{name}/cmd/reload")
    finally:
        plc.close()
        operator.close()
    station.wait(lambda: len(station.received) >= 5)
    assert sorted(topic for topic, _ in station.received) == [
        f"vi/v1/{STATION}/{topic}"
        for topic in ("ack", "ack", "cmd/reload", "cmd/resend", "trigger")
    ]


def test_the_mes_reads_every_station_and_changes_none(station: Client, mes: Client) -> None:
    mes.subscribe("vi/v1/#")
    assert station.publish(f"vi/v1/{STATION}/verdict", "a verdict")
    mes.wait(lambda: (f"vi/v1/{STATION}/verdict", b"a verdict") in mes.received)
    for topic in ("verdict", "state", "trigger", "cmd/reload"):
        assert not mes.publish(f"vi/v1/{STATION}/{topic}"), topic


def test_nobody_pushes_another_off_by_its_client_id(
    secured: SecuredBroker, station: Client
) -> None:
    attacker = secured.client(NEIGHBOUR, client_id=STATION.replace("/", "-"))
    assert station.publish(f"vi/v1/{STATION}/verdict")
    assert attacker.publish(f"vi/v1/{NEIGHBOUR}/verdict")
    connections = len(station.connected), len(attacker.connected)
    attacker.close()
    assert connections == (1, 1)


def test_nobody_takes_the_session_that_is_kept_for_another(
    secured: SecuredBroker, station: Client
) -> None:
    away = secured.client("mes", persistent=True, client_id="mes")
    away.subscribe(f"vi/v1/{STATION}/verdict")
    away.close()
    attacker = secured.client(NEIGHBOUR, client_id="mes")  # with a clean start
    attacker.close()
    sent = [(f"vi/v1/{STATION}/verdict", str(number).encode()) for number in range(20)]
    for topic, payload in sent:
        assert station.publish(topic, payload.decode())
    back = secured.client("mes", persistent=True, client_id="mes")
    back.wait(lambda: len(back.received) >= len(sent))
    assert back.received == sent
    back.close()
    secured.client("mes").close()  # ends the session


def test_a_client_that_does_not_know_the_authority_is_not_fooled(secured: SecuredBroker) -> None:
    context = ssl.create_default_context()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.tls_set_context(context)
    with pytest.raises(ssl.SSLCertVerificationError):
        client.connect("localhost", secured.port)


def test_a_station_may_be_known_by_its_certificate_in_place_of_a_password(
    certified: SecuredBroker,
) -> None:
    certificate = make_certificate(certified.folder / "certs", "station", STATION)
    station = certified.client(None, certificate=certificate)
    assert station.publish(f"vi/v1/{STATION}/verdict")
    assert not station.publish(f"vi/v1/{NEIGHBOUR}/verdict")
    station.close()


def test_verdicts_for_a_consumer_that_is_away_survive_a_restart_of_the_broker(
    secured: SecuredBroker,
) -> None:
    count = 1500  # mosquitto's own default drops all beyond 1000
    away = secured.client("mes", persistent=True)
    away.subscribe(f"vi/v1/{STATION}/verdict")
    away.close()
    station = secured.client(STATION)
    mids = [station.client.publish(f"vi/v1/{STATION}/verdict", str(n), 1).mid for n in range(count)]
    station.wait(lambda: len(station.answers) == count)
    assert not any(station.answers[mid].is_failure for mid in mids)
    station.close()

    secured.stop()
    secured.start()

    back = secured.client("mes", persistent=True)
    back.wait(lambda: len(back.received) >= count)
    back.close()
    assert [int(payload) for _, payload in back.received] == list(range(count))
