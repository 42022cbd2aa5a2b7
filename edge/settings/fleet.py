"""What a site sets about releases that this station takes."""

from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field

from edge.section import Section

SCHEMES = ("https://", "http://", "s3://")


def _address(text: str) -> str:
    scheme, marked, rest = text.partition("://")
    if marked:
        if f"{scheme}://" not in SCHEMES or not rest.strip("/"):
            raise ValueError("is a folder, https://HOST/…, http://HOST/… or s3://BUCKET/…")
        if "@" in rest.partition("/")[0]:
            raise ValueError("must not contain a password; pass it in the service's environment")
    elif not PurePosixPath(text).is_absolute():
        raise ValueError("must be an absolute path, as in releases: /srv/releases")
    return text.rstrip("/") or "/"


Address = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_address)]


class FleetSettings(Section):
    """Releases of a plant (docs/plant.md); needs mqtt and recipes."""

    addresses: tuple[Address, ...] = Field(
        strict=False,
        min_length=1,
        max_length=20,
        description="Folders and URLs from which releases may be fetched.",
        examples=[["/srv/releases", "https://releases.plant.example/edge"]],
    )
    public_key: str = Field(
        min_length=1,
        description="PEM file of an ed25519 public key; releases not signed with its private "
        "key are refused.",
        examples=["release.pub.pem"],
    )
    max_mb: int = Field(
        default=2048,
        ge=1,
        le=16_384,
        description="Largest size of a release; a larger one is not fetched.",
    )
    fetch_s: float = Field(
        default=600.0, gt=0, le=86_400, description="Time limit for fetching a release."
    )
