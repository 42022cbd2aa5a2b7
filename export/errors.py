"""The errors a user of ``export-model`` can meet."""

from edge.errors import ConfigurationError, StationError


class GateFailed(StationError):
    """The exported model does not give the numbers of the checkpoint; nothing was written."""

    exit_code = 65


class ConversionFailed(StationError):
    """The network uses an operation that ONNX, OpenVINO or NNCF cannot express."""

    exit_code = 65


class QuantizationRefused(StationError):
    """No way to quantize keeps the verdicts; the message names the layers to blame."""

    exit_code = 65


class CalibrationUnusable(ConfigurationError):
    """The calibration pictures are too few, or show what no good part looks like."""


class ImportRefused(ConfigurationError):
    """A model of another program is none that can become a bundle."""


class VerificationFailed(StationError):
    """A bundle gives other numbers on this PC than at its export."""

    exit_code = 65
