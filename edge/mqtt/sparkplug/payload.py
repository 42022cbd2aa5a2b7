"""Sparkplug B payloads: what a metric is, and how messages become bytes and back.

The schema is given to protobuf's library field by field (Sparkplug 3.0, 6.4.1), in a pool of its
own: no generated file ties a version of the library, and another program's copy of the schema in
the same process is not disturbed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any

from edge.errors import ConfigurationError

Value = bool | int | float | str | None

_OPTIONAL, _REPEATED = 1, 3  # labels of descriptor.proto
_DOUBLE, _FLOAT, _UINT64, _UINT32, _BOOL, _STRING, _MESSAGE = 1, 2, 4, 13, 8, 9, 11
_PACKAGE = "edge.sparkplug"
_METRIC_FIELDS = (
    ("name", 1, _STRING),
    ("alias", 2, _UINT64),
    ("timestamp", 3, _UINT64),
    ("datatype", 4, _UINT32),
    ("is_historical", 5, _BOOL),
    ("is_null", 7, _BOOL),
)
_VALUE_FIELDS = (
    ("int_value", 10, _UINT32),
    ("long_value", 11, _UINT64),
    ("float_value", 12, _FLOAT),
    ("double_value", 13, _DOUBLE),
    ("boolean_value", 14, _BOOL),
    ("string_value", 15, _STRING),
)


class SparkplugNotInstalled(ConfigurationError):
    """The library that reads and writes Sparkplug payloads is not installed."""


class PayloadInvalid(ValueError):
    """Bytes are no Sparkplug payload."""


class DataType(IntEnum):
    """Types of metrics that a station has (Sparkplug 3.0, 6.4.16)."""

    INT32 = 3
    INT64 = 4
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12


_FIELD_OF = {
    DataType.INT32: "int_value",
    DataType.INT64: "long_value",
    DataType.DOUBLE: "double_value",
    DataType.BOOLEAN: "boolean_value",
    DataType.STRING: "string_value",
}
_BITS = {DataType.INT32: 32, DataType.INT64: 64}


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One value with its name.

    Attributes:
        name: None where the alias stands for it.
        datatype: None in data, where the birth has said it.
        value: None is null.
        timestamp_ms: UTC, when the value was acquired; None in a death.
        historical: the value is not the current one.
    """

    name: str | None
    datatype: DataType
    value: Value
    timestamp_ms: int | None
    alias: int | None = None
    historical: bool = False


@dataclass(frozen=True, slots=True)
class ReceivedMetric:
    """A metric of a message from elsewhere; None for what it does not hold."""

    name: str | None
    alias: int | None
    value: Value


def encode(
    metrics: Iterable[Metric], timestamp_ms: int, seq: int | None, *, datatypes: bool
) -> bytes:
    """Return the bytes of a payload.

    Args:
        timestamp_ms: UTC, of the sending.
        seq: 0 to 255; None for a death of the node, which has none.
        datatypes: whether each metric names its type: births and deaths do, data does not.
    """
    payload = payload_class()()
    payload.timestamp = timestamp_ms
    if seq is not None:
        payload.seq = seq
    for metric in metrics:
        _fill(payload.metrics.add(), metric, datatypes)
    return payload.SerializeToString()


def decode(content: bytes) -> list[ReceivedMetric]:
    """Return the metrics of a payload.

    Raises:
        PayloadInvalid: it is none.
    """
    # protobuf: an edge node alone needs it
    from google.protobuf.message import DecodeError

    payload = payload_class()()
    try:
        payload.ParseFromString(content)
    except DecodeError as error:
        raise PayloadInvalid(str(error)) from error
    return [_received(metric) for metric in payload.metrics]


@cache
def payload_class() -> Any:
    """Return the class of payloads.

    Raises:
        SparkplugNotInstalled: protobuf is missing.
    """
    try:
        # protobuf: an edge node alone needs it
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError as error:
        raise SparkplugNotInstalled(
            "mqtt.sparkplug needs protobuf, which is not installed. Install the extra: "
            "pip install 'inspection-station[sparkplug]'"
        ) from error
    file = descriptor_pb2.FileDescriptorProto(
        name="edge_sparkplug.proto", package=_PACKAGE, syntax="proto2"
    )
    payload = file.message_type.add(name="Payload")
    metric = payload.nested_type.add(name="Metric")
    metric.oneof_decl.add(name="value")
    for name, number, kind in _METRIC_FIELDS:
        metric.field.add(name=name, number=number, type=kind, label=_OPTIONAL)
    for name, number, kind in _VALUE_FIELDS:
        metric.field.add(name=name, number=number, type=kind, label=_OPTIONAL, oneof_index=0)
    payload.field.add(name="timestamp", number=1, type=_UINT64, label=_OPTIONAL)
    payload.field.add(
        name="metrics",
        number=2,
        type=_MESSAGE,
        label=_REPEATED,
        type_name=f".{_PACKAGE}.Payload.Metric",
    )
    payload.field.add(name="seq", number=3, type=_UINT64, label=_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Payload"))


def _fill(message: Any, metric: Metric, datatypes: bool) -> None:
    if metric.name is not None:
        message.name = metric.name
    if metric.alias is not None:
        message.alias = metric.alias
    if metric.timestamp_ms is not None:
        message.timestamp = metric.timestamp_ms
    if datatypes:
        message.datatype = int(metric.datatype)
    if metric.historical:
        message.is_historical = True
    value = metric.value
    if value is None:
        message.is_null = True
        return
    bits = _BITS.get(metric.datatype)
    if bits is not None:
        value = int(value) & ((1 << bits) - 1)  # two's complement, as the fields are unsigned
    setattr(message, _FIELD_OF[metric.datatype], value)


def _received(message: Any) -> ReceivedMetric:
    field = message.WhichOneof("value")
    return ReceivedMetric(
        name=message.name if message.HasField("name") else None,
        alias=message.alias if message.HasField("alias") else None,
        value=None if field is None else getattr(message, field),
    )
