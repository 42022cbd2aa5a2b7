"""Processes beside a station, for people: each ends with the link to its station."""

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection

from edge.hmi.ipc import Link
from edge.hmi.messages import PAGE_MESSAGES, PageMessage

END_LIMIT_S = 3.0


@dataclass(frozen=True, slots=True)
class ChildProcess:
    """A process, and the station's end of the link to it."""

    process: "subprocess.Popen[bytes]"
    link: Link[PageMessage]

    def end(self) -> None:
        """End it, by force if it does not go."""
        self.process.terminate()
        try:
            self.process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def spawn(module: str) -> ChildProcess:
    """Start a module that takes the descriptor of its link as its one argument."""
    ours, theirs = socket.socketpair()
    environment = dict(os.environ)
    environment.pop("NOTIFY_SOCKET", None)  # only the station speaks to the service manager
    environment.pop("WATCHDOG_USEC", None)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # the station's is for verdicts alone
            pass_fds=[theirs.fileno()],
            env=environment,
            start_new_session=True,  # Ctrl-C is for the station, which ends it in order
        )
    finally:
        theirs.close()
    return ChildProcess(process, Link(Connection(ours.detach()), PAGE_MESSAGES))
