"""Messages between a station and its page; images come as bytes beside their message."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from edge.hmi.actions import Actor, StationAction, StationActionResult
from edge.hmi.contents import Content, DecidedPart, ImageLayout, StationStatus
from edge.hmi.masks import MaskInForce
from edge.settings.hmi import HmiSettings

# From the station.


class Hello(Content):
    """The first message: what the page's process serves.

    Attributes:
        journal, snapshots, teaching: paths; None without.
    """

    type: Literal["hello"] = "hello"
    settings: HmiSettings
    token: str | None
    title: str
    journal: str
    snapshots: str | None
    teaching: str | None = None


class StatusChanged(Content):
    type: Literal["status"] = "status"
    status: StationStatus


class PartDecided(Content):
    """The newest part; with a layout, its image and its map come as bytes."""

    type: Literal["part"] = "part"
    part: DecidedPart
    image: ImageLayout | None


class PartRejected(Content):
    """A rejected part's small image and its map, which come as bytes."""

    type: Literal["rejected"] = "rejected"
    verdict_id: str
    image: ImageLayout


class MaskShown(Content):
    """The mask in force, whenever it is another one."""

    type: Literal["mask"] = "mask"
    mask: MaskInForce


class TokenChanged(Content):
    type: Literal["token"] = "token"
    token: str | None


class ActionDone(Content):
    type: Literal["done"] = "done"
    number: int
    result: StationActionResult


class ActionFailed(Content):
    """An action that was not carried out; ``defect`` where the software is at fault.

    Attributes:
        kind, data: as ``StationError`` has them.
    """

    type: Literal["failed"] = "failed"
    number: int
    error: str
    kind: str = ""
    data: dict[str, str | int] = Field(default_factory=dict)
    defect: bool = False


StationMessage = Annotated[
    Hello
    | StatusChanged
    | PartDecided
    | PartRejected
    | MaskShown
    | TokenChanged
    | ActionDone
    | ActionFailed,
    Field(discriminator="type"),
]

# From the page.


class Alive(Content):
    type: Literal["alive"] = "alive"


class Serving(Content):
    type: Literal["serving"] = "serving"
    address: str


class WatchedChanged(Content):
    """Somebody looks at images, or nobody does any more."""

    type: Literal["watched"] = "watched"
    watched: bool


class ActionRequested(Content):
    type: Literal["action"] = "action"
    number: int
    action: StationAction
    actor: Actor


PageMessage = Annotated[
    Alive | Serving | WatchedChanged | ActionRequested, Field(discriminator="type")
]

STATION_MESSAGES: TypeAdapter[StationMessage] = TypeAdapter(StationMessage)
PAGE_MESSAGES: TypeAdapter[PageMessage] = TypeAdapter(PageMessage)
