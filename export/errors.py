"""The errors a user of ``export-model`` can meet."""

from edge.errors import StationError


class GateFailed(StationError):
    """The exported model does not give the numbers of the checkpoint; nothing was written."""

    exit_code = 65


class ConversionFailed(StationError):
    """The network uses an operation that ONNX or OpenVINO cannot express."""

    exit_code = 65
