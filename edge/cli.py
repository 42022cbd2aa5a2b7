"""edge-run: the command line of the station."""

import argparse
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import edge
from edge.errors import StationError

if TYPE_CHECKING:
    from edge.config import Settings

PROGRAM = "edge-run"
_BENCHMARK_FRAMES = 16
_BENCHMARK_PAIRS = 60
LEVELS = ("debug", "info", "warning", "error")


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return the exit code of the process."""
    options = _parser().parse_args(arguments)
    _log_to_stderr(options.log_level)
    try:
        settings = _settings(options)
        if options.check:
            print(_check(settings))
        elif options.tune:
            _tune(settings, options.config)
        elif options.benchmark:
            _benchmark(settings, options.config)
        else:
            _run(settings, options)
    except StationError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted before the first part", file=sys.stderr)
        return 130
    except Exception as error:
        logging.getLogger(__name__).debug("the defect in detail", exc_info=True)
        print(
            f"{PROGRAM}: internal error: {type(error).__name__}: {error} ({_origin(error)}). "
            "This is a defect of the software, not of its use. Please report it with the output "
            "of --log-level debug.",
            file=sys.stderr,
        )
        return StationError.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        PROGRAM,
        description="Inspect every part that a camera sees, and say OK or not.",
        epilog="Verdicts go to the broker of --mqtt, or to standard output as JSON lines. "
        "Logs go to standard error.",
    )
    parser.add_argument(
        "--camera",
        metavar="URI",
        help="folder, glob, picture or video file; 0, /dev/v4l/by-id/NAME; rtsp://…, http://…",
    )
    parser.add_argument("--model", metavar="BUNDLE.xml", help="model made by export-model")
    parser.add_argument(
        "--config", metavar="STATION.yaml", type=Path, help="settings; the options here go first"
    )
    parser.add_argument("--mqtt", metavar="mqtt://HOST:PORT", help="publish to this broker")
    parser.add_argument(
        "--station", metavar="SITE/LINE/STATION/CAMERA", help="name of this station in topics"
    )
    parser.add_argument("--save", metavar="DIR", help="write an overlay picture of every part")
    parser.add_argument("--rate", metavar="FPS", type=float, help="pace of pictures from files")
    parser.add_argument(
        "--once",
        action="store_true",
        help="inspect each picture once and end; of a live camera, one",
    )
    parser.add_argument(
        "--check", action="store_true", help="validate settings and model, print them, open nothing"
    )
    parser.add_argument(
        "--tune",
        action="store_true",
        help="measure how this PC runs the model best, and keep it beside the settings",
    )
    parser.add_argument(
        "--benchmark",
        action="store_true",
        help="measure the frame path beside the bare network, on this model and camera",
    )
    parser.add_argument("--log-level", choices=LEVELS, default="info")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {edge.__version__}")
    return parser


def _settings(options: argparse.Namespace) -> "Settings":
    from edge.config import load_settings

    # Tuning opens no camera, so it asks for none.
    unused = "0" if options.tune and not options.config else None
    return load_settings(
        options.config,
        {
            "camera": {
                "uri": options.camera or unused,
                "rate_fps": options.rate,
                "loop": False if options.once else None,
            },
            "model": {"path": options.model},
            "mqtt": {"url": options.mqtt, "station": options.station},
            "save": {"folder": options.save},
        },
    )


def _check(settings: "Settings") -> str:
    from edge.cameras.opening import camera_kind
    from edge.config import read_password
    from edge.manifest import load_bundle
    from edge.redaction import redacted

    manifest = load_bundle(Path(settings.model.path)).manifest
    kind = camera_kind(settings.camera.uri)
    own = settings.decision.image_threshold
    lines = [
        f"camera   {redacted(settings.camera.uri)} ({kind})",
        f"model    {manifest.identity.name}: {manifest.identity.algorithm} on "
        f"{manifest.input.width}×{manifest.input.height}, {settings.model.device}",
        f"decision threshold {manifest.threshold.image if own is None else own:g} "
        f"({'bundle' if own is None else 'station'}), guard band {settings.decision.guard_band:g}",
    ]
    if settings.mqtt:
        if settings.mqtt.password_file:
            read_password(Path(settings.mqtt.password_file))
        lines.append(f"verdicts {settings.mqtt.url} {settings.mqtt.topic.verdict}")
    else:
        lines.append("verdicts standard output")
    if settings.save:
        lines.append(f"overlays {settings.save.folder}")
    lines.append(f"settings sha256 {settings.sha256}")
    return "\n".join(lines)


def _tune(settings: "Settings", config: Path | None) -> None:
    from edge.files import check_writable
    from edge.manifest import load_bundle
    from edge.station import tuning

    model = settings.model
    bundle = load_bundle(Path(model.path))
    path = tuning.tuning_path(config, Path(model.path))
    check_writable(path)  # told before the measurement, not after it
    measured = []
    for result in tuning.tune(bundle, model.device, model.threads):
        measured.append(result)
        print(tuning.table([result], heading=len(measured) == 1), flush=True)
    made = tuning.make_tuning(bundle, model.device, model.threads, measured)
    tuning.write_tuning(path, made)
    tiled = bundle.manifest.input.tile_plan is not None
    best = made.best(model.objective, tiled)
    print(
        f"{path}: for {model.objective} this PC runs {best.streams} streams of batch "
        f"{best.batch} on {best.threads} threads"
    )


def _benchmark(settings: "Settings", config: Path | None) -> None:
    import json

    from edge.cameras.opening import some_frames
    from edge.files import write_whole
    from edge.manifest import load_bundle
    from edge.station.benchmark import benchmark, benchmark_table
    from edge.station.inspectors import run_plan
    from edge.station.tuning import beside, tuning_path

    model = settings.model
    bundle = load_bundle(Path(model.path))
    frames = some_frames(settings.camera, _BENCHMARK_FRAMES)
    plan = run_plan(settings, bundle, tuning_path(config, Path(model.path)))
    result = benchmark(bundle, model.device, plan, frames, _BENCHMARK_PAIRS)
    path = beside(config, Path(model.path), "benchmark")
    write_whole(path, json.dumps(result, indent=2, ensure_ascii=False).encode() + b"\n")
    print(benchmark_table(result))
    print(f"written to {path}")


def _run(settings: "Settings", options: argparse.Namespace) -> None:
    from edge.config import DEFAULT_STATION
    from edge.station.launch import run_station
    from edge.station.tuning import tuning_path

    if settings.mqtt and settings.mqtt.station == DEFAULT_STATION:
        logging.getLogger(__name__).warning(
            "no --station given: publishing as %s; two such stations on one broker collide",
            DEFAULT_STATION,
        )
    run_station(
        settings,
        options.once,
        tuning_path(options.config, Path(settings.model.path)),
        report=lambda r: print(f"{PROGRAM}: {r}", file=sys.stderr),
        reread=lambda: _settings(options),
    )


def _log_to_stderr(level: str) -> None:
    formatter = logging.Formatter(
        "%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ"
    )
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler])


def _origin(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "unknown place"
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"


if __name__ == "__main__":
    sys.exit(main())
