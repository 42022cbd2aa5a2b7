"""A build of teaching in a process of its own: started, listened to, and ended."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from pydantic import ValidationError

from edge.errors import StationError
from edge.system.priority import COMPUTES_BESIDE
from edge.teaching.build_process import BuildReport, BuildRequest

# A PC that takes longer has no time to build beside its line.
LIMIT_S = 1800.0
END_LIMIT_S = 3.0
# Of the service manager, for the station alone; credentials are read by their paths.
_NOT_INHERITED = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class BuildNotStarted(StationError):
    """The process could not be started; cause and next step."""


class Build:
    """One build; whoever started it looks now and then, and nothing here waits."""

    def __init__(self, asked: BuildRequest, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Start it.

        Raises:
            BuildNotStarted: there is no memory or process left for it.
        """
        self._clock_s = clock_s
        self._until_s = clock_s() + LIMIT_S
        self._buffer = b""
        environment = {key: os.environ[key] for key in os.environ if key not in _NOT_INHERITED}
        # Of numpy's products, which read it when they are loaded.
        for library in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
            environment[library] = str(asked.threads)
        # -P: a folder named edge in the working directory is none of ours.
        command = [sys.executable, "-P", "-m", "edge.teaching.build_process"]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the station, which ends it
            )
        except OSError as error:
            raise BuildNotStarted(
                f"nothing can be built in a process of its own ({error.strerror}). Free memory, or "
                "raise the limit of processes."
            ) from error
        with suppress(OSError):  # before it loads its libraries, too; it has gone already
            os.setpriority(os.PRIO_PROCESS, self._process.pid, COMPUTES_BESIDE)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._out = self._process.stdout.fileno()
        os.set_blocking(self._out, False)
        os.write(self._process.stdin.fileno(), asked.model_dump_json().encode() + b"\n")

    def news(self) -> Iterator[BuildReport]:
        """Yield what it has sent since; the last report has a result or what refused it."""
        ended = self._process.poll() is not None
        self._read()
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            try:
                report = BuildReport.model_validate_json(line)
            except ValidationError:
                continue
            yield report
            if report.result is not None or report.refused:
                return
        if ended:
            yield self._how_it_ended()
        elif self._clock_s() > self._until_s:
            self.end()
            yield BuildReport(
                refused=[f"nothing was built within {LIMIT_S / 60:g} minutes. Use fewer images."],
                refused_kind="too_long",
                refused_data={"minutes": round(LIMIT_S / 60)},
            )

    def end(self) -> None:
        """End it, by force if it does not go."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(END_LIMIT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _read(self) -> None:
        while True:
            try:
                found = os.read(self._out, 65536)
            except BlockingIOError:
                return
            if not found:
                return
            self._buffer += found

    def _how_it_ended(self) -> BuildReport:
        code = self._process.returncode
        if code == -9:
            why = (
                "the build was killed, probably because memory ran out. Free memory, or use "
                "fewer images."
            )
            return BuildReport(refused=[why], refused_kind="memory")
        why = f"the build ended with code {code}. See the log of the station."
        return BuildReport(refused=[why], refused_kind="ended", refused_data={"code": code})
