"""A process ends with its own exit code, whatever its threads are doing."""

import subprocess
import sys

# Threads in OpenCV's encoder while Python shuts down, as a station has that keeps large images.
ENCODING = """
import sys, threading
import cv2, numpy as np, openvino
image = np.random.default_rng(1).integers(0, 255, (20, 500, 3)).astype(np.uint8)
begun = threading.Event()
def encode():
    while True:
        cv2.imencode(".png", image)
        begun.set()
for _ in range(4):
    threading.Thread(target=encode, daemon=True).start()
begun.wait()
core = openvino.Core()
"""


def ended(how: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", ENCODING + how]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_thread_in_native_code_does_not_abort_edge_run() -> None:
    done = ended("import edge.cli.main; sys.argv = ['edge-run', '--config', '/none', '--check']\n"
                 "print('said before'); edge.cli.main.main()")  # fmt: skip

    assert done.returncode == 78, done.stderr
    assert done.stdout == "said before\n"
    assert "/none" in done.stderr


def test_a_process_without_such_threads_ends_as_always() -> None:
    code = (
        "import atexit, threading, time; from edge.system.process_end import exit_process\n"
        "atexit.register(print, 'the end')\n"
        "threading.Thread(target=lambda: (time.sleep(0.1), print('done'))).start()\n"
        "exit_process(3)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (3, "done\nthe end\n")
