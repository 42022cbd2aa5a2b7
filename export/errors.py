"""The errors a user of ``export-model`` can meet."""

from edge.errors import ConfigurationError, StationError


class GateFailed(StationError):
    """The exported model does not give the numbers of the checkpoint; nothing was written."""

    exit_code = 65


class ConversionFailed(StationError):
    """The network uses an operation that ONNX, OpenVINO or NNCF cannot express."""

    exit_code = 65


class QuantizationRefused(StationError):
    """No way to quantize keeps the verdicts.

    Attributes:
        reason: what was over budget, in one sentence.
        details: for the report: the layers to blame and every way that was tried.
    """

    exit_code = 65

    def __init__(self, reason: str, details: str) -> None:
        super().__init__(
            f"INT8 would change what this model decides: {reason}. Nothing was written. Leave out "
            "--no-fallback to get an FP16 bundle instead, which is as exact as the checkpoint and "
            "slower; or judge on more images with --judge-on, quantize with more good images "
            "(--calibrate-on), or allow more with --max-auroc-drop and --max-verdict-flips."
        )
        self.reason = reason
        self.details = details


class CalibrationUnusable(ConfigurationError):
    """The calibration images are too few, or show what no good part looks like."""


class ImportRefused(ConfigurationError):
    """A model of another program is none that can become a bundle."""


class VerificationFailed(StationError):
    """A bundle gives other numbers on this PC than at its export."""

    exit_code = 65
