"""A process beside a line gives way with all of its threads."""

import os
import subprocess
import sys

LOWERED = """
import numpy as np
import os
from edge.system.priority import COMPUTES_BESIDE, READ_BESIDE, lower_priority

np.ones((200, 200)) @ np.ones((200, 200))  # OpenBLAS has started its threads
for niceness in (COMPUTES_BESIDE, READ_BESIDE):  # the second is no reason to come back
    lower_priority(niceness)
print(*(os.getpriority(os.PRIO_PROCESS, int(one)) for one in os.listdir("/proc/self/task")))
"""


def test_threads_that_a_library_has_started_give_way_too() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOWERED],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "2"},
        capture_output=True,
        check=True,
        text=True,
    )
    found = done.stdout.split()
    assert (len(found) > 1, set(found)) == (True, {"19"}), found
