"""What a site sets about the registers that a PLC reads and writes."""

from ipaddress import ip_address
from typing import Literal

from pydantic import Field, field_validator

from edge.section import Section

Ordering = Literal["big", "little"]


class ModbusSettings(Section):
    """A Modbus TCP server with the hand-shake's registers."""

    host: str = Field(
        min_length=1,
        description=(
            "Address of this PC at which it listens: that of the machine's network, as Modbus asks "
            "for no password; 127.0.0.1: this PC only."
        ),
        examples=["192.168.0.10"],
    )
    port: int = Field(
        default=1502,
        ge=0,
        le=65535,
        description="502 needs a capability (docs/modbus.md); 0: a free one, which the log names.",
    )
    unit: int = Field(
        default=1, ge=1, le=247, description="It answers for this unit id, for 0 and for 255."
    )
    leads: bool = Field(
        default=True,
        description="Its master triggers and acknowledges; false: it only watches.",
    )
    master_timeout_ms: float = Field(
        default=1000.0,
        ge=50,
        le=60_000,
        description="The station is ready only while master_heartbeat changes within it.",
    )
    word_order: Ordering = Field(
        default="big", description="big: the high word of a 32-bit value first; little: the low."
    )
    byte_order: Ordering = Field(
        default="big",
        description="little: the two bytes of a register of 32-bit values and text are exchanged.",
    )
    connections: int = Field(
        default=8, ge=1, le=64, description="At a time; a new one replaces one that is silent."
    )
    requests_per_s: int = Field(
        default=1000, ge=10, le=100_000, description="Of one connection; faster ones have to wait."
    )

    @field_validator("host")
    @classmethod
    def _address(cls, host: str) -> str:
        return str(ip_address(host))  # its ValueError says what is wrong
