"""What a site sets about the registers that a PLC reads and writes."""

from ipaddress import ip_address
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from edge.section import Section

# Of edge/plc/registers.py, which a test compares.
COMMAND_WORDS, STATUS_WORDS = 22, 34

Ordering = Literal["big", "little"]


class PlcSettings(Section):
    """A PLC that is a Modbus TCP server, with the hand-shake's registers among its own."""

    host: str = Field(min_length=1, description="Address of the PLC.", examples=["192.168.0.1"])
    port: int = Field(default=502, ge=1, le=65_535, description="Port of the PLC.")
    command_address: int = Field(
        default=0,
        ge=0,
        le=65_535 - COMMAND_WORDS,
        description="First holding register of the command block, which the PLC writes.",
    )
    status_address: int = Field(
        default=100,
        ge=0,
        le=65_535 - STATUS_WORDS,
        description="First holding register of the status block, which the station writes.",
    )
    poll_ms: float = Field(
        default=10.0, ge=1, le=1000, description="How often the command block is read."
    )
    timeout_ms: float = Field(
        default=500.0,
        ge=10,
        le=10_000,
        description="The PLC counts as disconnected after this time without an answer.",
    )

    @model_validator(mode="after")
    def _blocks_are_apart(self) -> Self:
        command, status = self.command_address, self.status_address
        if command < status + STATUS_WORDS and status < command + COMMAND_WORDS:
            raise ValueError(
                f"command_address {command} ({COMMAND_WORDS} registers) and status_address "
                f"{status} ({STATUS_WORDS}) overlap. Move one of them"
            )
        return self


class ModbusSettings(Section):
    """The hand-shake's registers over Modbus TCP: served here, or visited in a PLC."""

    host: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "Address of this PC to listen at. Use the machine's network, because Modbus "
            "has no passwords; 127.0.0.1: this PC only. Left out: see plc."
        ),
        examples=["192.168.0.10"],
    )
    port: int = Field(
        default=1502,
        ge=0,
        le=65535,
        description="Port; 502 needs a capability (docs/modbus.md); 0: a free one, which the "
        "log names.",
    )
    plc: PlcSettings | None = Field(
        default=None,
        description="Instead of host: the PLC is the server and the station its client.",
    )
    unit: int = Field(
        default=1,
        ge=1,
        le=247,
        description="Unit id the station answers to, besides 0 and 255; with plc: the unit id "
        "of the PLC.",
    )
    leads: bool = Field(
        default=True,
        description="The Modbus master triggers and acknowledges; false: it only reads.",
    )
    master_timeout_ms: float = Field(
        default=1000.0,
        ge=50,
        le=60_000,
        description="The station is ready only while master_heartbeat changes within this time.",
    )
    word_order: Ordering = Field(
        default="big",
        description="Word order of 32-bit values. big: high word first; little: low word first.",
    )
    byte_order: Ordering = Field(
        default="big",
        description="Byte order within registers of 32-bit values and text. little: the two "
        "bytes are swapped.",
    )
    connections: int = Field(
        default=8,
        ge=1,
        le=64,
        description="Connections at a time; a new one replaces one that is silent.",
    )
    requests_per_s: int = Field(
        default=1000,
        ge=10,
        le=100_000,
        description="Requests per second of one connection; faster ones have to wait.",
    )

    @field_validator("host")
    @classmethod
    def _address(cls, host: str | None) -> str | None:
        return None if host is None else str(ip_address(host))  # its ValueError says what is wrong

    @model_validator(mode="after")
    def _one_of_two_sides(self) -> Self:
        if (self.host is None) == (self.plc is None):
            raise ValueError(
                "give either host, an address of this PC that the PLC connects to, or plc, a PLC "
                "that the station connects to"
            )
        return self

    @property
    def where(self) -> str:
        """Where the registers are."""
        return (
            f"{self.host}:{self.port}" if self.plc is None else f"{self.plc.host}:{self.plc.port}"
        )
