"""What a broker takes: announced in its CONNACK, or shown by how earlier connections ended.

The rule for a message that is larger than the broker takes: it is sent shortened where the
contract has a shorter form (meta, state, metrics; a verdict as its schema says), else it is left
out; a verdict or event then is a dead letter and stays in the journal. The others go on.
"""

from dataclasses import dataclass, field

from paho.mqtt.properties import Properties

MAX_IN_FLIGHT = 65_535  # MQTT's own limit, where the broker names none


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerLimits:
    """What a broker announced.

    Attributes:
        max_packet_bytes: None where it does not say.
        receive_maximum: messages at QoS 1 that it takes before it acknowledges one.
        maximum_qos: 0 acknowledges nothing.
        retain_available: it keeps messages for those who come later.
        wildcards_available: it takes subscriptions with ``+``.
    """

    max_packet_bytes: int | None = None
    receive_maximum: int = MAX_IN_FLIGHT
    maximum_qos: int = 2
    retain_available: bool = True
    wildcards_available: bool = True


@dataclass(slots=True, kw_only=True)
class LearnedLimits:
    """What connections to a broker taught; the next one begins with it.

    Attributes:
        will_qos, will_retain: with which the broker takes a will.
        wildcards_available: as announced by ``BrokerLimits``.
        max_bytes: by topic; a larger packet ended a connection.
        echo_hang_ups: connections that ended when the station asked for its own verdicts.
    """

    will_qos: int = 1
    will_retain: bool = True
    wildcards_available: bool = True
    max_bytes: dict[str, int] = field(default_factory=dict)
    echo_hang_ups: int = 0


def announced_limits(properties: Properties | None) -> BrokerLimits:
    """Read the limits of a CONNACK; None is one of MQTT 3.1.1, which announces nothing."""
    return BrokerLimits(
        max_packet_bytes=getattr(properties, "MaximumPacketSize", None),
        receive_maximum=getattr(properties, "ReceiveMaximum", MAX_IN_FLIGHT),
        maximum_qos=getattr(properties, "MaximumQoS", 2),
        retain_available=bool(getattr(properties, "RetainAvailable", True)),
        wildcards_available=bool(getattr(properties, "WildcardSubscriptionAvailable", True)),
    )
