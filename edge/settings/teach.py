"""What a site sets about teaching products at the page."""

from pydantic import Field

from edge.section import Section


class TeachSettings(Section):
    """New products taught at the page, and recipes made better by what people marked."""

    teacher: str = Field(
        min_length=1,
        description="The .xml of a teacher that export-model --teacher made.",
        examples=["/var/lib/edge/teacher.xml"],
    )
    threads: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Cores that a build takes; it makes way for the line.",
    )
    views: bool = Field(
        default=False,
        description=(
            "Up to 8 images may be learned turned, flipped and shifted: where parts may lie in any "
            "way."
        ),
    )
    key: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "PEM file of an ed25519 private key without password, which signs what is taught; "
            "needed where model.public_key is set."
        ),
        examples=["/etc/edge/teach.pem"],
    )
