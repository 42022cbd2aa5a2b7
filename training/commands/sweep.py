"""``train-station sweep``: a search for good hyperparameters."""

import argparse

from edge.system.log_output import print_line
from training.commands.benchmark import command_line, prepare_output, study_place
from training.commands.options import fit_options
from training.config import load_config, taking_good_as_good
from training.data.data_notices import report_unused
from training.errors import SettingError
from training.report.tables import write_sweep
from training.studies import ERROR, OpenStudy, open_study
from training.sweep import (
    SweepConfig,
    claim_study,
    parse_search,
    run_sweep,
    sampler,
    search_digest,
)
from training.tracking import open_trackers, read_numbers


def run(arguments: argparse.Namespace) -> int:
    """Search, and write the table of what was found."""
    prepare_output(arguments.output)
    options = fit_options(arguments) | {
        "trials": arguments.trials,
        "objective": arguments.objective,
        "search": parse_search(arguments.search) or None,
    }
    config = taking_good_as_good(load_config(SweepConfig, arguments.config, options))
    report_unused(config.data)
    digest = search_digest(config)
    place = study_place(arguments, f"{arguments.output.stem}-{digest}")
    opened = open_study(place, sampler(config))
    claim_study(opened, digest)
    trials = run_sweep(opened, config)
    if not trials:
        raise SettingError(f"no trial of the sweep succeeded. The last one: {_last_error(opened)}")
    with open_trackers(config.track) as trackers:
        trackers.start({"command": "sweep", "objective": config.objective})
        for trial in sorted(trials, key=lambda trial: trial.number):
            trackers.log(trial.number, read_numbers({**trial.user_attrs, **trial.params}))
    written = write_sweep(arguments.output, trials, config.objective, command_line())
    best = trials[0]
    print_line(f"best of {len(trials)}: trial {best.number}, {config.objective} {best.value:.4f}")
    for name, value in best.params.items():
        print_line(f"  {name} = {value}")
    print_line(", ".join(str(path) for path in written))
    return 0


def _last_error(opened: OpenStudy) -> str:
    errors = [t.user_attrs[ERROR] for t in opened.trials() if ERROR in t.user_attrs]
    return errors[-1] if errors else "none was made."
