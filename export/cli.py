"""``export-model``: a checkpoint becomes a model bundle for ``edge-run``."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from edge.errors import ConfigurationError, StationError


def main(arguments: Sequence[str] | None = None) -> int:
    """Export one checkpoint; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="export-model",
        description="Turn a checkpoint of train-station into an OpenVINO model bundle, "
        "checked against torch and ONNX Runtime.",
    )
    parser.add_argument("checkpoint", type=Path, help=".safetensors of train-station fit")
    parser.add_argument(
        "--precision", choices=["fp32"], default="fp32", help="of the weights (default fp32)"
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="NAME.xml", help="bundle to write"
    )
    parsed = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        return _export(parsed.checkpoint, parsed.output)
    except StationError as error:
        print(f"export-model: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("export-model: interrupted, nothing was written.", file=sys.stderr)
        return 130


def _export(checkpoint_path: Path, output: Path) -> int:
    if output.suffix != ".xml":
        raise ConfigurationError(f"{output}: the bundle's name must end in .xml.")
    # torch takes seconds to import; --help must not wait for it.
    from export.bundle import export_bundle, summary
    from training.checkpoint import load_checkpoint

    manifest = export_bundle(load_checkpoint(checkpoint_path), output)
    print(summary(manifest, [output, output.with_suffix(".bin"), output.with_suffix(".json")]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
