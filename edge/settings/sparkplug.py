"""What a site sets about the station's place in Sparkplug B."""

from typing import Annotated

from pydantic import AfterValidator, Field

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
        description="Edge node id; no two stations of a group share one.",
        examples=["line3-washer"],
    )
    device: SparkplugId | None = Field(
        default=None,
        description="Device id of the camera; left out: CAMERA of mqtt.station.",
        examples=["cam1"],
    )
    aliases: bool = Field(
        default=False,
        description="Name metrics by numbers after their birth: messages are a third as long.",
    )
    primary_host: SparkplugId | None = Field(
        default=None,
        description="Host id; verdicts wait in the journal until its STATE says it is online.",
        examples=["scada"],
    )
