"""How events leave: at the node that they are of, and at the server's, where many listen."""

from datetime import datetime
from typing import Any

from asyncua import ua
from asyncua.server.event_generator import EventGenerator


async def emit(generator: EventGenerator, at: datetime, message: str) -> None:
    """Send an event, as its fields are now, to everybody who has subscribed.

    asyncua sends it to who listens at its own node alone; above it stands the object Server, which
    has the events of all (OPC 10000-3, 5.12).
    """
    event: Any = generator.event
    await generator.trigger(at, message)
    node = event.emitting_node
    event.emitting_node = ua.NodeId(ua.Int32(ua.ObjectIds.Server))
    try:
        await generator.isession.subscription_service.trigger_event(event)
    finally:
        event.emitting_node = node
