"""One fit in a process of its own, measured: accuracy, times, model size and peak memory.

A process of its own, because the peak of a process cannot be taken back: only so it is the fit's.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.errors import StationError
from edge.inspection.frame_prediction import predict_frame
from training.calibrated_fit import fitted
from training.checkpoint import save_checkpoint
from training.config import FitConfig
from training.data.loading import read_sample
from training.data.open_data_set import no_test_images
from training.errors import OutOfMemory, TrialFailed
from training.evaluation import TorchPredictor
from training.fit_pipeline import find_device, open_fit
from training.peak_memory import peak_bytes
from training.report.evidence import gather

_TIMED_IMAGES = 20
_WARM_UPS = 2
_MIB = 2**20


def run_trial(config: FitConfig, on_test: bool, keep: Path | None = None) -> dict[str, Any]:
    """Fit in a child process and return its figures.

    Args:
        on_test: judge by the test images; else by the validation images, as a search must.
        keep: checkpoint to write; None forgets the model.

    Returns:
        ``SplitMetrics`` of the images judged by, and backbone, fit_s, infer_ms, model_mib,
        peak_mib.

    Raises:
        TrialFailed: the fit ended with an error, or was killed.
    """
    request = {
        "config": config.model_dump(mode="json"),
        "on_test": on_test,
        "keep": None if keep is None else str(keep.resolve()),
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "training.measured_fit"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        # What stays open after it is the child's life line: it ends when this process ends.
        child.stdin.write(json.dumps(request) + "\n")
        child.stdin.flush()
        answer = child.stdout.read()
        child.wait()
    except BrokenPipeError:
        answer = ""
        child.wait()
    finally:
        child.stdin.close()
        if child.poll() is None:
            child.kill()
            child.wait()
        child.stdout.close()
    if child.returncode < 0:
        raise TrialFailed(
            f"the fit was killed (signal {-child.returncode}); most often the memory is full. "
            "Lower image_size, or the limits of the algorithm with --set."
        )
    try:
        result = json.loads(answer)
    except json.JSONDecodeError:
        raise TrialFailed(
            f"the fit ended with code {child.returncode} and said nothing. Try it alone with "
            "train-station fit."
        ) from None
    if "error" in result:
        raise TrialFailed(result["error"])
    return dict(result)


def measure(config: FitConfig, on_test: bool, keep: Path | None = None) -> dict[str, Any]:
    """Fit in this process and return its figures.

    Raises:
        StationError: a setting, the weights or the data cannot be used, or the disk refuses the
            checkpoint to keep.
    """
    splits = open_fit(config)
    if on_test and not splits.test:
        raise no_test_images(config.data.path)
    started = time.perf_counter()
    checkpoint = fitted(config, splits=splits)
    fit_s = time.perf_counter() - started
    peak_mib = peak_bytes() / _MIB
    if keep is not None:
        save_checkpoint(keep, checkpoint)
    description, model = checkpoint.description, checkpoint.model
    device = find_device(config.device)
    predictor = TorchPredictor(model, description.input, device)
    if on_test:
        samples = splits.test
        metrics = gather(checkpoint, predictor, samples, "test", purpose="test").totals.metrics()
    else:
        samples = splits.validation
        metrics = description.training.metrics["validation"]
    infer_ms = _median_ms(predictor, samples, description.input)
    tensors = model.state_dict().values()
    return {
        **metrics.model_dump(),
        "backbone": description.backbone,
        "dataset": description.training.dataset,
        "fit_s": fit_s,
        "infer_ms": infer_ms,
        "model_mib": sum(t.numel() * t.element_size() for t in tensors) / _MIB,
        "peak_mib": peak_mib,
    }


def _median_ms(predictor: Any, samples: Sequence[Any], spec: Any) -> float:
    """Return the median time from a frame in memory to its raw numbers."""
    times = []
    for sample in samples[: _TIMED_IMAGES + _WARM_UPS]:
        pixels = read_sample(sample)
        started = time.perf_counter()
        predict_frame(predictor, pixels, spec)
        times.append(time.perf_counter() - started)
    kept = sorted(times[_WARM_UPS:] or times)
    return 1e3 * kept[len(kept) // 2]


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(StationError.exit_code)


def main() -> int:
    """Answer one request from standard input on standard output, in JSON."""
    answer = sys.stdout
    sys.stdout = sys.stderr  # nothing else may slip in between
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        config = FitConfig.model_validate(request["config"])
        keep = request["keep"] and Path(request["keep"])
        result = measure(config, request["on_test"], keep)
    except StationError as error:
        result = {"error": str(error)}
    except MemoryError:
        result = {"error": str(OutOfMemory("out of memory. Lower image_size, or bank_size."))}
    except Exception as error:
        result = {"error": f"internal error: {type(error).__name__}: {error}. Please report it."}
    answer.write(json.dumps(result))
    answer.flush()
    # Not by returning: torch's threads may still hold standard input.
    os._exit(1 if "error" in result else 0)


if __name__ == "__main__":
    sys.exit(main())
