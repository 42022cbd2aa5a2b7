"""What `--set brightness` brings where the light of the line changes.

``python -m tests.bench.brightness DATA WEIGHTS [SIZE]`` fits PatchCore without and with it, and
inspects the test images as they are, 15 % darker and 15 % brighter.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from edge.imaging.frame import Frame
from edge.inspection.decision import Result
from edge.inspection.inspector import Inspector
from training.checkpoint import Checkpoint
from training.config import FitConfig
from training.data.loading import read_sample
from training.data.open_data_set import open_splits
from training.data.samples import Sample
from training.evaluation import TorchPredictor
from training.fit_pipeline import fit_checkpoint
from training.metrics.scores import auroc

GAINS = (0.85, 1.0, 1.15)
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class LightResult:
    """What a model makes of the test images in one light."""

    gain: float
    image_auroc: float
    good_rejected: float
    defective_passed: float


def light_results(checkpoint: Checkpoint, test: tuple[Sample, ...]) -> list[LightResult]:
    """Inspect test images in every light, as the line does."""
    description = checkpoint.description
    predictor = TorchPredictor(checkpoint.model, description.input, CPU)
    inspector = Inspector(predictor, description)
    labels = np.array([sample.is_defective for sample in test])
    found = []
    for gain in GAINS:
        scores, rejected = [], []
        for sample in test:
            pixels = cv2.convertScaleAbs(read_sample(sample), alpha=gain)
            inspection = inspector.inspect(
                Frame(
                    pixels=pixels,
                    number=0,
                    captured_ns=time.monotonic_ns(),
                    captured_utc_ns=time.time_ns(),
                )
            )
            assert inspection.score is not None
            scores.append(inspection.score)
            rejected.append(inspection.decision.result is Result.NOK)
        nok = np.array(rejected)
        area = auroc(np.array(scores), labels)
        assert area is not None
        found.append(
            LightResult(gain, area, float(nok[~labels].mean()), float(1 - nok[labels].mean()))
        )
    return found


def main(data: str, weights: str, image_size: str = "256") -> None:
    test = open_splits(Path(data)).test
    for brightness in (0.0, 0.2):
        config = FitConfig.model_validate(
            {
                "data": data,
                "weights": weights,
                "image_size": image_size,
                "hyperparameters": {"brightness": brightness},
                "check_good": False,
            }
        )
        begun = time.perf_counter()
        checkpoint = fit_checkpoint(config)
        print(f"brightness={brightness:g}: fit {time.perf_counter() - begun:.0f} s")
        for one in light_results(checkpoint, test):
            print(
                f"  light × {one.gain:g}: image AUROC {one.image_auroc:.4f}, good parts rejected "
                f"{one.good_rejected:.1%}, defective ones passed {one.defective_passed:.1%}",
                flush=True,
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
