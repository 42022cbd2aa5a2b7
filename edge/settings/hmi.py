"""What a site sets about the page at the station."""

import re
from ipaddress import ip_address
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from edge.section import Section

_CLOCK = re.compile(r"([01]\d|2[0-3]):(00|15|30|45)")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}")


class HmiSettings(Section):
    """The page, its numbers and its actions."""

    enabled: bool = Field(default=True, description="false: the page is not served.")
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen at. 0.0.0.0: reachable from other PCs; put a reverse "
        "proxy with TLS in front of it.",
    )
    port: int = Field(
        default=8080, ge=0, le=65535, description="Port; 0: a free one, which the log names."
    )
    token_file: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "File with the token (edge-run --make-token); whoever has it may make "
            "changes. Without token_file and user_header the page is read-only."
        ),
        examples=["/etc/edge/hmi.token"],
    )
    user_header: str | None = Field(
        default=None,
        description="HTTP header in which a reverse proxy names the user who is logged in; such "
        "a user may make changes.",
        examples=["X-Forwarded-User"],
    )
    trusted_proxies: list[str] = Field(
        default=[],
        description="Addresses of proxies whose user_header and X-Forwarded-… are trusted.",
        examples=[["192.168.1.2"]],
    )
    allowed_hosts: list[str] = Field(
        default=[],
        description="Host names under which the page may be requested, besides IP addresses and "
        "the names of this PC.",
        examples=[["cell7.plant.example"]],
    )
    public_urls: list[str] = Field(
        default=[],
        description="URL at which a reverse proxy publishes the page.",
        examples=[["https://plant.example:8443/cell7/"]],
    )
    title: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="Title of the page; left out: the name of the station.",
        examples=["Cell 7"],
    )
    language: Literal["en", "ko"] = Field(
        default="en",
        description="Language for browsers that ask for neither: en or ko. Every user may switch.",
    )
    shifts: list[str] = Field(
        default=["06:00", "14:00", "22:00"],
        min_length=1,
        max_length=12,
        description="Local times at which shifts begin, quarters of an hour, ascending.",
    )
    pictures_per_second: float = Field(
        default=5.0, gt=0, le=30, description="Highest frame rate of the live view."
    )
    picture_width_px: int = Field(
        default=1280, ge=160, le=4096, description="Wider frames are scaled down for the live view."
    )
    thumbnails: int = Field(
        default=24,
        ge=1,
        le=200,
        description="Number of rejected parts whose thumbnails are kept in memory.",
    )
    connections: int = Field(
        default=200,
        ge=10,
        le=1000,
        description="Connections at a time; more are refused. A browser opens up to six.",
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
