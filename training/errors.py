"""The errors a user of training and export can meet."""

from edge.errors import ConfigurationError, StationError


class DataError(ConfigurationError):
    """The images are missing, too few or not laid out as the data set needs them."""


class WeightsError(ConfigurationError):
    """The backbone's weights are missing or do not fit."""


class SettingError(ConfigurationError):
    """A setting names something that does not exist; the message lists what does."""


class CheckpointError(ConfigurationError):
    """A checkpoint is missing, damaged or of another version."""


class CalibrationError(StationError):
    """The validation scores give no usable threshold."""


class TrainingDiverged(StationError):
    """A loss is not finite any more; the message names the setting to lower."""


class TrialFailed(StationError):
    """A fit of a study failed; the message is that of the fit."""


class OutOfMemory(StationError):
    """The fit needs more memory than there is; the message names the setting to lower."""
