"""What a site sets: station YAML and command line, validated into one frozen tree."""

import difflib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from edge.bundle.manifest import Crop
from edge.contract.topics import StationTopic
from edge.errors import ConfigurationInvalid
from edge.imaging.image_header import MAX_PIXELS
from edge.ports.file_drop import FileDropSettings
from edge.ports.port import PortSettings
from edge.redaction import redacted
from edge.section import Section
from edge.settings.addresses import Scheme, broker_address, parse_scheme, with_plain_scheme
from edge.settings.camera import (
    SensorSettings,
    SupervisionSettings,
    TriggerSettings,
    WatchSettings,
)
from edge.settings.code import CodeSettings
from edge.settings.credentials import CREDENTIALS
from edge.settings.fleet import FleetSettings
from edge.settings.hmi import HmiSettings, ShowSettings
from edge.settings.image import ImageSettings
from edge.settings.modbus import ModbusSettings
from edge.settings.opcua import OpcUaSettings
from edge.settings.outputs import OutputsSettings
from edge.settings.recipes import RecipesSettings
from edge.settings.recording import (
    ChallengeSettings,
    DriftSettings,
    HandshakeSettings,
    JournalSettings,
    RecipeSettings,
    SnapshotSettings,
    WatchdogSettings,
)
from edge.settings.sparkplug import SparkplugSettings
from edge.settings.teach import TeachSettings
from edge.validation import in_words
from edge.yaml_lines import Location, SettingsFile, read_settings_file

DEFAULT_STATION = "site/line/station/camera"
MAX_FAULTS = 10

QueueBound = Annotated[int, Field(ge=1, le=1_000_000)]


class CameraSettings(Section):
    """Where images come from."""

    uri: str = Field(
        min_length=1,
        description=(
            "Folder, glob, image, video file, watch://FOLDER, gige://…, usb3://…, 0, "
            "/dev/v4l/by-id/…, rtsp://… or http://…; edge-run --list-cameras lists those "
            "that are found."
        ),
        examples=["demo/frames"],
        json_schema_extra={"type": ["string", "integer"]},
    )
    rate_fps: float | None = Field(
        default=None,
        gt=0,
        le=10_000,
        description="Pace of images from files; left out: as fast as they are inspected.",
        examples=[5],
    )
    loop: bool = Field(default=False, description="Start again at the end of the files.")
    policy: Literal["latest", "every", "auto"] = Field(
        default="auto",
        description=(
            "latest: the newest frame wins, others are skipped; every: each frame is inspected; "
            "auto: every for files, latest for live cameras."
        ),
    )
    queue_depth: int = Field(
        default=8, ge=1, le=1000, description="With every, frames of a live camera that may wait."
    )
    crop: Crop | None = Field(
        default=None,
        description="Region of interest in frame pixels.",
        examples=[{"x": 80, "y": 0, "width": 480, "height": 480}],
    )
    max_pixels: int = Field(
        default=2**26,
        ge=1,
        le=MAX_PIXELS,
        description="Most pixels of an image file; a larger one is not decoded.",
    )
    ca_file: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "Certificates that verify a camera at https:// or rtsps://; left out: those "
            "of the system."
        ),
        examples=["camera-ca.crt"],
    )
    sensor: SensorSettings = Field(
        default=SensorSettings(),
        description=(
            "Settings written to the camera at every opening and read back; what is "
            "left out keeps the camera's value."
        ),
    )
    trigger: TriggerSettings = Field(
        default=TriggerSettings(), description="What triggers an exposure."
    )
    supervision: SupervisionSettings = Field(
        default=SupervisionSettings(),
        description="When a camera counts as lost and a frame as stale.",
    )
    watch: WatchSettings = Field(
        default=WatchSettings(), description="For a watched folder (watch://FOLDER)."
    )

    @field_validator("uri", mode="before")
    @classmethod
    def _as_compared(cls, uri: object) -> object:
        # `uri: 0` is a number in YAML and the first camera to everybody.
        if isinstance(uri, int) and not isinstance(uri, bool):
            return str(uri)
        return with_plain_scheme(uri) if isinstance(uri, str) else uri

    @model_validator(mode="after")
    def _verifies_what_is_encrypted(self) -> Self:
        encrypted = parse_scheme(self.uri) in (Scheme.HTTPS, Scheme.RTSPS)
        if self.ca_file is not None and not encrypted:
            raise ValueError("ca_file needs a uri that starts with https:// or rtsps://")
        return self

    def watches(self, folder: Path) -> bool:
        """Tell whether a folder is the watched one, or inside of it."""
        if parse_scheme(self.uri) != Scheme.WATCH:
            return False
        watched = os.path.realpath(self.uri.partition("://")[2])
        return Path(os.path.realpath(folder)).is_relative_to(watched)


