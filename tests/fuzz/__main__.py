"""Each parser for a bounded time: ``python -m tests.fuzz --minutes 10 --seed 1 [--only NAME]``.

A finding is written to ``build/fuzz/NAME-HASH`` and printed with what was raised; it belongs into
``tests/fuzz/findings/NAME-HASH``, which ``make test`` replays. Exit status 1 when there was one.
"""

import argparse
import hashlib
import sys
import time
import traceback
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fuzz.mutation import Finding, fuzz
from tests.fuzz.targets import TARGETS

FOUND = Path("build/fuzz")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for each parser")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=TARGETS, help="one parser")
    arguments = parser.parse_args()
    findings = 0
    for name in [arguments.only] if arguments.only else TARGETS:
        with TemporaryDirectory() as folder, closing(TARGETS[name](Path(folder))) as target:
            deadline = time.monotonic() + 60 * arguments.minutes

            def going_on(_: int, deadline: float = deadline) -> bool:
                return time.monotonic() < deadline

            try:
                done, lines = fuzz(target.parse, target.corpus, arguments.seed, going_on)
                print(f"{name}: {done} inputs, {lines} lines reached, nothing found", flush=True)
            except Finding as finding:
                findings += 1
                FOUND.mkdir(parents=True, exist_ok=True)
                digest = hashlib.sha256(finding.content).hexdigest()[:8]
                (FOUND / f"{name}-{digest}").write_bytes(finding.content)
                print(f"{name}: FOUND build/fuzz/{name}-{digest}: {finding}", flush=True)
                traceback.print_exception(finding.__cause__, limit=-6)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
