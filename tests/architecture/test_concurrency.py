"""The table of threads, processes and queues in docs/architecture.md is that of the code."""

from pathlib import Path

from tests.support.concurrency import built
from tests.support.source_rules import read_modules

ROOT = Path(__file__).parents[2]
KINDS = ("thread", "timer", "process", "queue")


def test_the_table_names_each_thread_process_and_queue_of_the_code() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (ROOT / "docs" / "architecture.md").read_text("utf-8").splitlines()
        if line.startswith(tuple(f"| {kind} |" for kind in KINDS))
    ]
    assert all(len(row) == 6 and all(row) for row in rows)
    reported = [(kind, name, file) for kind, name, file, *_ in rows]
    assert sorted(reported) == sorted(built(read_modules(ROOT, ("edge",))))


def test_what_a_module_builds_is_found(tmp_path: Path) -> None:
    (tmp_path / "edge").mkdir()
    (tmp_path / "edge" / "a.py").write_text(
        "threading.Thread(target=run)\nThread(target=run, name='one')\n"
        "Worker(f'part {n}', run, failures)\nasked: Queue[int] = queue.Queue(3)\n"
        "Timer(3.0, late.end)\nspawn('edge.other')\n"
    )
    assert {(kind, name) for kind, name, _ in built(read_modules(tmp_path, ("edge",)))} == {
        ("thread", "run"),
        ("thread", "one"),
        ("thread", "part N"),
        ("queue", "Queue"),
        ("timer", "end"),
        ("process", "edge.other"),
    }
