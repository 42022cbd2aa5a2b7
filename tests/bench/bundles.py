"""Bundles to measure: ResNet-18 PatchCore, whole and tiled, fitted on rendered parts.

The weights are random: they take the time of real ones and need no download.
"""

import subprocess
import sys
from math import inf
from pathlib import Path

import torch
from safetensors.torch import save_file

from export.accuracy_gate import AccuracyBudget
from export.bundle import ExportRequest, export_bundle
from export.variants import ExportPrecision
from training.checkpoint import load_checkpoint
from training.components.backbones import build_backbone
from training.data.rendered import ImageCounts, write_dataset
from training.models.patchcore import PatchCoreSettings

# Random features bear INT8 less than learned ones; that takes the same time all the same.
_ANYTHING = AccuracyBudget(auroc_drop=1.0, verdict_flips=1.0, good_shift=inf, map_correlation=-1.0)


def make_bundles(folder: Path) -> tuple[Path, Path, Path]:
    """Return the bundles whole, tiled, and whole in INT8; made unless they are in the folder."""
    whole, tiled, int8 = (folder / f"{name}.xml" for name in ("whole", "tiled", "whole_int8"))
    _make(whole)
    _make(tiled, "--tile", "256", "--overlap", "0.25")
    _make_int8(whole, int8)
    return whole, tiled, int8


def make_head_bundles(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Return, by precision, the bundles with PatchCore's head of before and the default one."""
    names = ("whole", "before", "whole_int8", "before_int8")
    whole, before, int8, before_int8 = (folder / f"{name}.xml" for name in names)
    # All numbers of its vectors are sought along then, whatever ``search_components`` says.
    earlier = {name: PatchCoreSettings.BEFORE[name] for name in ("variance", "score", "sigma")}
    _make(whole)
    _make(before, *(word for item in earlier.items() for word in ("--set", "{}={}".format(*item))))
    _make_int8(whole, int8)
    _make_int8(before, before_int8)
    return {"FP32": (before, whole), "INT8": (before_int8, int8)}


def _make(bundle: Path, *options: str) -> None:
    """Fit and export in FP32, unless that was done."""
    if bundle.with_suffix(".json").exists():
        return
    folder = bundle.parent
    folder.mkdir(parents=True, exist_ok=True)
    weights, parts = folder / "random.safetensors", folder / "parts"
    torch.manual_seed(0)
    save_file(build_backbone("resnet18").state_dict(), weights)
    if not parts.exists():
        write_dataset(parts, ImageCounts(train_good=40, test_good=2, test_defective=1))
    fitted = bundle.with_suffix(".safetensors")
    _run("training.cli", "fit", "--data", parts, "--weights", weights, *options, "-o", fitted)
    _run("export.cli", fitted, "--precision", "fp32", "-o", bundle)


def _make_int8(whole: Path, int8: Path) -> None:
    """Export in INT8 what was fitted, unless that was done."""
    if not int8.with_suffix(".json").exists():
        checkpoint = load_checkpoint(whole.with_suffix(".safetensors"))
        asked = ExportRequest(precision=ExportPrecision.INT8, accuracy=_ANYTHING)
        export_bundle(checkpoint, int8, asked)


def _run(module: str, *arguments: object) -> None:
    subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)], check=True, capture_output=True
    )
