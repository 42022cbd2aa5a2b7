"""``make simulate``: days of stations under seeds, faults included, and each promise checked.

python -m tests.simulation --seed 1 --stations 10 --days 1
python -m tests.simulation --mutations
"""

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tests.simulation.days import run_seeds
from tests.simulation.mutations import MUTATIONS, TABLE_HEAD, find, line
from tests.simulation.plan import PARTS, make_plan
from tests.simulation.shrinking import report, shrink
from tests.simulation.world import run_plan


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the first station")
    parser.add_argument("--stations", type=int, default=10, help="each with the next seed")
    parser.add_argument("--days", type=int, default=1, help="of each station")
    parser.add_argument("--parts", type=int, default=PARTS, help="of a day")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--minutes", type=float, default=None, help="begin no more after so long")
    parser.add_argument(
        "--mutations", action="store_true", help="break the product on purpose, and be found out"
    )
    parser.add_argument("--only", default="", help="mutations whose name has this")
    parser.add_argument("--seeds", type=int, default=20, help="that a mutation may take")
    parser.add_argument("--story", action="store_true", help="print the end of each story")
    wanted = parser.parse_args()
    if wanted.mutations:
        return _mutations(wanted)
    return _days(wanted)


def _days(wanted: argparse.Namespace) -> int:
    began_s = time.monotonic()
    seeds = [str(wanted.seed + number) for number in range(wanted.stations)]
    done, broken = 0, []
    verdicts: Counter[str] = Counter()
    checked: Counter[str] = Counter()
    parts = restarts = 0
    until_s = None if wanted.minutes is None else began_s + 60 * wanted.minutes
    outcomes = run_seeds(
        seeds, wanted.days, wanted.parts, processes=wanted.processes, until_s=until_s
    )
    for seed, outcome in outcomes:
        done += 1
        parts += outcome.parts
        restarts += outcome.restarts
        verdicts.update(outcome.verdicts)
        checked.update(outcome.checked)
        if wanted.story:
            print(outcome.story)
        print(
            f"seed {seed}: {outcome.parts} parts, {outcome.restarts} restarts, "
            f"story {outcome.story_sha256[:16]}"
            f"{'' if outcome.violation is None else f', BROKEN {outcome.violation}'}",
            flush=True,
        )
        if outcome.violation is not None:
            broken.append(seed)
    elapsed_s = time.monotonic() - began_s
    days = done * wanted.days
    print(
        f"{days} station-days, {parts} parts, {sum(verdicts.values())} verdicts "
        f"({', '.join(f'{count} {name}' for name, count in sorted(verdicts.items()))}), "
        f"{restarts} restarts, {sum(checked.values())} checks "
        f"({', '.join(f'{name} {count}' for name, count in sorted(checked.items()))}): "
        f"{len(broken)} broken promises, in {elapsed_s:.0f} s"
    )
    for seed in broken[:3]:
        plan = make_plan(seed, wanted.days, wanted.parts)
        print(report(*shrink(plan, run_plan(plan))))
    return 1 if broken else 0


def _mutations(wanted: argparse.Namespace) -> int:
    names = [one.name for one in MUTATIONS if wanted.only in one.name]
    found = []
    with ProcessPoolExecutor(wanted.processes, get_context("spawn")) as pool:
        print(TABLE_HEAD)
        for one in pool.map(find, names, [wanted.seeds] * len(names)):
            found.append(one)
            print(line(one), flush=True)
    return 0 if all(one.seed is not None for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
