"""Where an unfinished training is kept, and what it belongs to."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.bundle.input_spec import InputSpec
from training.code_version import code_version
from training.data.content import content_hashes, fingerprint
from training.data.samples import Sample
from training.data.settings import DataSettings

# The state is written at the end of an epoch, and not more often than this.
_BETWEEN_STATES_S = 30.0


@dataclass(frozen=True, slots=True)
class StateFile:
    """Where an unfinished training is kept, so that it can go on after a kill.

    Attributes:
        path: of the file; loading it runs no code.
        identity: what else decides the result than the model and its settings; another one starts
            anew.
        between_s: seconds between two writings at least.
    """

    path: Path
    identity: str
    between_s: float = _BETWEEN_STATES_S


def training_identity(
    data: DataSettings,
    fit: Sequence[Sample],
    stopping: Sequence[Sample],
    spec: InputSpec,
    *,
    model: type,
    defective: Sequence[Sample] = (),
) -> str:
    """Return a digest of what a training's result depends on beside the model and its settings.

    Args:
        fit, stopping: images to learn from and to stop by, in their order.
        spec: of the input.
        model: its class, for the version of its code.
        defective: images to learn from and to stop by, with their masks.
    """
    contents = content_hashes([*fit, *stopping, *defective])
    lines = [code_version(model), spec.model_dump_json(), json.dumps(data.transforms)]
    lines.append(fingerprint(defective))  # knows their masks
    for samples in (fit, stopping, defective):
        lines.append(str(len(samples)))
        # The name is a seed of random transforms.
        lines += [
            f"{contents[s].hex()} {s.identity} {s.view.number if s.view else ''}" for s in samples
        ]
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
