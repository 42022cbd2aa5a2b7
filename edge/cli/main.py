"""edge-run: the command line of the station."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Collection
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from edge.app.signals import Stopper
from edge.atomic_files import check_writable, write_whole
from edge.cli.journal import run_journal_command
from edge.cli.options import CAPTURED, LIVE, PROGRAM, ROWS, parser
from edge.doctor.camera_list import camera_lines
from edge.errors import ConfigurationError, StationError, raised_at
from edge.hmi.page_token import write_token
from edge.journal.entries import RecordKind
from edge.journal.query import Query
from edge.redaction import one_line, redacted
from edge.system.file_access import hidden_from_service, why_closed
from edge.system.log_output import log_to_stderr, print_line, write_line
from edge.system.priority import COMPUTES_BESIDE, lower_priority
from edge.system.process_end import exit_process
from edge.system.process_start import prepare_process
from edge.wording import counted
from edge.yaml_lines import read_settings_file

if TYPE_CHECKING:
    from edge.bundle.manifest import Manifest
    from edge.cli.recipes import RecipeStation
    from edge.settings.station import Settings

_BENCHMARK_FRAMES = 16
_BENCHMARK_PAIRS = 60
_INTERRUPTED = 130
# What stands for a section that an action does not use.
_PLACEHOLDERS = {
    "camera": ("uri", "0"),
    "model": ("path", "none.xml"),
    "mqtt": ("url", "mqtt://localhost"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code; without arguments, end this process with it."""
    if arguments is None:
        prepare_process()
        exit_process(main(sys.argv[1:]))
    options = parser().parse_args(arguments)
    log_to_stderr(options.log_level)
    try:
        return _act(options)
    except StationError as error:
        write_line(f"{PROGRAM}: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        write_line(f"{PROGRAM}: interrupted before the first part")
        return _INTERRUPTED
    except PermissionError as error:
        write_line(f"{PROGRAM}: {one_line(str(error.filename or error))}: {why_closed()}.")
        return ConfigurationError.exit_code
    except Exception as error:
        logging.getLogger(__name__).debug("the defect in detail", exc_info=True)
        write_line(
            f"{PROGRAM}: internal error: {type(error).__name__}: {one_line(str(error))} "
            f"({raised_at(error)}). This is a defect of the software, not of its use. Please "
            "report it with the output of --log-level debug."
        )
        return StationError.exit_code


def _act(options: argparse.Namespace) -> int:
    if options.lamp_test and not options.doctor:
        raise ConfigurationError(
            "--lamp-test needs --doctor; it cannot be used with a running station."
        )
    if options.list_cameras:
        _list_cameras()
    elif options.settings_template or options.settings_schema:
        _print_settings(schema=options.settings_schema)
    elif options.modbus_table:
        _print_modbus_table(options.modbus_table)
    elif options.make_token:
        write_token(options.make_token)
    elif options.doctor:
        return _doctor(options)
    elif options.capture:
        return _capture(options)
    elif options.journal is not None:
        return _journal(options)
    elif options.backup or options.restore:
        _backup(options)
    elif options.recipe:
        _recipe(options)
    elif options.challenge:
        return _challenge(options)
    elif options.teach is not None:
        _teach(options)
    elif options.check:
        print_line(_check(_settings(options), options.config))
    elif options.tune:
        # Tuning opens no camera, so it asks for none.
        _tune(_settings(options, ("camera",)), options.config)
    elif options.benchmark:
        _benchmark(_settings(options), options.config)
    else:
        # Before anything slow: a service may be stopped in the first moments of its start.
        with Stopper() as stopper:
            _run(_settings(options), options, stopper)
    return 0


def _settings(options: argparse.Namespace, unneeded: Collection[str] = ()) -> "Settings":
    """Read the settings.

    Args:
        unneeded: sections that stand empty for this action; what is named is used all the same.
    """
    # pydantic and numpy take a second to load; --help does not wait, nor does a service that is
    # stopped in its first moments. The same holds for all that is loaded in a function here.
    from edge.settings.loading import load_settings

    chosen: dict[str, dict[str, object]] = {
        "camera": {
            "uri": options.camera,
            "rate_fps": options.rate,
            "loop": False if options.once else None,
        },
        "model": {"path": options.model},
        "mqtt": {"url": options.mqtt, "station": options.station},
        "save": {"folder": options.save},
        "show": {"window": options.show or None},
    }
    for section in set(unneeded) - _named(options):
        key, value = _PLACEHOLDERS[section]
        chosen[section] |= {key: value}
    return load_settings(options.config, chosen)


def _named(options: argparse.Namespace) -> set[str]:
    """Return which of camera, model and broker the command line or the file names."""
    named = {name for name in ("camera", "model", "mqtt") if getattr(options, name)}
    if options.config:
        values = read_settings_file(options.config).values
        named |= {name for name, value in values.items() if value is not None}
    return named


def _list_cameras() -> None:
    for line in camera_lines():
        print_line(one_line(line))  # cameras say themselves what they are called


def _print_settings(schema: bool) -> None:
    # pydantic and numpy
    from edge.settings.template import settings_schema, settings_template

    print_line((settings_schema() if schema else settings_template()).rstrip("\n"))


def _print_modbus_table(form: str) -> None:
    # pydantic and numpy
    from edge.plc.register_exports import TableFormat, register_table
    from edge.plc.structured_text import function_block

    text = function_block() if form == "st" else register_table(TableFormat(form))
    print_line(text.rstrip("\n"))


def _doctor(options: argparse.Namespace) -> int:
    # OpenCV, numba and OpenVINO
    from edge.doctor.examination import run_doctor
    from edge.station.model.tuning import tuning_path

    named = _named(options)
    settings = _settings(options, ("camera", "model")) if named else None
    return run_doctor(
        settings,
        options.config,
        tuning_path(options.config, Path(settings.model.path)) if settings else None,
        camera="camera" in named,
        model="model" in named,
        emit=print_line,
        lamp_test=options.lamp_test,
    )


def _capture(options: argparse.Namespace) -> int:
    # OpenCV and numba
    from edge.cli.capture import capture_images

    # Before there are images there is no model, and no broker is told of them.
    settings = _settings(options, ("model", "mqtt"))
    with Stopper() as stopper:
        wanted = options.count or CAPTURED
        capture_images(
            settings.camera,
            options.capture,
            count=wanted,
            every_s=options.every,
            emit=lambda line: write_line(f"{PROGRAM}: {line}", logging.INFO),
            stopping=lambda: stopper.stopped,
        )
        return _INTERRUPTED if stopper.stopped else 0


def _journal(options: argparse.Namespace) -> int:
    # OpenCV and numba
    from edge.station.recording.journal_folder import journal_folder_seen_from

    folder = Path(options.journal) if options.journal else None
    if folder is None:
        folder = journal_folder_seen_from(options.config, _settings(options, ("camera", "model")))
    if folder is None:
        raise ConfigurationError(
            "this station has no journal. Name the journal's folder: --journal DIR, or "
            "its settings: --config STATION.yaml."
        )
    wanted = Query(
        kind=RecordKind(options.kind) if options.kind else None,
        result=options.result,
        part_id=options.part,
        from_seq=options.from_seq,
        to_seq=options.to_seq,
        from_utc_ns=options.since,
        to_utc_ns=options.until,
        waiting=options.waiting,
    )
    return run_journal_command(
        folder, wanted, options.count or ROWS, options.csv, verify=options.verify, head=options.head
    )


def _backup(options: argparse.Namespace) -> None:
    # pydantic and numpy
    from edge.app.backup import back_up, restore, summary

    if options.config is None:
        raise ConfigurationError("--backup and --restore need --config STATION.yaml.")
    if options.restore:
        manifest = restore(options.restore, options.config, allowed=options.allow)
    else:
        settings = _settings(options)
        manifest = back_up(settings, options.config, options.backup, with_keys=options.with_keys)
    summary(manifest, print_line)


def _recipe(options: argparse.Namespace) -> None:
    # pydantic and numpy
    from edge.cli.recipes import RecipeOrder, run_recipe_command
    from edge.recipes.folder import RecipeFolder

    settings = _settings(options, ("camera", "model")) if options.config else None
    folder = _recipes_folder(options, settings)
    if folder is None:
        raise ConfigurationError(
            "no folder of recipes is named. Name the station's settings, --config STATION.yaml "
            "with recipes.folder, or the folder: --recipes DIR."
        )
    key = settings.model.public_key if settings is not None else None
    order = RecipeOrder(
        words=options.recipe,
        images=options.images,
        as_published=options.as_published,
        # A folder that is named may be another one: what was set here is of the station's own.
        station=_recipe_station(options, settings) if options.recipes is None else None,
        stations=options.stations,
        key=options.key,
        public_key=Path(key) if key else None,
        settings=options.product_settings,
        mask=options.mask,
        check_name=partial(_check_name, settings) if settings else _any_name,
        max_images=_max_images(settings),
    )
    run_recipe_command(RecipeFolder(folder), order, print_line)


def _recipe_station(
    options: argparse.Namespace, settings: "Settings | None"
) -> "RecipeStation | None":
    """Return the station whose folder of recipes is used, with what was set at its page."""
    # pydantic and numpy
    from edge.cli.recipes import RecipeStation
    from edge.settings.overrides import Overrides
    from edge.settings.released import ReleasedSettingsFile
    from edge.station.recording.journal_folder import journal_folder_seen_from

    if settings is None:
        return None
    folder = journal_folder_seen_from(options.config, settings)
    if folder is None:
        return RecipeStation(settings, None)
    if settings.fleet is not None:
        settings = ReleasedSettingsFile.beside(folder).laid_over(settings)
    return RecipeStation(settings, Overrides.beside(folder))


def _max_images(settings: "Settings | None") -> int | None:
    """Return how many images a recipe keeps; without settings, none is removed."""
    named = settings.recipes if settings is not None else None
    return named.max_images if named is not None else None


def _check_name(settings: "Settings", name: str) -> None:
    """Demand a name under which this station would use a recipe.

    Raises:
        RecipeNameInvalid: it would not.
    """
    # OpenVINO
    from edge.station.model.recipe_limits import demand_callable, demand_own_name

    demand_callable(settings, name)
    demand_own_name(settings.recipe.id if settings.recipe is not None else None, name)


def _any_name(_name: str) -> None:
    """Without a station's settings, nobody says who is to call a recipe."""


def _recipes_folder(options: argparse.Namespace, settings: "Settings | None") -> Path | None:
    named: Path | None = options.recipes
    if named is None and settings is not None and settings.recipes is not None:
        return Path(settings.recipes.folder)
    return named


def _challenge(options: argparse.Namespace) -> int:
    # OpenVINO, OpenCV and numba
    from edge.bundle.signing import ask_password
    from edge.challenge.run import StudyOrder, run_challenge
    from edge.station.model.tuning import tuning_path
    from edge.station.recording.journal_folder import journal_folder_seen_from

    settings = _settings(options, () if options.present else ("camera",))
    order = StudyOrder(
        folder=options.challenge,
        rounds=options.rounds,
        present=options.present,
        reports=options.report,
        key=options.key,
        password=ask_password(options.key) if options.key else None,
        journal=journal_folder_seen_from(options.config, settings),
        tuning=tuning_path(options.config, Path(settings.model.path)),
    )
    return run_challenge(settings, order, sys.stdin, print_line)


def _teach(options: argparse.Namespace) -> None:
    if options.source is None:
        raise ConfigurationError("--teach needs --from DIR, or --from camera.")
    # Of numpy's products, which read it when they are loaded.
    for library in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ[library] = str(options.threads)
    if options.output is not None and options.recipes is not None:
        raise ConfigurationError(
            "-o and --recipes cannot be combined: the model is written to one place. Leave one out."
        )
    live = options.source == Path(LIVE)
    if live and options.config is None:
        raise ConfigurationError(
            "--from camera takes the station's camera as its settings have it: "
            "--config STATION.yaml. A folder of that name is ./camera."
        )
    unused = ("model", "mqtt") if live else ("camera", "model")
    settings = _settings(options, unused) if options.config else None
    teacher = options.teacher
    if teacher is None and settings is not None and settings.teach is not None:
        teacher = Path(settings.teach.teacher)
    if teacher is None:
        raise ConfigurationError(
            "--teach needs --teacher TEACHER.xml, or --config STATION.yaml with teach.teacher."
        )
    with ExitStack() as kept:
        source = options.source
        if live:
            assert settings is not None
            source = _captured(settings, options, Path(kept.enter_context(TemporaryDirectory())))
        _run_teach(options, settings, source, teacher)


def _captured(settings: "Settings", options: argparse.Namespace, folder: Path) -> Path:
    """Take images of the station's camera, and return their folder."""
    # OpenCV and numba
    from edge.cli.capture import GOOD, capture_images

    with Stopper() as stopper:
        count = capture_images(
            settings.camera,
            folder,
            count=options.count or CAPTURED,
            every_s=options.every,
            emit=lambda line: write_line(f"{PROGRAM}: {line}", logging.INFO),
            stopping=lambda: stopper.stopped,
        )
        if stopper.stopped or not count:
            raise ConfigurationError(
                "nothing is taught: capturing was stopped before all images were taken."
            )
    return folder / GOOD


def _run_teach(
    options: argparse.Namespace, settings: "Settings | None", source: Path, teacher: Path
) -> None:
    lower_priority(COMPUTES_BESIDE)  # before the libraries are loaded, too
    # OpenVINO, OpenCV and numba
    from edge.bundle.signing import ask_password
    from edge.cli.teach import TeachCommand, run_teach
    from edge.station.recording.journal_folder import journal_folder_seen_from

    own = settings if options.recipes is None else None  # the folder is the station's
    if settings is not None and options.output is None:
        _check_name(settings, options.teach)
    run_teach(
        TeachCommand(
            name=options.teach,
            source=source,
            teacher=teacher,
            output=options.output,
            recipes=_recipes_folder(options, settings),
            count=options.count,
            views=options.views,
            check_good=not options.no_check_good,
            threads=options.threads,
            key=options.key,
            password=ask_password(options.key) if options.key else None,
            public_key=settings.model.public_key if settings else None,
            settings=options.product_settings,
            mask=options.mask,
            max_images=_max_images(settings),
            align=options.align,
            reference=options.reference,
            roi=options.roi,
            scale=options.scale,
            station=own,
            journal=journal_folder_seen_from(options.config, own) if own is not None else None,
        ),
        print_line,
    )


def _check(settings: "Settings", config: Path | None) -> str:
    # OpenCV, numba and pydantic
    from edge.app.secret_files import check_secrets
    from edge.bundle.loading import load_bundle
    from edge.bundle.signature import check_public_key
    from edge.cameras.factory import absent_folder, checked_kind
    from edge.settings.overrides import Overrides
    from edge.settings.unprotected_access import unprotected_access
    from edge.station.model.releases import Releases
    from edge.station.recording.journal_folder import SERVICE_SETTINGS, journal_folder_seen_from

    key = settings.model.public_key
    manifest = load_bundle(Path(settings.model.path), Path(key) if key else None).manifest
    if key and not settings.model.allow_downgrade:
        kept = Releases(journal_folder_seen_from(config, settings))
        kept.check(manifest, Path(settings.model.path))
    kind = checked_kind(settings.camera)
    own = settings.decision.image_threshold
    threshold, source = (manifest.threshold.image, "bundle") if own is None else (own, "station")
    folder = journal_folder_seen_from(config, settings)
    if folder is not None:
        overrides = Overrides.beside(folder)
        in_force, override = overrides.laid_over(settings), overrides.read()
        if override is not None and in_force != settings:
            source = f"set at the page by {override.by} at {override.utc}; {source}'s {threshold:g}"
            threshold = override.image_threshold
            settings = in_force
    for finding in unprotected_access(settings):
        logging.getLogger(__name__).warning("%s", finding)
    if config is not None and config.absolute().parent == SERVICE_SETTINGS:
        _warn_of_the_services_limits(settings, config)
    absent = absent_folder(settings.camera.uri)
    lines = [
        f"camera   {redacted(settings.camera.uri)} ({kind})"
        + (f"; {absent} is not connected now; the station will wait for it" if absent else ""),
        f"model    {manifest.identity.name}: {manifest.identity.algorithm} on "
        f"{manifest.input.width}×{manifest.input.height}, {settings.model.device}",
        f"decision threshold {threshold:g} ({source}), guard band {settings.decision.guard_band:g}",
    ]
    if not check_secrets(settings):
        lines.append("secrets  given by systemd when the station starts; not checked here")
    if settings.mqtt:
        lines.append(f"verdicts {settings.mqtt.url} {settings.mqtt.topic.verdict}")
    else:
        lines.append("verdicts standard output")
    if settings.fleet:
        check_public_key(Path(settings.fleet.public_key))
        lines.append(f"releases below {', '.join(settings.fleet.addresses)}")
    if settings.modbus:
        modbus = settings.modbus
        role = "leads the hand-shake" if modbus.leads else "watches"
        lines.append(f"modbus   {modbus.where}, unit {modbus.unit}; its PLC {role}")
    if settings.outputs:
        named = (f"{name}: {one.device} {one.line}" for name, one in settings.outputs.named())
        lines.append(f"outputs  {', '.join(named)}")
        for warning in settings.outputs.not_fail_safe():
            logging.getLogger(__name__).warning("%s", warning)
    if settings.decision.mask is not None:
        _check_mask(settings, manifest)
        lines.append(f"mask     {settings.decision.mask}")
    lines += _checked_recipes(settings)
    lines += _checked_codes(settings)
    if folder is not None:
        lines.append(f"journal  {folder}")
    if settings.save:
        lines.append(f"overlays {settings.save.folder}")
    lines.append(f"settings sha256 {settings.sha256}")
    return "\n".join(lines)


def _checked_recipes(settings: "Settings") -> list[str]:
    """Return a line about the recipes in force, each of which is read and verified."""
    # numpy and pydantic
    from edge.bundle.loading import load_bundle
    from edge.recipes.folder import RecipeFolder
    from edge.settings.layers import with_recipe
    from edge.station.model.recipe_limits import (
        demand_room,
        find_uncallable,
        model_bytes,
        recipes_in_force,
        uncallable_warning,
    )

    if settings.recipes is None:
        return []
    for name in find_uncallable(settings, recipes_in_force(settings)):
        logging.getLogger(__name__).warning("%s", uncallable_warning(name))
    folder, key = Path(settings.recipes.folder), settings.model.public_key
    recipes = RecipeFolder(folder)
    if not folder.is_dir():
        logging.getLogger(__name__).warning(
            "recipes.folder: %s does not exist yet; the first recipe that is added creates it",
            folder,
        )
    own = settings.recipe.id if settings.recipe is not None else None
    names = []
    for one in recipes.listing():
        if one.name == own:
            raise ConfigurationError(
                f"recipe.id {own!r}: a recipe in {folder} has the same name and would never "
                "be used. Give the model at model.path another name."
            )
        if one.in_force is None:
            names.append(f"{one.name} (none in force)")
            continue
        version = recipes.load(one.name)
        manifest = load_bundle(version.model, Path(key) if key else None).manifest
        _check_mask(with_recipe(settings, version), manifest)
        demand_room(settings.recipes, version, model_bytes(version.model))
        names.append(f"{one.name} {one.in_force}")
    return [f"recipes  {', '.join(names) or 'none'} in {folder}"]


def _checked_codes(settings: "Settings") -> list[str]:
    """Return a line about the codes on parts; those that cannot be read here are refused."""
    if settings.code is None:
        return []
    # OpenCV
    from edge.imaging.codes import demand_readable
    from edge.station.model.recipe_limits import recipes_of_codes_not_in_force

    demand_readable(settings.code.kinds)
    for name in recipes_of_codes_not_in_force(settings):
        logging.getLogger(__name__).warning(
            "code.recipe.names: recipe %s is not in force; parts whose code names it are ERROR",
            name,
        )
    named = "id and recipe" if settings.code.recipe is not None else "id"
    return [f"codes    {' and '.join(settings.code.kinds)}: {named} of the part"]


def _check_mask(settings: "Settings", manifest: "Manifest") -> None:
    if settings.decision.mask is None:
        return
    # OpenVINO and numba
    from edge.inspection.criteria import decision_criteria
    from edge.station.model.inspectors import station_limits

    decision_criteria(manifest, station_limits(settings))


def _warn_of_the_services_limits(settings: "Settings", config: Path) -> None:
    log = logging.getLogger(__name__)
    for path in hidden_from_service(settings.model_dump()):
        log.warning(
            "%s: the service does not see it (ProtectHome= of its unit). Choose another place, "
            "or open this one in a drop-in: BindReadOnlyPaths=%s",
            path,
            path.removeprefix("watch://"),
        )
    if os.geteuid() == 0:
        log.warning(
            "checked as root, who may read every file, but the service runs as edge. "
            "Check as edge: runuser -u edge -- %s --check --config %s",
            sys.argv[0],
            config,
        )


def _tune(settings: "Settings", config: Path | None) -> None:
    # OpenVINO
    from edge.bundle.loading import load_bundle
    from edge.inspection.graph_trial import try_model
    from edge.station.model import tuning

    model = settings.model
    bundle = load_bundle(Path(model.path))
    path = tuning.tuning_path(config, Path(model.path))
    check_writable(path)  # told before the measurement, not after it
    try_model(bundle, model.device)
    measured = []
    for result in tuning.tune(bundle, model.device, model.threads):
        measured.append(result)
        print_line(tuning.table([result], heading=len(measured) == 1))
    made = tuning.make_tuning(bundle, model.device, model.threads, measured)
    tuning.write_tuning(path, made)
    tiled = bundle.manifest.input.tile_plan is not None
    best = made.best(model.objective, tiled)
    print_line(
        f"{path}: for {model.objective} this PC runs {best.streams} streams of batch "
        f"{best.batch} on {counted(best.threads, 'thread')}"
    )


def _benchmark(settings: "Settings", config: Path | None) -> None:
    # OpenVINO, OpenCV and numba
    from edge.bundle.loading import load_bundle
    from edge.cameras.factory import some_frames
    from edge.cli.benchmark import benchmark, benchmark_table
    from edge.inspection.graph_trial import try_model
    from edge.station.model.inspectors import run_plan
    from edge.station.model.tuning import beside, tuning_path

    model = settings.model
    bundle = load_bundle(Path(model.path))
    path = beside(config, Path(model.path), "benchmark")
    check_writable(path)  # told before the measurement, not after it
    frames = some_frames(settings.camera, _BENCHMARK_FRAMES)
    plan = run_plan(settings, bundle, tuning_path(config, Path(model.path)))
    try_model(bundle, model.device, plan)
    result = benchmark(bundle, model.device, plan, frames, pairs=_BENCHMARK_PAIRS)
    write_whole(path, json.dumps(result, indent=2, ensure_ascii=False).encode() + b"\n")
    print_line(benchmark_table(result))
    print_line(f"written to {path}")


def _run(settings: "Settings", options: argparse.Namespace, stopper: Stopper) -> None:
    # OpenVINO, OpenCV, numba and paho-mqtt
    from edge.app.run import run_station
    from edge.settings.mqtt import DEFAULT_STATION
    from edge.station.model.tuning import tuning_path

    if settings.mqtt and settings.mqtt.station == DEFAULT_STATION:
        logging.getLogger(__name__).warning(
            "no --station given: publishing as %s; two stations with this name on one "
            "broker would collide",
            DEFAULT_STATION,
        )
    run_station(
        settings,
        once=options.once,
        tuning=tuning_path(options.config, Path(settings.model.path)),
        report=lambda r: write_line(f"{PROGRAM}: {r}", logging.INFO),
        reread=lambda: _settings(options),
        stopper=stopper,
    )


if __name__ == "__main__":
    sys.exit(main())
