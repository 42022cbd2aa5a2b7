"""What a site sets about the OPC UA server."""

from ipaddress import ip_address
from typing import Self

from pydantic import Field, field_validator, model_validator

from edge.section import Section


class OpcUaSettings(Section):
    """An OPC UA server: results and their events; with an account, clients choose the recipe."""

    host: str = Field(
        min_length=1,
        description="Address of this PC to listen at; 127.0.0.1: this PC only.",
        examples=["192.168.0.10"],
    )
    port: int = Field(default=4840, ge=1, le=65535, description="Port for opc.tcp.")
    certificate_file: str | None = Field(
        default=None,
        description=(
            "Server certificate, PEM or DER: only signed or encrypted connections "
            "(Basic256Sha256) are accepted. Left out: nothing is encrypted."
        ),
        examples=["/etc/edge/opcua.pem"],
    )
    key_file: str | None = Field(
        default=None,
        description="Private key of the certificate.",
        examples=["/etc/edge/opcua.key"],
    )
    username: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "User that may connect and choose a recipe; left out: anyone who reaches "
            "the port may read."
        ),
        examples=["scada"],
    )
    password_file: str | None = Field(
        default=None,
        description="File with the password: one line, readable by its owner only.",
        examples=["/etc/edge/opcua.password"],
    )
    connections: int = Field(
        default=16, ge=1, le=256, description="Clients at a time; more are refused."
    )

    @field_validator("host")
    @classmethod
    def _address(cls, host: str) -> str:
        return str(ip_address(host))  # its ValueError says what is wrong

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file need each other")
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file need each other")
        if self.username is not None and self.certificate_file is None:
            raise ValueError("a password needs a certificate_file: it would travel unencrypted")
        return self
