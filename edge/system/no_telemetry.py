"""The telemetry of the libraries we use, switched off before any of them is loaded.

The network is for what the settings name: cameras, the broker, the page. ``edge/__init__`` calls
``switch_off_telemetry``, so every command, and every program that imports one of our packages,
has done it before OpenVINO, NNCF, ONNX Runtime or torch come in. Child processes inherit the
environment, and do the rest as they import us.
"""

import os
import sys

# Not to be imported, as if it were not installed. OpenVINO and NNCF go without it; its own switches
# are a file in the user's home and a variable that tells everybody else that this is a CI job.
HALTED_MODULES = ("openvino_telemetry",)

ENVIRONMENT = {
    # ONNX Runtime: no uploader, no event, and no device id in the user's cache.
    "ORT_DISABLE_TELEMETRY": "1",
    # Weights & Biases sends reports of its own errors, offline runs included.
    "WANDB_ERROR_REPORTING": "false",
    # What Hugging Face's libraries and others look at: timm brings the client of its hub, which we
    # ask for nothing but the names of files. ``--weights download`` goes without it.
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
}


def switch_off_telemetry() -> None:
    """Switch everything off for this process and its children."""
    os.environ.update(ENVIRONMENT)
    for module in HALTED_MODULES:
        # What was loaded before us is left as it is; ``telemetry_faults`` names it.
        sys.modules.setdefault(module, None)  # type: ignore[arg-type]


def telemetry_faults() -> list[str]:
    """Return what is switched on in this process all the same."""
    faults = [f"{name} is loaded" for name in HALTED_MODULES if sys.modules.get(name) is not None]
    for name, value in ENVIRONMENT.items():
        if os.environ.get(name) != value:
            faults.append(f"{name} is {os.environ.get(name, 'not set')}")
    return faults
