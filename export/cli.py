"""``export-model``: a checkpoint becomes a model bundle for ``edge-run``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import edge
from training.command_line import run_command


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
    parser.add_argument("--version", action="version", version=f"export-model {edge.__version__}")
    parsed = parser.parse_args(arguments)
    return run_command("export-model", "export", lambda: _export(parsed.checkpoint, parsed.output))


def _export(checkpoint_path: Path, output: Path) -> int:
    # torch takes seconds to import; --help must not wait for it.
    from export.bundle import export_bundle, summary
    from training.checkpoint import load_checkpoint

    manifest = export_bundle(load_checkpoint(checkpoint_path), output)
    print(summary(manifest, output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
