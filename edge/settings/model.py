"""Which model a station runs, and on what."""

from typing import Literal

from pydantic import Field, field_validator

from edge.section import Section


class ModelSettings(Section):
    "Which model bundle runs, and on what."

    path: str = Field(
        min_length=1, description="Path of the bundle's .xml.", examples=["demo/bottle.xml"]
    )
    device: str = Field(default="CPU", min_length=1, max_length=100, description="OpenVINO device.")
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
