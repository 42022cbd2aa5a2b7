"""Training as a library: a data set, a model with a backbone, fit, test."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from edge.bundle.training_record import SplitMetrics
from edge.validation import in_words
from training.calibrated_fit import fitted, rests_on_test
from training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.config import load_fit_config
from training.data.open_data_set import open_judging
from training.data.settings import DataSettings
from training.errors import SettingError
from training.evaluation import TorchPredictor, score_samples, split_metrics
from training.fit_pipeline import find_device
from training.seen_images import Role, phrase

log = logging.getLogger(__name__)


def data_set(path: str | Path, **settings: Any) -> DataSettings:
    """Name a data set: a folder with ``good`` images, or one of the known layouts.

    Args:
        path: its folder.
        settings: ``layout``, ``category`` and the other fields of ``DataSettings``.

    Raises:
        SettingError: a setting is unknown or out of range.
    """
    try:
        return DataSettings(path=Path(path), **settings)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise SettingError(
            f"data_set: {key} {in_words(fault)}. There are: {', '.join(DataSettings.model_fields)}."
        ) from error


@dataclass(frozen=True, slots=True)
class FittedModel:
    """A fitted and calibrated model."""

    checkpoint: Checkpoint

    def test(self, data: DataSettings, device: str = "cpu") -> SplitMetrics:
        """Return the figures on the test images of a data set.

        Images that the model was fitted or calibrated on are left out, and a warning names them.

        Raises:
            DataError: there are no test images, or one cannot be used; names it.
        """
        description = self.checkpoint.description
        on_test = rests_on_test(self.checkpoint)
        roles = [role for role in Role if role is not Role.CALIBRATED or not on_test]
        opened = open_judging(data, description.seed, self.checkpoint.seen, roles)
        if opened.left_out:
            log.warning("%s: left out %s", opened.name, phrase(opened.left_out))
        predictor = TorchPredictor(self.checkpoint.model, description.input, find_device(device))
        scored = score_samples(predictor, opened.samples, description.input, "test")
        return split_metrics(scored, description.input)

    def save(self, path: str | Path) -> None:
        """Write the checkpoint.

        Raises:
            OutputNotWritable: folder or disk refused it.
        """
        save_checkpoint(Path(path), self.checkpoint)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a checkpoint; no code in it is run.

        Raises:
            CheckpointError: the file is missing, damaged or of another version.
        """
        return cls(load_checkpoint(Path(path)))


@dataclass(frozen=True, slots=True)
class Model:
    """An algorithm with a backbone, not fitted yet.

    Attributes:
        algorithm: ``patchcore``, ``padim`` or another that ``train-station fit --help`` lists.
        backbone: the network that gives the features.
        settings: every other key of a fit, as in its YAML: ``image_size``, ``weights``,
            ``threshold``, ``seed``, ``device``, ``hyperparameters``.
    """

    algorithm: str = "patchcore"
    backbone: str = "resnet18"
    settings: dict[str, Any] = field(default_factory=dict)

    def fit(self, data: DataSettings) -> FittedModel:
        """Fit to the good images of a data set, and calibrate the threshold.

        Raises:
            SettingError: a setting is unknown or out of range.
            DataError: an image cannot be used; names it.
            WeightsError: the weights of the backbone are not there.
        """
        chosen = {"algorithm": self.algorithm, "backbone": self.backbone, **self.settings}
        config = load_fit_config(None, {**chosen, "data": [str(data.path)]})
        return FittedModel(fitted(config.model_copy(update={"data": data})))
