"""What a site sets about teaching products at the page."""

from pydantic import Field

from edge.section import Section


class TeachSettings(Section):
    """New products taught at the page, and recipes made better by what people marked."""

    teacher: str = Field(
        min_length=1,
        description="Path of a teacher's .xml, made by export-model --teacher.",
        examples=["/var/lib/edge/teacher.xml"],
    )
    threads: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Cores that a build may use, at low priority.",
    )
    views: bool = Field(
        default=False,
        description=(
            "Allow up to 8 images to be learned turned, flipped and shifted, too, for "
            "parts in any orientation."
        ),
    )
    key: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "PEM file of an ed25519 private key without password that signs what is "
            "taught; required where model.public_key is set."
        ),
        examples=["/etc/edge/teach.pem"],
    )
