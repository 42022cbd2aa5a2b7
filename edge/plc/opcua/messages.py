"""Messages between a station and its OPC UA server."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from edge.contract.state import Condition
from edge.settings.opcua import OpcUaSettings


class OpcUaContent(BaseModel):
    """Content of a message: frozen, and without keys of another version."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# From the station.


class OpcUaHello(OpcUaContent):
    """The first message: what the server's process serves.

    Attributes:
        journal: path of its database.
    """

    type: Literal["hello"] = "hello"
    settings: OpcUaSettings
    station: str
    journal: str


class RowsCommitted(OpcUaContent):
    """There are new rows in the journal."""

    type: Literal["rows"] = "rows"


class OfferedRecipe(OpcUaContent):
    """A version of a recipe; 0 is the only one there is."""

    id: str
    version: int | str


class StationChanged(OpcUaContent):
    """What the station is at now.

    Attributes:
        recipe: parts without one of their own are inspected for it.
        offered: recipes in force; None: the station has one model.
        triggered: parts come with triggers, else with the camera's own clock.
    """

    type: Literal["station"] = "station"
    condition: Condition
    reasons: tuple[str, ...]
    recipe: OfferedRecipe | None
    offered: tuple[OfferedRecipe, ...] | None
    triggered: bool


OpcUaStationMessage = Annotated[
    OpcUaHello | RowsCommitted | StationChanged, Field(discriminator="type")
]

# From the server.


class OpcUaReport(OpcUaContent):
    """A sign of life.

    Attributes:
        serving: clients can connect.
        connections: open now.
        events: verdicts of this process that had their event, and ``skipped`` those without.
    """

    type: Literal["report"] = "report"
    serving: bool
    connections: int
    events: int
    skipped: int


class RecipeAsked(OpcUaContent):
    """A client wants the station to change over to a recipe."""

    type: Literal["recipe"] = "recipe"
    recipe: OfferedRecipe
    user: str


OpcUaMessage = Annotated[OpcUaReport | RecipeAsked, Field(discriminator="type")]

OPCUA_STATION_MESSAGES: TypeAdapter[OpcUaStationMessage] = TypeAdapter(OpcUaStationMessage)
OPCUA_MESSAGES: TypeAdapter[OpcUaMessage] = TypeAdapter(OpcUaMessage)
