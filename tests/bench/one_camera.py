"""One station of several on a PC: prints frames per second over a fixed time.

python -m tests.bench.one_camera BUNDLE.xml THREADS SECONDS
"""

import sys
import threading
from pathlib import Path

import numpy as np

from edge.bundle.loading import load_bundle
from edge.cli.benchmark import MemoryCamera
from edge.contract.verdict import Verdict
from edge.inspection.detector import CompiledModel, Detector, RunPlan
from edge.inspection.inspector import Inspector
from edge.station.pipeline.mailbox import EveryMailbox
from edge.station.pipeline.pipeline import Station
from edge.station.pipeline.sinks import Sink
from edge.station.pipeline.work import InspectionSetup
from edge.station.threads import Failures
from training.data.rendered import render_part


def main() -> None:
    bundle = load_bundle(Path(sys.argv[1]))
    threads, seconds = int(sys.argv[2]), float(sys.argv[3])
    inspector = Inspector(
        Detector(CompiledModel(bundle, plan=RunPlan(threads=threads))), bundle.manifest
    )
    failures = Failures()
    done: list[int] = []

    def record(verdict: Verdict) -> None:
        done.append(verdict.decided_ns)

    station = Station(
        camera=MemoryCamera([render_part(np.random.default_rng(0)).pixels], count=1_000_000),
        mailbox=EveryMailbox(1, room_limit_s=None),
        line=InspectionSetup((inspector,)),
        sinks=[
            Sink(name="verdicts", deliver=record, bound=64, wait_for_room=True, failures=failures)
        ],
        failures=failures,
    )
    threading.Timer(seconds, station.stop).start()
    station.run()
    print((len(done) - 1) / (done[-1] - done[0]) * 1e9)


if __name__ == "__main__":
    main()
