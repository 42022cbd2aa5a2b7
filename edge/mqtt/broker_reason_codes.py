"""What a broker means by its reason codes, and TLS by its errors: each with cause and next step.

One table for station, listener and doctor. Sources: MQTT 5.0 (OASIS, 2019), section 2.4 and the
tables of CONNACK, PUBACK, SUBACK and DISCONNECT; MQTT 3.1.1, table 3.1; X.509 results of OpenSSL
(``verify(1)``).
"""

import re
import ssl
from dataclasses import dataclass
from enum import StrEnum

from paho.mqtt.reasoncodes import ReasonCode

NO_MATCHING_SUBSCRIBERS = 0x10
UNSPECIFIED = 0x80
IMPLEMENTATION_SPECIFIC = 0x83
UNSUPPORTED_VERSION = 0x84
SESSION_TAKEN_OVER = 0x8E
PACKET_TOO_LARGE = 0x95
PAYLOAD_FORMAT_INVALID = 0x99
RETAIN_NOT_SUPPORTED = 0x9A
QOS_NOT_SUPPORTED = 0x9B
WILDCARDS_NOT_SUPPORTED = 0xA2


class Packet(StrEnum):
    """The packet of the broker in which a code stands."""

    CONNACK = "CONNACK"
    PUBACK = "PUBACK"
    SUBACK = "SUBACK"
    DISCONNECT = "DISCONNECT"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a code or an error says: its name, the cause in a sentence, the next step in another."""

    name: str
    cause: str
    next_step: str

    def __str__(self) -> str:
        return f"{self.name}: {self.cause}. {self.next_step}."


_LOG = "See the broker's log for the cause"
_RIGHTS = "Give this user the right in the broker's access rules"
_LOGIN = (
    "Check mqtt.username and mqtt.password_file (edge-listen: --username, --password-file), and "
    "that the broker knows both"
)
_LIMITS = "Raise the limit in the broker's settings, or send less to it"
_DEFECT = "One side violates the protocol: keep the broker's log and report it"
_WAIT = "Nothing needs to be done here unless it lasts; then check the broker"
_NAME = "Change mqtt.station, or --client-id of edge-listen, of one of them"
_ADDRESS = "Put the address of the new server into mqtt.url"

MEANINGS: dict[int, Meaning] = {
    0x80: Meaning("unspecified error", "the broker gives no cause", _LOG),
    0x81: Meaning("malformed packet", "the broker could not read a packet", _DEFECT),
    0x82: Meaning("protocol error", "the broker did not expect this packet", _DEFECT),
    0x83: Meaning("implementation specific error", "a rule of the broker forbids it", _LOG),
    0x84: Meaning(
        "unsupported protocol version",
        "the broker speaks neither MQTT 5 nor 3.1.1",
        "Use a broker that speaks MQTT 5",
    ),
    0x85: Meaning(
        "client identifier not valid",
        "the broker does not accept this client's id",
        "Allow the id in the broker's settings, or choose another mqtt.station (edge-listen: "
        "--client-id)",
    ),
    0x86: Meaning("bad user name or password", "the broker does not know this login", _LOGIN),
    0x87: Meaning("not authorized", "the access rules do not let this user do it", _RIGHTS),
    0x88: Meaning("server unavailable", "the broker is not available at present", _WAIT),
    0x89: Meaning("server busy", "the broker is overloaded", _WAIT),
    0x8A: Meaning(
        "banned",
        "the broker's administrator shut this client out",
        "Ask for the reason, and have the ban lifted",
    ),
    0x8B: Meaning("server shutting down", "the broker is being stopped or restarted", _WAIT),
    0x8C: Meaning(
        "bad authentication method",
        "the broker requires another kind of login than password or certificate",
        "Allow user name and password, or certificates, for this client at the broker",
    ),
    0x8D: Meaning(
        "keep alive timeout",
        "the broker received nothing from this client for too long",
        "Look for packet loss in the network or an overloaded PC",
    ),
    0x8E: Meaning("session taken over", "another client connected with the same id", _NAME),
    0x8F: Meaning(
        "topic filter invalid",
        "the broker does not accept the subscription's pattern",
        "Allow topics below vi/v1/ in the broker's settings",
    ),
    0x90: Meaning(
        "topic name invalid",
        "the broker does not accept topics of this form",
        "Allow topics below vi/v1/ in the broker's settings",
    ),
    0x91: Meaning("packet identifier in use", "both sides count messages differently", _DEFECT),
    0x93: Meaning(
        "receive maximum exceeded",
        "more messages wait for acknowledgement than the broker allows",
        _DEFECT,
    ),
    0x94: Meaning("topic alias invalid", "an alias was used that was never agreed", _DEFECT),
    0x95: Meaning(
        "packet too large",
        "a packet is larger than the broker accepts",
        "Raise the broker's limit on the size of packets (mosquitto: max_packet_size)",
    ),
    0x96: Meaning("message rate too high", "more messages a second than allowed", _LIMITS),
    0x97: Meaning("quota exceeded", "a limit on number or size is used up", _LIMITS),
    0x98: Meaning(
        "administrative action",
        "the broker's administrator ended the connection",
        "Ask the administrator for the reason",
    ),
    0x99: Meaning(
        "payload format invalid",
        "the broker checks contents, and this one violates its rule",
        "Compare the broker's rule or schema with the schemas of this contract",
    ),
    0x9A: Meaning(
        "retain not supported",
        "the broker keeps no messages for later subscribers",
        "Switch retained messages on in the broker's settings (mosquitto: retain_available)",
    ),
    0x9B: Meaning(
        "QoS not supported",
        "the broker acknowledges no messages",
        "Allow QoS 1 in the broker's settings (mosquitto: max_qos)",
    ),
    0x9C: Meaning("use another server", "the broker sends its clients elsewhere", _ADDRESS),
    0x9D: Meaning("server moved", "the broker has another address for good", _ADDRESS),
    0x9E: Meaning("shared subscriptions not supported", "one was asked for", _DEFECT),
    0x9F: Meaning("connection rate exceeded", "clients connect too often", _WAIT),
    0xA0: Meaning("maximum connect time", "the broker ends connections after a time", _WAIT),
    0xA1: Meaning("subscription identifiers not supported", "one was sent", _DEFECT),
    0xA2: Meaning(
        "wildcard subscriptions not supported",
        "the broker accepts no pattern with + or #",
        "Allow wildcards in the broker's settings; edge-listen needs them unless --station names "
        "one station",
    ),
}

_IN_PACKET: dict[tuple[Packet, int], Meaning] = {
    (Packet.CONNACK, 0x87): Meaning(
        "not authorized",
        "the broker does not accept this client, or not with this will message",
        f"{_LOGIN}, and that its access rules let this user write below its own topic",
    ),
    (Packet.CONNACK, 0x97): Meaning(
        "quota exceeded", "the broker has reached its limit of clients", _LIMITS
    ),
    (Packet.CONNACK, 0x95): Meaning(
        "packet too large",
        "the CONNECT with the will message is larger than the broker accepts",
        MEANINGS[0x95].next_step,
    ),
    (Packet.DISCONNECT, 0x00): Meaning(
        "normal disconnection", "the broker ended the connection without giving a cause", _LOG
    ),
    (Packet.DISCONNECT, 0x87): Meaning(
        "not authorized",
        "the broker ended the connection because this user may not do that",
        _RIGHTS,
    ),
}

_CLOCKS = "Set the clocks of this PC and of the broker correctly"
_CA = "Put the certificate that signed the broker's into mqtt.ca_file"
_OWN = "Give this client a certificate that the broker trusts: mqtt.certificate_file, mqtt.key_file"
_TLS = "Allow TLS 1.2 or newer at the broker"

# By OpenSSL's number of what it found wrong with the broker's certificate.
_VERIFICATION: dict[int, Meaning] = {
    9: Meaning("not yet valid", "the broker's certificate is not valid yet", _CLOCKS),
    10: Meaning("expired", "the broker's certificate has expired", "Renew it at the broker"),
    18: Meaning("self-signed", "the broker's certificate is self-signed", _CA),
    19: Meaning("untrusted authority", "this PC does not trust its issuer", _CA),
    20: Meaning("untrusted authority", "this PC does not know its issuer", _CA),
    21: Meaning("untrusted authority", "the broker does not send the issuer's certificate", _CA),
    23: Meaning("revoked", "the broker's certificate was revoked", "Renew it at the broker"),
    62: Meaning(
        "other host",
        "the broker's certificate is issued to another name",
        "Write the name of the certificate into mqtt.url, or have one made for this name",
    ),
    64: Meaning(
        "other host",
        "the broker's certificate is not issued to this address",
        "Write the name of the certificate into mqtt.url, or have one made for this address",
    ),
}

_NO_TLS = Meaning(
    "no TLS there",
    "what answers on this port does not speak TLS",
    "Check the port (8883 is usual), or write mqtt:// where the network is safe",
)

# By a part of OpenSSL's reason, where the certificate of the broker is not what is wrong.
_TLS_REASONS: tuple[tuple[str, Meaning], ...] = (
    ("WRONG_VERSION_NUMBER", _NO_TLS),
    ("UNEXPECTED_EOF", _NO_TLS),
    ("CERTIFICATE_REQUIRED", Meaning("certificate required", "the broker asks for one", _OWN)),
    ("HANDSHAKE_FAILURE", Meaning("handshake failure", "the broker refuses this client", _OWN)),
    ("CERTIFICATE_EXPIRED", Meaning("expired", "this client's certificate has expired", _OWN)),
    ("UNKNOWN_CA", Meaning("untrusted", "the broker does not trust this client's", _OWN)),
    ("BAD_CERTIFICATE", Meaning("bad certificate", "the broker refuses this client's", _OWN)),
    ("CERTIFICATE", Meaning("bad certificate", "the broker refuses this client's", _OWN)),
    ("PROTOCOL", Meaning("too old", "both sides support no common TLS version", _TLS)),
)


_TLS_REASON = re.compile(r"\[SSL: (\w+)\]")


def find_meaning(code: int, packet: Packet) -> Meaning:
    """Return what a broker's code means in this packet."""
    unknown = Meaning(f"code 0x{code:02X}", "MQTT does not know this code", _LOG)
    return _IN_PACKET.get((packet, code), MEANINGS.get(code, unknown))


