"""The page of all stations: how soon it is there in a browser, and what its process holds.

python -m tests.bench.overview [STATIONS]

A real mosquitto has retained what so many stations report; ``edge-fleet overview`` serves the page,
and Chromium loads it until each station has its row.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from playwright.sync_api import expect

from tests.support.broker import Broker
from tests.support.browser import running_browser
from tests.support.fleet_states import publish_states

LOADS = 5


def main(count: int) -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder, running_browser() as browser:
        broker = Broker(Path(folder))
        broker.start()
        client = publish_states(broker.port, count)
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "edge.fleet.cli", "overview", "--port", "0"),
                *("--mqtt", broker.url),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[-1]
            loaded_s = []
            for _ in range(LOADS):
                page = browser.new_page()
                began_s = time.perf_counter()
                page.goto(address)
                expect(page.locator("#rows tr")).to_have_count(count)
                loaded_s.append(time.perf_counter() - began_s)
                page.close()
            resident = psutil.Process(process.pid).memory_info().rss
        finally:
            process.terminate()
            process.wait()
            client.disconnect()
            client.loop_stop()
            broker.close()
    print(
        f"{count} stations: loaded in {statistics.median(loaded_s):.2f} s (median of {LOADS}, most "
        f"{max(loaded_s):.2f} s), {resident / 2**20:.0f} MiB resident"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
