"""Whether a library phones home from this process."""

from importlib.metadata import PackageNotFoundError, version

from edge.doctor.finding import Finding, fault, good
from edge.system.no_telemetry import ENVIRONMENT, HALTED_MODULES, telemetry_faults

# Of those we use, all that are known to phone home.
_LIBRARIES = ("openvino", "nncf", "onnxruntime", "wandb")


def telemetry_finding() -> Finding:
    """Look at the switches; after the model, so that the libraries have been loaded."""
    subject = "telemetry"
    faults = telemetry_faults()
    if faults:
        return fault(
            subject,
            "; ".join(faults),
            "start the command itself: here these libraries were loaded before our packages",
        )
    installed = [f"{name} {found}" for name in _LIBRARIES if (found := _version(name))]
    switches = [f"{name} is kept out" for name in HALTED_MODULES]
    switches += [f"{name}={value}" for name, value in ENVIRONMENT.items()]
    return good(
        subject,
        f"no telemetry; checked {', '.join(installed)}: {', '.join(switches)}",
    )


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
