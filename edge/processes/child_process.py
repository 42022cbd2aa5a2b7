"""Processes beside a station: each ends with the link to it."""

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Generic

from pydantic import TypeAdapter

from edge.processes.link import Incoming, Link

END_LIMIT_S = 3.0


@dataclass(frozen=True, slots=True)
class ChildProcess(Generic[Incoming]):
    """A process, and the station's end of the link to it."""

    process: "subprocess.Popen[bytes]"
    link: Link[Incoming]

    def end(self) -> None:
        """End it, by force if it does not go."""
        self.process.terminate()
        try:
            self.process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def spawn(module: str, incoming: TypeAdapter[Incoming]) -> ChildProcess[Incoming]:
    """Start a module that takes the descriptor of its link as its one argument.

    Args:
        incoming: of what it may send.
    """
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
    return ChildProcess(process, Link(Connection(ours.detach()), incoming))
