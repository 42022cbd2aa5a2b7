"""What a site sets about the station's place in Sparkplug B."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from edge.section import Section

RESERVED = "+/#"
# The level at which hosts publish their state; a group of this name would be taken for it.
STATE = "STATE"
MAX_ID_LENGTH = 100


def _id(text: str) -> str:
    """Refuse what cannot be a level of a topic.

    Source: Sparkplug 3.0, tck-id-topic-structure-namespace-valid-group-id and its like.
    """
    found = sorted({character for character in text if character in RESERVED})
    if found:
        raise ValueError(f"must not hold {' '.join(found)}: it is one level of a topic")
    if not text.isprintable() or text != text.strip():
        raise ValueError("must be printable, without blanks at its ends")
    return text


def _group(text: str) -> str:
    if text == STATE:
        raise ValueError("is where hosts publish their state. Choose another name")
    return _id(text)


SparkplugId = Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH), AfterValidator(_id)]
GroupId = Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH), AfterValidator(_group)]


class SparkplugSettings(Section):
    """This station as an edge node of Sparkplug B, beside its own topics."""

    group: GroupId = Field(description="Group id, without + / #.", examples=["plant1"])
    node: SparkplugId = Field(
        description="Edge node id; unique within the group.",
        examples=["line3-washer"],
    )
    device: SparkplugId | None = Field(
        default=None,
        description="Device id of the camera; left out: CAMERA of mqtt.station.",
        examples=["cam1"],
    )
    aliases: bool = Field(
        default=False,
        description="Use numeric aliases for metrics after the birth message, for shorter "
        "messages.",
    )
    primary_host: SparkplugId | None = Field(
        default=None,
        description="Id of the primary host; verdicts wait in the journal until its STATE is "
        "online.",
        examples=["scada"],
    )
    username: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "Account of the node's own connection, for brokers that bind client ids to "
            "accounts; left out: that of the station."
        ),
        examples=["line3-washer"],
    )
    password_file: str | None = Field(
        default=None,
        description="Password of that account.",
        examples=["/etc/edge/sparkplug.password"],
    )
    certificate_file: str | None = Field(
        default=None,
        description="Client certificate of the node, if it has one of its own.",
        examples=["/etc/edge/sparkplug.pem"],
    )
    key_file: str | None = Field(
        default=None,
        description="Private key of that certificate.",
        examples=["/etc/edge/sparkplug.key"],
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file needs a username")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file need each other")
        return self
