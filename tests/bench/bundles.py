"""Bundles to measure: ResNet-18 PatchCore, whole and tiled, fitted on rendered parts.

The weights are random: they take the time of real ones and need no download.
"""

import subprocess
import sys
from math import inf
from pathlib import Path

import torch
from safetensors.torch import save_file

from export.accuracy import AccuracyBudget
from export.bundle import ExportRequest, export_bundle
from export.variants import ExportPrecision
from training.checkpoint import load_checkpoint
from training.components.backbones import build_backbone
from training.data.rendered import ImageCounts, write_dataset

# Random features bear INT8 less than learned ones; that takes the same time all the same.
_ANYTHING = AccuracyBudget(auroc_drop=1.0, verdict_flips=1.0, good_shift=inf, map_correlation=-1.0)


def make_bundles(folder: Path) -> tuple[Path, Path, Path]:
    """Return the bundles whole, tiled, and whole in INT8; made unless they are in the folder."""
    whole, tiled, int8 = (folder / f"{name}.xml" for name in ("whole", "tiled", "whole_int8"))
    if all(bundle.with_suffix(".json").exists() for bundle in (whole, tiled, int8)):
        return whole, tiled, int8
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    weights = folder / "random.safetensors"
    save_file(build_backbone("resnet18").state_dict(), weights)
    parts = folder / "parts"
    if not parts.exists():
        write_dataset(parts, ImageCounts(train_good=40, test_good=2, test_defective=1))
    for bundle, options in ((whole, []), (tiled, ["--tile", "256", "--overlap", "0.25"])):
        fitted = bundle.with_suffix(".safetensors")
        _run("training.cli", "fit", "--data", parts, "--weights", weights, *options, "-o", fitted)
        _run("export.cli", fitted, "--precision", "fp32", "-o", bundle)
    checkpoint = load_checkpoint(whole.with_suffix(".safetensors"))
    export_bundle(
        checkpoint, int8, ExportRequest(precision=ExportPrecision.INT8, accuracy=_ANYTHING)
    )
    return whole, tiled, int8


def _run(module: str, *arguments: object) -> None:
    subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)], check=True, capture_output=True
    )
