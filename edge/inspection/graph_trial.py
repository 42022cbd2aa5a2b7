"""A foreign graph is tried in a process of its own before this one compiles it.

A graph can end or hang the process that compiles or runs it, whatever its hashes and signature say.
The trial does what the station would do, with the same device and plan, up to the self-test. What
has passed is remembered for this PC and this OpenVINO, by content: the files' hashes, not their
names. Where nothing can be remembered, each load is tried.
"""

import hashlib
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import openvino as ov

from edge.bundle.loading import Bundle, load_bundle
from edge.errors import BundleDamaged, BundleError, ModelError, StationError
from edge.inspection.detector import CompiledModel, Detector, RunPlan
from edge.inspection.self_test import SelfTestFailed, self_test
from edge.system.priority import COMPUTES_BESIDE, lower_priority
from edge.system.processor import pc_identity

# A model that takes longer to compile and test will not come.
TRIAL_LIMIT_S = 300.0
MAX_REMEMBERED = 500

_FOLDER = "tried-models"
_KINDS = {kind.__name__: kind for kind in (BundleDamaged, SelfTestFailed, ModelError)}
# Of the service manager, for the station alone.
_NOT_INHERITED = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "CREDENTIALS_DIRECTORY")

log = logging.getLogger(__name__)


class GraphCrashed(BundleError):
    """The graph ended the process that tried it; starting again cannot cure it."""


def try_model(
    bundle: Bundle,
    device: str = "CPU",
    plan: RunPlan = RunPlan(),
    limit_s: float = TRIAL_LIMIT_S,
) -> None:
    """Compile and self-test a bundle in another process, unless it has passed here before.

    Raises:
        GraphCrashed: the process crashed.
        BundleDamaged, SelfTestFailed, ModelError: as ``Network`` and ``self_test``; also a trial
            that does not end, or that there is not enough memory for.
    """
    passed = _cache_folder() / _name(bundle, device, plan)
    if os.path.lexists(passed):
        return
    _try(bundle, device, plan, limit_s)
    _remember(passed)


def _try(bundle: Bundle, device: str, plan: RunPlan, limit_s: float) -> None:
    asked = {
        "path": str(bundle.path),
        "sha256": bundle.sha256,
        "device": device,
        "plan": asdict(plan),
    }
    environment = {key: os.environ[key] for key in os.environ if key not in _NOT_INHERITED}
    # -P: a folder named edge in the working directory is none of ours.
    command = [sys.executable, "-P", "-m", "edge.inspection.graph_trial"]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )
    except OSError as error:
        raise ModelError(
            f"{bundle.path}: cannot be tried in a process of its own ({error.strerror}). Free "
            "memory or raise the limit of processes."
        ) from error
    with process:
        try:
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # it may be gone already
                os.write(process.stdin.fileno(), json.dumps(asked).encode() + b"\n")
            # The pipe stays open: its end tells the other process that this one has gone.
            answer = _answer(process, limit_s)
        finally:
            process.kill()
    if answer is not None:
        kind, message = answer
        if kind:
            raise _KINDS.get(kind, ModelError)(message)
        return
    raise _how_it_ended(bundle, process.returncode)


def _answer(process: "subprocess.Popen[str]", limit_s: float) -> tuple[str, str] | None:
    """Return the kind of fault and its message, both empty for none; None where none came."""
    late = threading.Timer(limit_s, process.terminate)
    late.daemon = True
    late.start()
    try:
        assert process.stdout is not None
        lines = process.stdout.read().splitlines()
        process.wait()
    finally:
        late.cancel()
    with suppress(ValueError, TypeError, IndexError, KeyError):
        answer = json.loads(lines[-1])
        if process.returncode == 0:
            return str(answer["kind"]), str(answer["message"])
    return None


def _how_it_ended(bundle: Bundle, code: int) -> StationError:
    which = f"{bundle.path}: the process that tried the graph"
    if code == -signal.SIGTERM:
        return ModelError(f"{which} did not end in time. Choose a smaller model, or a faster PC.")
    if code == -signal.SIGKILL:
        return ModelError(
            f"{which} was killed, probably because memory ran out. Free memory, or choose "
            "a smaller model."
        )
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return GraphCrashed(
        f"{which} crashed ({how}, OpenVINO {ov.__version__}). Do not use it; export the model "
        "again with this version, and ask where this file comes from."
    )


def _name(bundle: Bundle, device: str, plan: RunPlan) -> str:
    """Return what stands for everything that the trial has shown."""
    shown = [bundle.sha256, ov.__version__, device, asdict(plan), pc_identity()]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()


def _cache_folder() -> Path:
    """Return where to remember: as the compiled kernels are, and never in the user's home."""
    service = os.environ.get("CACHE_DIRECTORY", "").split(":")[0]
    return (Path(service) if service else Path(__file__).parent / "__pycache__") / _FOLDER


def _remember(passed: Path) -> None:
    try:
        passed.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = sorted(passed.parent.iterdir(), key=lambda one: one.stat().st_mtime)
        for one in known[: max(0, len(known) + 1 - MAX_REMEMBERED)]:
            one.unlink()
        passed.touch()
    except OSError as error:
        log.debug("%s: cannot be kept (%s); the model is tried at each load", passed, error)


def main() -> int:
    """Be the process that may crash: read what to try, and tell how it went."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    lower_priority(COMPUTES_BESIDE)
    with suppress(OSError):  # where memory runs out, this process goes and not the station
        Path("/proc/self/oom_score_adj").write_text("1000")
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_station, daemon=True).start()
    kind = message = ""
    try:
        bundle = load_bundle(Path(asked["path"]))
        if bundle.sha256 != asked["sha256"]:
            raise BundleDamaged(f"{bundle.path}: was changed while being loaded. Load it again.")
        network = CompiledModel(bundle, asked["device"], RunPlan(**asked["plan"]))
        self_test(Detector(network), bundle.manifest)
    except StationError as error:
        kind, message = type(error).__name__, str(error)
    except MemoryError:
        kind, message = ModelError.__name__, f"{asked['path']}: there is not enough memory for it."
    print(json.dumps({"kind": kind, "message": message}), flush=True)
    # Without taking down what the graph may have spoiled.
    os._exit(0)


def _end_with_the_station() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
