"""What a site sets about one station: its sections, and what they demand of each other."""

import hashlib
import json
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from edge.ports.file_drop import FileDropSettings
from edge.ports.port import PortSettings
from edge.recipes.errors import RecipeNameInvalid
from edge.recipes.names import recipe_name
from edge.redaction import redacted
from edge.section import Section
from edge.settings.addresses import Scheme, parse_scheme
from edge.settings.camera import CameraSettings
from edge.settings.challenge import ChallengeSettings
from edge.settings.code import CodeSettings
from edge.settings.decision import DecisionSettings
from edge.settings.drift import DriftSettings
from edge.settings.fleet import FleetSettings
from edge.settings.handshake import HandshakeSettings
from edge.settings.hmi import HmiSettings
from edge.settings.image import ImageSettings
from edge.settings.journal import JournalSettings
from edge.settings.modbus import ModbusSettings
from edge.settings.model import ModelSettings
from edge.settings.mqtt import MqttSettings
from edge.settings.opcua import OpcUaSettings
from edge.settings.outputs import OutputsSettings
from edge.settings.recipe import RecipeSettings
from edge.settings.recipes import RecipesSettings
from edge.settings.save import SaveSettings
from edge.settings.show import ShowSettings
from edge.settings.snapshots import SnapshotSettings
from edge.settings.teach import TeachSettings
from edge.settings.watchdog import WatchdogSettings


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
        self._demand_that_codes_name_recipes()
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

    def _demand_that_codes_name_recipes(self) -> None:
        named = self.code.recipe if self.code is not None else None
        if named is None:
            return
        if self.recipes is None:
            raise ValueError("code.recipe chooses among recipes. Set recipes.folder")
        own = self.recipe.id if self.recipe is not None else None
        for name in (named.names or {}).values():
            try:
                if name != own:
                    recipe_name(name)
            except RecipeNameInvalid as error:
                raise ValueError(f"code.recipe.names: {error}") from error

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
