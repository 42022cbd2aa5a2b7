"""What a site sets about the page at the station."""

import re
from ipaddress import ip_address
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from edge.section import Section

_CLOCK = re.compile(r"([01]\d|2[0-3]):(00|15|30|45)")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}")


class ShowSettings(Section):
    """A window on this PC's own screen."""

    window: bool = Field(default=True, description="Open it; edge-run --show does the same.")
    width_px: int = Field(
        default=1280, ge=160, le=4096, description="Wider frames are scaled down."
    )


class HmiSettings(Section):
    """The page, its numbers and its actions."""

    enabled: bool = Field(default=True, description="false: keeps the section and serves nothing.")
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="0.0.0.0: for other PCs, too; put a reverse proxy with TLS before it.",
    )
    port: int = Field(
        default=8080, ge=0, le=65535, description="0: a free one, which the log names."
    )
    token_file: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "Of edge-run --make-token; who has it may act. Without it, and without user_header, "
            "the page is read-only."
        ),
        examples=["/etc/edge/hmi.token"],
    )
    user_header: str | None = Field(
        default=None,
        description="In which a reverse proxy names who is logged in; such a user may act.",
        examples=["X-Forwarded-User"],
    )
    trusted_proxies: list[str] = Field(
        default=[],
        description="Addresses whose user_header and X-Forwarded-… are believed.",
        examples=[["192.168.1.2"]],
    )
    allowed_hosts: list[str] = Field(
        default=[],
        description="Names the page is called by, besides IP addresses and the names of this PC.",
        examples=[["cell7.plant.example"]],
    )
    public_urls: list[str] = Field(
        default=[],
        description="Where a reverse proxy shows the page.",
        examples=[["https://plant.example:8443/cell7/"]],
    )
    title: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="Above the page; left out: the name of the station.",
        examples=["Cell 7"],
    )
    language: Literal["en", "ko"] = Field(
        default="en",
        description="en or ko, of a browser that asks for neither; everybody may switch.",
    )
    shifts: list[str] = Field(
        default=["06:00", "14:00", "22:00"],
        min_length=1,
        max_length=12,
        description="Local times at which shifts begin, quarters of an hour, ascending.",
    )
    pictures_per_second: float = Field(
        default=5.0, gt=0, le=30, description="Of the live view, at most."
    )
    picture_width_px: int = Field(
        default=1280, ge=160, le=4096, description="Wider frames are scaled down for the live view."
    )
    thumbnails: int = Field(
        default=24, ge=1, le=200, description="Rejected parts whose small image is kept in memory."
    )
    connections: int = Field(
        default=200,
        ge=10,
        le=1000,
        description="At a time; more are turned away. A browser takes up to six.",
    )

    @field_validator("shifts")
    @classmethod
    def _times_of_day(cls, shifts: list[str]) -> list[str]:
        if not all(_CLOCK.fullmatch(shift) for shift in shifts):
            raise ValueError('must be quarters of an hour such as "06:00", in quotes')
        if shifts != sorted(set(shifts)):
            raise ValueError("must ascend, each once")
        return shifts

    @field_validator("user_header")
    @classmethod
    def _header_name(cls, name: str | None) -> str | None:
        if name is not None and not _HEADER.fullmatch(name):
            raise ValueError("must be the name of a header such as X-Forwarded-User")
        return name

    @field_validator("trusted_proxies")
    @classmethod
    def _addresses(cls, proxies: list[str]) -> list[str]:
        # As the network names them; its ValueError says what is wrong.
        return [str(ip_address(proxy)) for proxy in proxies]

    @field_validator("public_urls")
    @classmethod
    def _web_addresses(cls, urls: list[str]) -> list[str]:
        for url in urls:
            parts = urlsplit(url)
            if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
                raise ValueError(f"{url!r} must be like https://plant.example:8443/cell7/")
            _ = parts.port  # its ValueError says what is wrong
        return urls

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.user_header is not None and not self.trusted_proxies:
            raise ValueError("user_header needs trusted_proxies: the addresses that may name users")
        return self