class ModelSettings(Section):
    "Which model bundle runs, and on what."

    path: str = Field(
        min_length=1, description="Path of the bundle's .xml.", examples=["demo/bottle.xml"]
    )
    device: str = Field(default="CPU", min_length=1, description="OpenVINO device.")
    threads: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="Threads for inference; 0: every core that this process may use.",
    )
    objective: Literal["latency", "throughput"] = Field(
        default="latency",
        description=(
            "latency: one frame at a time with all threads; throughput: several frames side by "
            "side."
        ),
    )
    public_key: str | None = Field(
        default=None,
        min_length=1,
        description="PEM file of an ed25519 public key; bundles not signed with its private key "
        "are refused.",
        examples=["release.pub.pem"],
    )
    allow_downgrade: bool = Field(
        default=False,
        description="Accept a signed bundle that is older than one of the same name that was in "
        "use.",
    )

    @field_validator("device")
    @classmethod
    def _as_openvino_names_it(cls, device: str) -> str:
        return device.upper()


class DecisionSettings(Section):
    """What a site may change about the decision; what is left out keeps the value of the bundle."""

    image_threshold: float | None = Field(default=None, description="Raw score.", examples=[1.64])
    pixel_threshold: float | None = Field(default=None, description="Raw score.", examples=[1.63])
    guard_band: float = Field(
        default=0.0,
        ge=0.0,
        lt=0.5,
        description=(
            "Half-width around 0.5, on the normalized scale, in which a part is NOT_DECIDABLE."
        ),
    )
    smallest_region_px: int = Field(
        default=0, ge=0, description="Smallest region that is reported."
    )
    mask: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "Mask: YAML with polygons and zones, or an image in which everything that "
            "is not black is ignored; left out: that of the bundle."
        ),
        examples=["mask.yaml"],
    )
    deadline_ms: float | None = Field(
        default=None,
        gt=0,
        description="Time limit from the arrival of the frame to the decision.",
        examples=[100],
    )


class MqttSettings(Section):
    """Broker and name of this station."""

    url: str = Field(
        description="Address of the broker: mqtt://HOST[:PORT] or mqtts://HOST[:PORT].",
        examples=["mqtt://192.168.1.10:1883"],
    )
    station: str = Field(
        default=DEFAULT_STATION,
        description="Name of this station, SITE/LINE/STATION/CAMERA; part of every topic.",
        examples=["plant1/line3/washer/cam1"],
    )
    username: str | None = Field(
        default=None,
        min_length=1,
        description="Account at the broker.",
        examples=["plant1/line3/washer/cam1"],
    )
    password_file: str | None = Field(
        default=None,
        description="File with the password: one line, readable by its owner only.",
        examples=["/etc/edge/mqtt.password"],
    )
    ca_file: str | None = Field(
        default=None,
        description=(
            "With mqtts://: certificates that verify the broker; left out: those of the system."
        ),
        examples=["/etc/edge/ca.pem"],
    )
    certificate_file: str | None = Field(
        default=None,
        description="Client certificate, if the broker asks for one.",
        examples=["/etc/edge/cam1.pem"],
    )
    key_file: str | None = Field(
        default=None,
        description="Private key of that certificate.",
        examples=["/etc/edge/cam1.key"],
    )
    commands_per_minute: int = Field(
        default=60,
        ge=1,
        le=100_000,
        description="Commands per minute; more are refused. Triggers do not count.",
    )
    leads: bool | None = Field(
        default=None,
        description=(
            "Messages trigger and acknowledge; false: they are only published; left "
            "out: true unless Modbus leads."
        ),
        examples=[False],
    )
    sparkplug: SparkplugSettings | None = Field(
        default=None,
        description=(
            "Publish the same verdicts as Sparkplug B, beside the station's topics "
            "(docs/sparkplug.md); only group and node are required."
        ),
        examples=[
            {
                "group": "plant1",
                "node": "cell",
                "device": "cam1",
                "aliases": False,
                "primary_host": "mes",
            }
        ],
    )

    @field_validator("url")
    @classmethod
    def _broker_address(cls, url: str) -> str:
        broker_address(url)
        return with_plain_scheme(url)

    @field_validator("station")
    @classmethod
    def _station_name(cls, station: str) -> str:
        return StationTopic.parse(station).name

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file needs a username")
        if (self.ca_file or self.certificate_file) is not None and not self.tls:
            raise ValueError("ca_file and certificate_file need a url that starts with mqtts://")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file need each other")
        node = self.sparkplug
        if node is not None and node.certificate_file is not None and not self.tls:
            raise ValueError("sparkplug.certificate_file needs a url that starts with mqtts://")
        return self

    @property
    def of_sparkplug(self) -> Self:
        """As the edge node connects: at the same broker, with an account of its own if it has."""
        node = self.sparkplug
        if node is None:
            return self
        changed: dict[str, str | None] = {}
        if node.username is not None:
            changed |= {"username": node.username, "password_file": node.password_file}
        if node.certificate_file is not None:
            changed |= {"certificate_file": node.certificate_file, "key_file": node.key_file}
        return self.model_copy(update=changed)

    @property
    def tls(self) -> bool:
        return broker_address(self.url).encrypted

    @property
    def host(self) -> str:
        return broker_address(self.url).host

    @property
    def port(self) -> int:
        return broker_address(self.url).port

    @property
    def topic(self) -> StationTopic:
        return StationTopic.parse(self.station)


