"""Taught beside fitted: ``python -m tests.bench.taught_auroc TEACHER.xml WEIGHTS PRODUCT ...``.

Each PRODUCT is laid out as MVTec AD has it. All of ``train/good`` is taught with the teacher, and
fitted by ``train-station fit --algorithm patchcore`` with the teacher's backbone, settings and
WEIGHTS; both judge ``test``. The teacher's precision is that of the taught bundle; the fit is FP32.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from edge.bundle.loading import load_bundle
from edge.bundle.teacher import load_teacher
from edge.imaging.frame import Frame
from edge.imaging.image_files import is_image, read_image
from edge.inspection.detector import CompiledModel, Detector, RunPlan
from edge.inspection.inspector import Inspector
from edge.inspection.preprocessing import prepare
from edge.teaching.build import BuildOrder, build
from edge.teaching.images import find_images
from edge.teaching.teach import TeachingOrder
from training.checkpoint import load_checkpoint
from training.cli import main as train_station

THREADS = 2


def auroc(scores: list[float], paths: list[Path]) -> float:
    """Return the share of pairs in which the defective image scores higher; ties count half."""
    good = np.array([path.parent.name == "good" for path in paths])
    values = np.array(scores)
    higher = np.subtract.outer(values[~good], values[good])
    return float(((higher > 0) + 0.5 * (higher == 0)).mean())


def taught_scores(teacher: Path, product: Path, tested: list[Path], folder: Path) -> list[float]:
    """Teach, and return what the bundle makes of images."""
    order = BuildOrder(
        name="part",
        teacher=teacher,
        images=find_images(product / "train" / "good"),
        order=TeachingOrder(check_good=False),
        threads=THREADS,
    )
    for path, content in build(order, lambda _: None).files(folder / "taught.xml"):
        path.write_bytes(content)
    bundle = load_bundle(folder / "taught.xml")
    detector = Detector(CompiledModel(bundle, plan=RunPlan(threads=THREADS)))
    inspector = Inspector(detector, bundle.manifest)
    scores = []
    for path in tested:
        frame = Frame(pixels=read_image(path), number=0, captured_ns=0, captured_utc_ns=0)
        score = inspector.inspect(frame).score
        assert score is not None, path
        scores.append(score)
    return scores


def fitted_scores(
    teacher: Path, weights: Path, product: Path, tested: list[Path], folder: Path
) -> list[float]:
    """Fit, and return what the checkpoint makes of images."""
    manifest = load_teacher(teacher).manifest
    checkpoint = folder / "fitted.safetensors"
    options = ["--algorithm", "patchcore", "--backbone", manifest.identity.backbone]
    options += ["--weights", str(weights), "--weights-licence", "of the file"]
    options += ["--image-size", f"{manifest.input.width}x{manifest.input.height}"]
    options += ["--set", f"bank_size={manifest.head.bank_size}", "--no-check-good", "--no-report"]
    options += ["--data", str(product), "-o", str(checkpoint)]
    assert train_station(["fit", *options]) == 0
    loaded = load_checkpoint(checkpoint)
    scores = []
    with torch.inference_mode():
        for path in tested:
            prepared = prepare(read_image(path), loaded.description.input)
            scores.append(float(loaded.model(torch.from_numpy(prepared)[None]).score[0]))
    return scores


def main() -> None:
    """Compare once a product."""
    torch.set_num_threads(THREADS)
    teacher, weights = Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute()
    for name in sys.argv[3:]:
        product = Path(name).absolute()
        tested = sorted(path for path in (product / "test").rglob("*") if is_image(path))
        with tempfile.TemporaryDirectory() as folder:
            taught = auroc(taught_scores(teacher, product, tested, Path(folder)), tested)
            fitted = auroc(fitted_scores(teacher, weights, product, tested, Path(folder)), tested)
        print(f"{product.name}: taught {taught:.4f}, fitted {fitted:.4f}", flush=True)


if __name__ == "__main__":
    main()
