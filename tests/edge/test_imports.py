"""The edge is lean: what it imports, it needs on the inspection PC."""

import subprocess
import sys

HEAVY = {
    "torch",
    "torchvision",
    "lightning",
    "nncf",
    "onnx",
    "onnxruntime",
    "sklearn",
    "scipy",
    "matplotlib",
    "training",
    "export",
}

IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
import edge
names = [module.name for module in pkgutil.walk_packages(edge.__path__, "edge.")]
for name in names:
    importlib.import_module(name)
assert "edge.inspection.inspector" in names
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""

IMPORT_EDGE = """
import sys
before = set(sys.modules)
import edge
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""


def loaded(script: str) -> set[str]:
    """Run a script in a process of its own and return the top-level modules that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_no_module_of_the_edge_loads_a_training_library() -> None:
    assert not loaded(IMPORT_EVERYTHING) & HEAVY


def test_importing_the_edge_alone_loads_nothing_else() -> None:
    assert loaded(IMPORT_EDGE) == {"edge"}