class SaveSettings(Section):
    """Where overlay images of every part go."""

    folder: str = Field(
        min_length=1,
        description="Folder for overlays; created if it does not exist.",
        examples=["/var/lib/edge/overlays"],
    )
    queue_bound: QueueBound = Field(
        default=16,
        description=(
            "Parts that may wait to be drawn. With a live camera, further parts are "
            "left out and counted."
        ),
    )


class Settings(Section):
    """What a site sets about one station; a section of its own that is left out is off."""

    camera: CameraSettings = Field(description="Where images come from.")
    model: ModelSettings = Field(description="Which model bundle runs, and on what.")
    image: ImageSettings = Field(
        default=ImageSettings(),
        description="Limits of the grey levels of an image; beyond them a part is an ERROR.",
    )
    decision: DecisionSettings = Field(
        default=DecisionSettings(),
        description="What a site may change about the decision without a new model.",
    )
    code: CodeSettings | None = Field(
        default=None, description="Reads the part's id from a code. Left out: no code is read."
    )
    mqtt: MqttSettings | None = Field(
        default=None,
        description="The MQTT broker. Left out: verdicts go to standard output as JSON lines.",
    )
    modbus: ModbusSettings | None = Field(
        default=None,
        description=(
            "Modbus TCP; needs a journal (journal.folder or mqtt.url). Left out: no Modbus."
        ),
    )
    outputs: OutputsSettings | None = Field(
        default=None, description="Digital outputs. Left out: none."
    )
    opcua: OpcUaSettings | None = Field(
        default=None,
        description=(
            "OPC UA server; needs a journal (journal.folder or mqtt.url). Left out: no OPC UA."
        ),
    )
    save: SaveSettings | None = Field(
        default=None, description="An overlay image of every part. Left out: none is drawn."
    )
    file_drop: FileDropSettings | None = Field(default=None, description="Left out: no files.")
    journal: JournalSettings | None = Field(
        default=None,
        description="Journal of verdicts and events. Left out: on with these values if there is "
        "a broker, otherwise off.",
    )
    snapshots: SnapshotSettings | None = Field(
        default=None, description="Images of parts that are kept. Left out: none are kept."
    )
    handshake: HandshakeSettings = Field(
        default=HandshakeSettings(), description="Between trigger and acknowledgement."
    )
    recipe: RecipeSettings | None = Field(
        default=None,
        description=(
            "Name of the recipe that model.path inspects; a trigger that names another "
            "one is rejected, unless recipes has it."
        ),
    )
    recipes: RecipesSettings | None = Field(
        default=None,
        description="Several products, each with its own model. Left out: the station has one "
        "model.",
    )
    fleet: FleetSettings | None = Field(
        default=None, description="Accepts releases of a roll-out. Left out: none are accepted."
    )
    teach: TeachSettings | None = Field(
        default=None,
        description=(
            "Teaching at the page; it makes versions of recipes and needs "
            "recipes.folder. Left out: no teaching."
        ),
    )
    drift: DriftSettings = Field(
        default=DriftSettings(),
        description=("Alarm when the scores drift out of the range of the good training images."),
    )
    challenge: ChallengeSettings | None = Field(
        default=None, description="Requires a recent capability study. Left out: none is required."
    )
    watchdog: WatchdogSettings = Field(
        default=WatchdogSettings(), description="How long a stage may be silent, in seconds."
    )
    hmi: HmiSettings | None = Field(
        default=None,
        description=(
            "The page at the station; needs a journal (journal.folder or mqtt.url). "
            "Left out: no page."
        ),
    )
    show: ShowSettings | None = Field(
        default=None, description="A window on this PC's screen. Left out: no window."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self._refuse_what_needs_a_journal()
        self._refuse_what_cannot_lead()
        self._refuse_output_in_the_watched_folder()
        self._refuse_impossible_outputs()
        self._demand_that_challenges_are_kept()
        self._demand_that_what_is_taught_can_be_used()
        if self.recipes is not None and self.recipes.wait_ms >= self.watchdog.inspect_s * 1e3:
            raise ValueError(
                f"recipes.wait_ms {self.recipes.wait_ms:g} is not less than watchdog.inspect_s "
                f"({self.watchdog.inspect_s:g} s). Lower it"
            )
        self._demand_that_the_sensor_holds_the_reference()
        if self.fleet is not None and (self.mqtt is None or self.recipes is None):
            raise ValueError(
                "fleet takes releases of recipes over the broker and needs both. Set "
                "mqtt.url and recipes.folder"
            )
        return self

    def _refuse_what_needs_a_journal(self) -> None:
        """With a broker there is one without its section."""
        if self.journal is not None or self.mqtt is not None:
            return
        needs = {
            "hmi": "shows what the journal holds",
            "opcua": "shows what the journal holds",
            "modbus": "shows what the journal holds",
            "outputs": "acts on what the journal holds, and records what it missed",
            "recipes": "keeps the recipe that was chosen beside the journal",
            "challenge": "looks into the journal",
        }
        for name, why in needs.items():
            if getattr(self, name) is not None:
                raise ValueError(f"{name} {why}. Set journal.folder")

    def _refuse_impossible_outputs(self) -> None:
        outputs, trigger = self.outputs, self.camera.trigger
        if outputs is None:
            return
        for name, one in outputs.lines("camera").items():
            if parse_scheme(self.camera.uri) not in (Scheme.GIGE, Scheme.USB3, Scheme.ARAVIS):
                raise ValueError(
                    f"outputs.{name}.device is camera, but only gige:// and usb3:// cameras have "
                    "output lines. Use module or gpio"
                )
            if trigger.mode == "hardware" and one.line == trigger.source:
                raise ValueError(
                    f"outputs.{name}.line {one.line} is camera.trigger.source, an input. "
                    "Name another line"
                )
        deadline_ms = self.decision.deadline_ms
        for name, part in (("reject", outputs.reject), ("good", outputs.good)):
            if part is None or deadline_ms is None or part.delay_counts is not None:
                continue  # how long counts take is the conveyor's affair
            key = "window_ms" if part.delay_ms is None else "delay_ms"
            given_ms = part.window_ms if part.delay_ms is None else part.delay_ms
            if given_ms < deadline_ms:
                raise ValueError(
                    f"outputs.{name}.{key} {given_ms:g} ends before decision.deadline_ms "
                    f"{deadline_ms:g}: a verdict in time would come too late for the line. Raise "
                    f"outputs.{name}.{key}, or lower the deadline"
                )

    def _demand_that_challenges_are_kept(self) -> None:
        if self.challenge is None:
            return
        kept_hours = (self.journal or JournalSettings()).retention_days * 24
        if self.challenge.every_hours > kept_hours:
            raise ValueError(
                f"challenge.every_hours {self.challenge.every_hours:g} is longer than the journal "
                f"keeps records ({kept_hours:g} hours). Raise journal.retention_days"
            )

    def _demand_that_what_is_taught_can_be_used(self) -> None:
        if self.teach is None:
            return
        if self.recipes is None:
            raise ValueError("teach makes versions of recipes. Set recipes.folder")
        if self.model.public_key is not None and self.teach.key is None:
            raise ValueError(
                "model.public_key asks for signed bundles, but teach would make unsigned "
                "ones. Set teach.key"
            )

    def _refuse_what_cannot_lead(self) -> None:
        """One port gives triggers and takes acknowledgements; two could contradict each other."""
        mqtt, modbus, trigger = self.mqtt, self.modbus, self.camera.trigger
        if modbus is not None and trigger.mode == "free_run":
            raise ValueError(
                "modbus carries the hand-shake of triggered parts. Set camera.trigger.mode"
            )
        if modbus is not None and modbus.leads and mqtt is not None and mqtt.leads:
            raise ValueError(
                "mqtt.leads and modbus.leads are both true, but only one port can lead the "
                "hand-shake. Set one of them to false"
            )
        if trigger.by_message and self.leader is None:
            if mqtt is None and modbus is None:
                raise ValueError(
                    "camera.trigger waits for messages, but neither a broker nor Modbus is set. "
                    "Set mqtt.url or modbus.host, or camera.trigger.announced: false for a "
                    "hardware line without messages"
                )
            raise ValueError(
                "camera.trigger waits for messages, but no port leads the hand-shake. Set "
                "mqtt.leads or modbus.leads to true"
            )

    @property
    def leader(self) -> Literal["mqtt", "modbus"] | None:
        """The port whose triggers and acknowledgements count; None without one."""
        if self.modbus is not None and self.modbus.leads:
            return "modbus"
        if self.mqtt is not None and self.mqtt.leads is not False:
            return "mqtt"
        return None

    def _demand_that_the_sensor_holds_the_reference(self) -> None:
        place, sensor = self.image.reference, self.camera.sensor
        if place is None:
            return
        for end, what, size in (
            (place.x + place.width, "width_px", sensor.width_px),
            (place.y + place.height, "height_px", sensor.height_px),
        ):
            if size is not None and end > size:
                raise ValueError(
                    f"image.reference ends at pixel {end}, outside of the frame: "
                    f"camera.sensor.{what} is {size}. Move the region, or read out more"
                )

    def _refuse_output_in_the_watched_folder(self) -> None:
        """What the station writes there would be inspected again, and again."""
        written = {
            "save.folder": self.save.folder if self.save else None,
            "snapshots.folder": self.snapshots.folder if self.snapshots else None,
            "journal.folder": self.journal.folder if self.journal else None,
        }
        for name, section in self:
            if isinstance(section, PortSettings):
                written[f"{name}.folder"] = getattr(section, "folder", None)
        for key, folder in written.items():
            if folder and self.camera.watches(Path(folder)):
                raise ValueError(
                    f"{key} {folder} is inside the folder that camera.uri watches. "
                    "Name a folder outside of it"
                )

    @property
    def sha256(self) -> str:
        """Hash of the effective configuration, credentials left out."""
        content = self.model_dump(mode="json")
        content["camera"]["uri"] = redacted(self.camera.uri)
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


def load_settings(
    path: Path | None = None, options: Mapping[str, Mapping[str, object]] | None = None
) -> Settings:
    """Read the station's YAML and lay the command line over it.

    Args:
        path: the YAML; None for the command line alone.
        options: section → key → value; None values are options that were not given.

    Raises:
        ConfigurationUnreadable: the file is missing or not YAML.
        ConfigurationInvalid: names file, line, key, what was found and what is allowed.
    """
    file = read_settings_file(path) if path else SettingsFile(Path("command line"), {}, {})
    # An empty section is one whose keys are all commented out.
    merged = {name: value for name, value in file.values.items() if value is not None}
    if path:
        merged = _beside(path, merged)
    given: set[Location] = set()
    for section, keys in (options or {}).items():
        chosen = {key: value for key, value in keys.items() if value is not None}
        if chosen and isinstance(merged.setdefault(section, {}), dict):
            merged[section] = {**merged[section], **chosen}
            given.update((section, key) for key in chosen)
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        faults = error.errors()[:MAX_FAULTS]
        raise ConfigurationInvalid(*(_sentence(fault, file, given) for fault in faults)) from error


_PATHS: tuple[tuple[str, ...], ...] = (
    ("camera", "uri"),
    ("camera", "ca_file"),
    ("model", "path"),
    ("mqtt", "password_file"),
    ("mqtt", "ca_file"),
    ("mqtt", "certificate_file"),
    ("mqtt", "key_file"),
    ("mqtt", "sparkplug", "password_file"),
    ("mqtt", "sparkplug", "certificate_file"),
    ("mqtt", "sparkplug", "key_file"),
    ("model", "public_key"),
    ("fleet", "public_key"),
    ("journal", "folder"),
    ("recipes", "folder"),
    ("teach", "teacher"),
    ("teach", "key"),
    ("snapshots", "folder"),
    ("save", "folder"),
    ("hmi", "token_file"),
    ("opcua", "certificate_file"),
    ("opcua", "key_file"),
    ("opcua", "password_file"),
    ("decision", "mask"),
)


def _beside(file: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Make the file's relative paths relative to the file: a service has another folder."""
    moved = values
    # A port that works on a folder calls it so.
    ports = ((name, "folder") for name in values if name in _port_names())
    for place in (*_PATHS, *ports):
        moved = _with_absolute(moved, place, file.absolute().parent)
    return moved


def _with_absolute(values: dict[str, Any], place: Sequence[str], folder: Path) -> dict[str, Any]:
    """Return the values with the path at this place below the folder; as they are without one."""
    key, *further = place
    found = values.get(key)
    if further:
        if not isinstance(found, dict):
            return values
        return {**values, key: _with_absolute(found, further, folder)}
    if not isinstance(found, str) or not found or found.startswith(CREDENTIALS):
        return values
    scheme, path = "", found
    if parse_scheme(found) == Scheme.WATCH:
        scheme, _, path = found.partition("//")
        scheme += "//"
    if not _is_path(path):
        return values
    return {**values, key: scheme + os.path.normpath(folder / path)}


def _port_names() -> set[str]:
    """Return the keys of the sections that open verdict ports."""
    return {
        name
        for name, field in Settings.model_fields.items()
        for kind in get_args(field.annotation)
        if isinstance(kind, type) and issubclass(kind, PortSettings)
    }


def _is_path(text: str) -> bool:
    return "://" not in text and not text.isdecimal()


def _sentence(fault: ErrorDetails, file: SettingsFile, given: set[Location]) -> str:
    location = tuple(fault["loc"])
    key = ".".join(str(part) for part in location) or "settings"
    place = "command line" if location[:2] in given else file.place(location)
    if fault["type"] == "missing":
        option = {"camera.uri": "--camera URI", "camera": "--camera URI", "mqtt.url": "--mqtt URL"}
        option |= {"model.path": "--model BUNDLE.xml", "model": "--model BUNDLE.xml"}
        hint = f" or give {option[key]}" if key in option else ""
        return f"{place}: {key} is missing. Set it in the YAML{hint}."
    if fault["type"] == "extra_forbidden":
        allowed = _keys_beside(location)
        close = difflib.get_close_matches(str(location[-1]), allowed, 1, 0.6)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        return f"{place}: {key} is unknown. {hint}Allowed here: {', '.join(allowed)}."
    message = in_words(fault)
    found = fault["input"]
    if fault["type"] == "string_unicode":
        message = "is not UTF-8. Rename that file or folder"
    if fault["type"] == "model_type":
        message = f"must hold keys: {', '.join(_keys_beside((*location, '')))}"
    if isinstance(found, dict | list | BaseModel):
        return f"{place}: {key}: {message}."
    shown = redacted(found) if isinstance(found, str) else found
    return f"{place}: {key}: found {shown!r} ({_kind(found)}), {message}."


def _keys_beside(location: Location) -> list[str]:
    section: type[BaseModel] = Settings
    for part in location[:-1]:
        annotation = section.model_fields[str(part)].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        section = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(section.model_fields)


def _kind(value: object) -> str:
    names = {bool: "yes/no", int: "a whole number", float: "a number", str: "text"}
    return "nothing" if value is None else names.get(type(value), type(value).__name__)
