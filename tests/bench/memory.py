"""Prints resident memory in KiB after 1,000 and after 100,000 frames of a station."""

import tempfile
from pathlib import Path

import psutil

from edge.bundle.loading import load_bundle
from edge.cli.benchmark import MemoryCamera
from edge.contract.verdict import StationIdentity, Verdict, payload, to_json
from edge.inspection.detector import CompiledModel, Detector
from edge.inspection.inspector import Inspector
from edge.station.pipeline.mailbox import EveryMailbox
from edge.station.pipeline.pipeline import Station
from edge.station.pipeline.sinks import Sink
from edge.station.pipeline.work import InspectionSetup
from edge.station.threads import Failures
from tests.support.small_bundle import defective_image, good_image, write_bundle

CHECKPOINTS = (1_000, 100_000)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        bundle = load_bundle(write_bundle(Path(folder)))
    identity = StationIdentity(
        simulated=True,
        trigger_source="free_run",
        model_name="part",
        model_version="1",
        model_sha256=bundle.sha256,
        precision="fp32/f32",
        device="CPU",
        runtime="openvino",
        config_sha256="0" * 64,
    )
    process = psutil.Process()

    def record(verdict: Verdict) -> None:
        to_json(payload(verdict, identity, session=None))
        if verdict.frame.number in CHECKPOINTS:
            print(verdict.frame.number, process.memory_info().rss // 1024, flush=True)

    failures = Failures()
    images = [good_image(0), defective_image(1), good_image(2)]
    Station(
        camera=MemoryCamera(images, CHECKPOINTS[-1]),
        mailbox=EveryMailbox(4, room_limit_s=None),
        line=InspectionSetup((Inspector(Detector(CompiledModel(bundle)), bundle.manifest),)),
        sinks=[
            Sink(name="verdicts", deliver=record, bound=64, wait_for_room=True, failures=failures)
        ],
        failures=failures,
    ).run()


if __name__ == "__main__":
    main()
