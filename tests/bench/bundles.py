"""Bundles to measure: ResNet-18 PatchCore, whole and tiled, fitted on rendered parts.

The weights are random: they take the time of real ones and need no download.
"""

import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from training.components.backbones import build_backbone
from training.data.rendered import Counts, write_dataset


def make_bundles(folder: Path) -> tuple[Path, Path]:
    """Return ``whole.xml`` and ``tiled.xml`` in a folder, made there unless they exist."""
    whole, tiled = folder / "whole.xml", folder / "tiled.xml"
    if whole.with_suffix(".json").exists() and tiled.with_suffix(".json").exists():
        return whole, tiled
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    weights = folder / "random.safetensors"
    save_file(build_backbone("resnet18").state_dict(), weights)
    parts = folder / "parts"
    if not parts.exists():
        write_dataset(parts, Counts(train_good=40, test_good=2, test_defective=1))
    for bundle, options in ((whole, []), (tiled, ["--tile", "256", "--overlap", "0.25"])):
        checkpoint = bundle.with_suffix(".safetensors")
        _run(
            "training.cli", "fit", "--data", parts, "--weights", weights, *options, "-o", checkpoint
        )
        _run("export.cli", checkpoint, "--precision", "fp32", "-o", bundle)
    return whole, tiled


def _run(module: str, *arguments: object) -> None:
    subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)], check=True, capture_output=True
    )
