"""edge-fleet: brings a release to many stations, in waves, and shows what each of them has."""

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import uuid4

from edge.errors import StationError
from edge.fleet.errors import PlanInvalid, RolloutRefused, RolloutStopped
from edge.fleet.fleet_link import Retained
from edge.fleet.leader import Lead, Leader, look, next_claim, see
from edge.fleet.plan import chosen, make_waves, read_plan
from edge.fleet.release_file import put_release, read_release
from edge.fleet.rollout import Rollout, Stage
from edge.fleet.station_rows import rows_json, rows_table, station_rows
from edge.mqtt.broker_options import add_broker_options, broker_settings
from edge.settings.mqtt import MqttSettings
from edge.system.log_output import log_to_stderr, print_line, write_line
from edge.system.process_start import prepare_process
from edge.wording import counted

# Of the broker's packets, with room for topic and properties.
MAX_ROLLOUT_BYTES = 60_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``edge-fleet``; return its exit status."""
    if arguments is None:
        prepare_process()
    options = _parser().parse_args(arguments)
    log_to_stderr()
    ended = threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: ended.set())
    try:
        run: Callable[[argparse.Namespace, Callable[[], bool]], None] = options.run
        run(options, ended.is_set)
    except StationError as error:
        write_line(f"edge-fleet: {error}")
        return error.exit_code
    return 0


def _release(options: argparse.Namespace, stopping: Callable[[], bool]) -> None:
    settings, plan = broker_settings(options), read_plan(options.plan)
    release, manifest = read_release(options.file, plan, options.public_key)
    retained = look(settings, stopping)
    _refuse_a_second(retained)
    if retained.owner is not None and retained.owner.online:
        raise RolloutRefused(
            f"{retained.owner.owner} leads a roll-out. Let it end, or end it with abort."
        )
    stations = chosen(plan, list(retained.reports))
    if not stations:
        raise PlanInvalid(
            f"{options.plan}: no station of the plan takes releases. Known: "
            f"{', '.join(sorted(retained.reports)) or 'none'}. Give the stations a section fleet."
        )
    foreign = [one for one in stations if not manifest.meant_for(one)]
    if foreign:
        raise PlanInvalid(
            f"{options.plan}: {release} is not meant for {', '.join(foreign[:5])}. Remove "
            "them from the plan, or make the release for them, too."
        )
    online = [one for one in stations if see(retained, one).online]
    if not online:
        raise PlanInvalid(
            f"{options.plan}: none of its stations is online, so none can be the canary."
        )
    put_release(options.file, release, plan)
    rollout = Rollout(
        id=f"{manifest.version}-{uuid4().hex[:12]}",
        claim=next_claim(retained),
        release=release,
        plan=plan,
        waves=tuple(tuple(wave) for wave in make_waves(plan, stations, online)),
    )
    size = len(rollout.model_dump_json())
    if size > MAX_ROLLOUT_BYTES:
        raise PlanInvalid(
            f"{options.plan}: {counted(len(stations), 'station makes', 'stations make')} a "
            f"record of {size} bytes; at "
            f"most {MAX_ROLLOUT_BYTES} can be sent through the broker. Split the plan, "
            "and release to one group after the other."
        )
    lead = Lead(settings, rollout.claim, stopping)
    _refuse_a_second(lead.link.retained)
    print_line(f"roll-out {rollout.id}: {release} to {counted(len(stations), 'station')}")
    _lead(lead, rollout, stopping)


def _refuse_a_second(retained: Retained) -> None:
    rollout = retained.rollout
    if rollout is not None and not rollout.stage.over:
        raise RolloutRefused(
            f"roll-out {rollout.id} of {rollout.release} is "
            f"{rollout.stage.replace('_', ' ')}. Continue with `edge-fleet resume`, or "
            "end it with abort or rollback."
        )


def _pause(options: argparse.Namespace, stopping: Callable[[], bool]) -> None:
    _change(options, stopping, Stage.PAUSED, (Stage.RUNNING,))


def _abort(options: argparse.Namespace, stopping: Callable[[], bool]) -> None:
    _change(options, stopping, Stage.ABORTED, (Stage.RUNNING, Stage.PAUSED))


def _roll_back(options: argparse.Namespace, stopping: Callable[[], bool]) -> None:
    every = tuple(one for one in Stage if one is not Stage.ROLLED_BACK)
    _change(options, stopping, Stage.ROLLING_BACK, every)


def _resume(options: argparse.Namespace, stopping: Callable[[], bool]) -> None:
    settings = broker_settings(options)
    retained = look(settings, stopping)
    owner = retained.owner
    if owner is not None and owner.online and not options.take_over:
        raise RolloutRefused(
            f"{owner.owner} leads. Let it continue, stop it with pause, or add "
            "--take-over if it no longer runs."
        )
    _change(options, stopping, Stage.RUNNING, (Stage.RUNNING, Stage.PAUSED, Stage.ROLLING_BACK))


def _change(
    options: argparse.Namespace,
    stopping: Callable[[], bool],
    stage: Stage,
    possible: tuple[Stage, ...],
) -> None:
    """Take the lead of the roll-out there is, and bring it to another stage."""
    settings = broker_settings(options)
    retained = look(settings, stopping)
    _known(settings, retained, possible)
    lead = Lead(settings, next_claim(retained), stopping)
    rollout = _known(settings, lead.link.retained, possible)
    rollout = rollout.model_copy(update={"claim": lead.owner.claim})
    again = stage is Stage.RUNNING
    if again and rollout.stage is Stage.ROLLING_BACK:
        stage = Stage.ROLLING_BACK
    reason = rollout.reason if stage is Stage.ROLLING_BACK else ""
    _lead(lead, rollout.became(stage, reason), stopping, again=again)


def _known(settings: MqttSettings, retained: Retained, possible: tuple[Stage, ...]) -> Rollout:
    rollout = retained.rollout
    if rollout is None:
        raise RolloutRefused(f"{settings.url}: there is no roll-out. Start one with release.")
    if rollout.stage not in possible:
        raise RolloutRefused(
            f"roll-out {rollout.id} is {rollout.stage.replace('_', ' ')}, and this is for one that "
            f"is {' or '.join(one.replace('_', ' ') for one in possible)}."
        )
    return rollout


def _lead(
    lead: Lead, rollout: Rollout, stopping: Callable[[], bool], *, again: bool = False
) -> None:
    leader = Leader(lead, rollout, print_line)
    if again:
        leader.ask_again(leader.seen())
    try:
        end = leader.run(stopping)
    finally:
        lead.end()
    print_line(f"roll-out {end.id}: {end.stage.replace('_', ' ')}")
    if end.stage is Stage.ROLLED_BACK and rollout.stage is not Stage.ROLLING_BACK:
        raise RolloutStopped(f"rolled back: {end.reason}")
    if end.stage is Stage.PAUSED and rollout.stage is not Stage.PAUSED:
        raise RolloutStopped(
            f"paused: {end.reason}. Continue with resume, or end it with rollback."
        )
    if not end.stage.over and end.stage is not Stage.PAUSED:
        print_line("stations that were asked continue; lead it further with `edge-fleet resume`")


def _status(options: argparse.Namespace, stopping: Callable[[], bool]) -> None:
    retained = look(broker_settings(options), stopping, options.wait)
    rows = station_rows(retained)
    for line in (rows_json if options.json else rows_table)(retained, rows):
        print_line(line)


def _overview(options: argparse.Namespace, _stopping: Callable[[], bool]) -> None:
    # OpenCV and numpy come along with the station's page
    from edge.fleet.overview import FleetView, listen, serve

    view = FleetView(broker_settings(options), options.title)
    listening = listen(options.host, options.port)
    view.connect()
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    serve(
        view,
        listening,
        tuple(options.allowed_host),
        lambda: print_line(f"overview: http://{shown}:{port}"),
    )


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 3600:
        raise argparse.ArgumentTypeError("must be 0 to 3600 seconds")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-fleet",
        description="Bring a release to many stations in waves, and show what each of them has.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    release = commands.add_parser("release", help="begin a roll-out and lead it")
    release.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="file written by `edge-run --recipe export` or `edge-sign settings`",
    )
    release.add_argument("--plan", type=Path, required=True, metavar="FILE", help="YAML or JSON")
    release.add_argument(
        "--public-key",
        type=Path,
        metavar="FILE",
        help="public key of the stations, to check the release here, too",
    )
    for name, run, text in (
        ("pause", _pause, "start no further wave; takes over from the command that leads"),
        ("resume", _resume, "continue the roll-out from where it is"),
        ("abort", _abort, "end it; stations keep what they have"),
        ("rollback", _roll_back, "return all stations to what was in force before"),
        ("status", _status, "what each station has"),
    ):
        one = commands.add_parser(name, help=text, description=text)
        one.set_defaults(run=run)
        add_broker_options(one)
        if name == "resume":
            one.add_argument(
                "--take-over",
                action="store_true",
                help="take over even from a command that seems to lead",
            )
        if name == "status":
            one.add_argument("--json", action="store_true", help="one JSON object")
            one.add_argument(
                "--wait",
                type=_seconds,
                default=0.0,
                metavar="S",
                help="longest time to wait for counts of parts, which stations report every 10 s",
            )
    overview = commands.add_parser("overview", help="serve a read-only page of all stations")
    overview.add_argument(
        "--host", default="127.0.0.1", help="address to listen at (default 127.0.0.1: this PC only)"
    )
    overview.add_argument(
        "--port", type=int, default=8090, help="0 takes a free one (default 8090)"
    )
    overview.add_argument("--title", default="", help="of the page")
    overview.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="host name under which the page is requested",
    )
    overview.set_defaults(run=_overview)
    add_broker_options(overview)
    release.set_defaults(run=_release)
    add_broker_options(release)
    return parser


if __name__ == "__main__":
    sys.exit(main())
