"""Teaching in figures: ``python -m tests.bench.teach TEACHER.xml DATA [COUNT]``.

DATA is a product as MVTec AD lays it out: ``train/good`` is taught with (COUNT images, 20 if not
given), ``test`` is judged. Wall and CPU time and peak memory are those of the build's own process,
with two threads; the AUROC is that of the taught bundle, in the process of this script.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from edge.bundle.manifest import load_bundle
from edge.imaging.frame import Frame
from edge.imaging.image_files import is_image, read_image
from edge.inspection.detector import CompiledModel, Detector, RunPlan
from edge.inspection.inspector import Inspector
from edge.teaching.build_process import MODEL_XML, BuildReport, BuildRequest
from edge.teaching.images import images_of

COUNT, THREADS = 20, 2


def build_once(teacher: Path, images: list[Path], folder: Path) -> BuildReport:
    """Run the build's process to its end; return its last report."""
    asked = BuildRequest(
        name=folder.name,
        teacher=str(teacher),
        images=[str(path) for path in images],
        defective=[],
        before=None,
        before_threshold=None,
        folder=str(folder),
        views=False,
        threads=THREADS,
        public_key=None,
        key=None,
    )
    libraries = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "edge.teaching.build_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **dict.fromkeys(libraries, str(THREADS))},
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(asked.model_dump_json() + "\n")
        process.stdin.flush()
        return [BuildReport.model_validate_json(line) for line in process.stdout][-1]


def auroc(good: list[float], defective: list[float]) -> float:
    """Return the share of pairs in which the defective image scores higher; ties count half."""
    higher = np.subtract.outer(np.array(defective), np.array(good))
    return float(((higher > 0) + 0.5 * (higher == 0)).mean())


def judged(bundle: Path, images: list[Path]) -> list[float]:
    """Return the raw scores of images."""
    loaded = load_bundle(bundle)
    detector = Detector(CompiledModel(loaded, plan=RunPlan(threads=THREADS)))
    inspector = Inspector(detector, loaded.manifest)
    scores = []
    for path in images:
        frame = Frame(pixels=read_image(path), number=0, captured_ns=0, captured_utc_ns=0)
        score = inspector.inspect(frame).score
        assert score is not None, path
        scores.append(score)
    return scores


def main() -> None:
    """Measure once; on a busy machine the times are upper bounds."""
    teacher, data = Path(sys.argv[1]).absolute(), Path(sys.argv[2])
    count = int(sys.argv[3]) if len(sys.argv) > 3 else COUNT
    images = list(images_of(data.absolute() / "train" / "good", count))
    tested = sorted(path for path in (data / "test").rglob("*") if is_image(path))
    with tempfile.TemporaryDirectory() as folder:
        began_s = time.perf_counter()
        report = build_once(teacher, images, Path(folder))
        wall_s = time.perf_counter() - began_s
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert report.result is not None, report.refused
        print(
            f"{len(images)} images: {wall_s:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of CPU, "
            f"peak {used.ru_maxrss / 1024:.0f} MB, {report.result.left_out} left out"
        )
        scores = judged(Path(folder) / MODEL_XML, tested)
    is_good = [path.parent.name == "good" for path in tested]
    good = [score for score, one in zip(scores, is_good, strict=True) if one]
    bad = [score for score, one in zip(scores, is_good, strict=True) if not one]
    print(f"AUROC {auroc(good, bad):.4f} of {len(good)} good and {len(bad)} defective images")


if __name__ == "__main__":
    main()