def describe_code(reason: ReasonCode | int, packet: Packet) -> str:
    """Return code, cause and next step for people."""
    code = reason if isinstance(reason, int) else reason.value
    meaning = find_meaning(code, packet)
    return f"{packet} 0x{code:02X}, {meaning}"


def tls_meaning(error: ssl.SSLError) -> Meaning:
    """Return what an error of TLS means."""
    if isinstance(error, ssl.SSLCertVerificationError):
        found = f"the broker's certificate is not accepted ({error.verify_message})"
        other = Meaning("not accepted", found, _CA)
        return _VERIFICATION.get(error.verify_code, other)
    return tls_alert_meaning(error.reason or str(error))


def tls_alert_meaning(reason: str) -> Meaning:
    """Return what OpenSSL's reason, such as ``TLSV1_ALERT_UNKNOWN_CA``, means."""
    for part, meaning in _TLS_REASONS:
        if part in reason:
            return meaning
    next_step = "Check mqtt.ca_file and mqtt.certificate_file, and see the broker's log"
    return Meaning("TLS", f"the connection could not be secured ({reason})", next_step)


def tls_alert_in(logged: str) -> str:
    """Return OpenSSL's reason in what paho logs of a failed read, or an empty text.

    With TLS 1.3 a broker refuses our certificate after the handshake; paho only logs it.
    """
    found = _TLS_REASON.search(logged)
    return found.group(1) if found else ""
