"""Requests made from the page's own description, right and wrong ones, at a page that runs.

``python -m tests.fuzz.page --minutes 10 --seed 1``: schemathesis (MIT) asks every route that the
description names, and holds each answer to it: no error of the server, a status, a media type and a
content that are described. Exit status 1 when one is not.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.page_station import TOKEN, PageStation
from tests.support.small_bundle import write_bundle, write_images

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance"
)
# It answers as long as somebody listens.
ENDLESS = "^/api/stream$"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        camera = {"uri": str(write_images(folder / "images", 2, 2)), "rate_fps": 5, "loop": True}
        station = PageStation(folder / "station", camera, write_bundle(folder))
        with station:
            command = [
                *(
                    sys.executable,
                    "-c",
                    "from schemathesis.cli import schemathesis; schemathesis()",
                    "run",
                ),
                f"{station.address}/api/openapi.json",
                *("--checks", CHECKS, "--max-time", f"{60 * arguments.minutes:g}"),
                *("--seed", str(arguments.seed), "--exclude-path-regex", ENDLESS),
                *("--header", f"Authorization: Bearer {TOKEN}", "--header", "X-Edge-Request: 1"),
                *("--request-timeout", "30", "--continue-on-failure", "--no-color"),
            ]
            status = subprocess.run(command, check=False, cwd=folder).returncode
            ended = station.stop()
    if ended:
        print(f"the station ended with {ended}")
    return int(bool(status or ended))


if __name__ == "__main__":
    sys.exit(main())
