"""What a site sets about the broker."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from edge.contract.topics import StationTopic
from edge.section import Section
from edge.settings.addresses import broker_address, with_plain_scheme
from edge.settings.sparkplug import SparkplugSettings

DEFAULT_STATION = "site/line/station/camera"


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
