"""One training that several processes share, as ``torchrun`` starts them; each writes its model."""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.support.small_training import batch, unfitted
from training.gradient_fit import fit_trained, is_first_process
from training.models.trained_model import TrainedModel
from training.training_images import TrainingImages


def main() -> int:
    """Train, and write ``first.safetensors`` or ``second.safetensors`` into the folder given."""
    torch.set_num_threads(1)
    model = unfitted("supersimplenet", epochs=2, batch_size=4)
    assert isinstance(model, TrainedModel)
    images, held_out = (TrainingImages.prepared(one) for one in (batch(8), batch(2, 50)))
    fit_trained(model, images, held_out, torch.device("cpu"), seed=3)
    name = "first" if is_first_process() else "second"
    save_file(model.state_dict(), Path(sys.argv[1]) / f"{name}.safetensors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
