"""From settings to the parts of a station: its mailbox, its rules, its hand-shake."""

from collections.abc import Callable

from edge.contract.event import Event
from edge.contract.verdict import Recipe
from edge.mqtt.publisher import MqttPublisher
from edge.settings.station import Settings
from edge.station.handshake.coordinator import HandshakeCoordinator
from edge.station.handshake.modbus_port import ModbusPort
from edge.station.handshake.mqtt_port import MqttPort
from edge.station.handshake.part import INPUTS, Input, Pairing, Rules, TriggerSource
from edge.station.handshake.ports import Port
from edge.station.handshake.state_machine import HandshakeMachine
from edge.station.outputs.control import OutputControl
from edge.station.pipeline.mailbox import EveryMailbox, LatestMailbox, Mailbox
from edge.station.pipeline.work import QueuedFrame, StationRules


def make_mailbox(settings: Settings, can_wait: bool, inspectors: int) -> Mailbox[QueuedFrame]:
    """Return what stands between camera and inspectors.

    Args:
        can_wait: the source of the images does not run away, as files do not.
    """
    policy = settings.camera.policy
    triggered = settings.camera.trigger.mode != "free_run"
    if not triggered and (policy == "latest" or (policy == "auto" and not can_wait)):
        return LatestMailbox()
    if can_wait:
        # One image for each inspector is enough; more would only wait.
        return EveryMailbox(inspectors, room_limit_s=None)
    return EveryMailbox(settings.camera.queue_depth, room_limit_s=0.0)


def make_rules(settings: Settings, can_wait: bool, max_parts: int | None) -> StationRules:
    """Return what every part is held to."""
    return StationRules(
        deadline_ms=settings.decision.deadline_ms,
        max_age_ms=None if can_wait else settings.camera.supervision.max_age_ms,
        max_parts=max_parts,
    )


def make_handshake(
    settings: Settings,
    *,
    recipe: Recipe | None,
    publisher: MqttPublisher | None,
    modbus: ModbusPort | None,
    outputs: OutputControl | None,
    expose: Callable[[], None],
    record_event: Callable[[Event], None],
) -> HandshakeCoordinator | None:
    """Return the hand-shake and its ports; None for a station that runs free.

    Args:
        recipe: the one that is live.
        publisher: of the phases; None without a broker.
        modbus: its registers; None without.
        outputs: its lines; None without.
        expose: software trigger of the camera.
    """
    pairing, trigger = _pairing(settings), settings.camera.trigger
    if pairing is None:
        return None
    rules = Rules(
        pairing=pairing,
        slots=settings.handshake.slots,
        result_hold_ms=settings.handshake.result_hold_ms,
        frame_timeout_ms=trigger.frame_timeout_ms,
        deadline_ms=settings.decision.deadline_ms,
        recipe=recipe,
        inputs=INPUTS
        | ({Input.MASTER} if led_by_modbus_master(settings) else frozenset())
        | ({Input.OUTPUTS} if outputs is not None else frozenset()),
    )
    ports: list[Port] = []
    if publisher is not None:
        ports.append(MqttPort(publisher.handshake, publisher.state_changed))
    if modbus is not None:
        ports.append(modbus)
    if outputs is not None:
        ports.append(outputs)
    return HandshakeCoordinator(
        handshake=HandshakeMachine(rules), ports=ports, expose=expose, record_event=record_event
    )


def led_by_modbus_master(settings: Settings) -> bool:
    """Tell whether triggers come from a Modbus master, without which the station is not ready."""
    return settings.leader == "modbus" and settings.camera.trigger.by_message


def trigger_source(settings: Settings) -> TriggerSource | None:
    """Return what exposes after a message; None for a station that takes none."""
    trigger = settings.camera.trigger
    if not trigger.by_message:
        return None
    return TriggerSource.SOFTWARE if trigger.mode == "software" else TriggerSource.HARDWARE


def _pairing(settings: Settings) -> Pairing | None:
    trigger = settings.camera.trigger
    if trigger.mode == "software":
        return Pairing.SOFTWARE
    if trigger.mode == "hardware":
        return Pairing.ANNOUNCED if trigger.announced else Pairing.EVERY_FRAME
    return None
