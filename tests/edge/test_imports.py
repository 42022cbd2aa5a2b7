"""The edge is lean: what it imports, it needs on the inspection PC."""

import subprocess
import sys

HEAVY = {
    "lightning_fabric",
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

# Numba looks for SciPy by itself wherever it is imported, and does without.
SOUGHT_BY_NUMBA = {"scipy"}

# As on the inspection PC, where none of them is installed; prints which were asked for.
IMPORT_EVERYTHING = f"""
import importlib, pkgutil, sys
sought = set()
class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY}:
            sought.add(name.partition(".")[0])
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, NotInstalled())
import edge
names = [module.name for module in pkgutil.walk_packages(edge.__path__, "edge.")]
for name in names:
    importlib.import_module(name)
assert "edge.inspection.inspector" in names
print(*sorted(sought))
"""

IMPORT_EDGE = """
import sys
before = set(sys.modules)
import edge
loaded = {name for name in set(sys.modules) - before if sys.modules[name] is not None}
print(*sorted({name.partition(".")[0] for name in loaded}))
"""


def printed(script: str) -> set[str]:
    """Run a script in a process of its own and return the modules that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_every_module_of_the_edge_imports_without_any_training_library() -> None:
    assert printed(IMPORT_EVERYTHING) <= SOUGHT_BY_NUMBA


def test_importing_the_edge_alone_loads_nothing_else() -> None:
    assert printed(IMPORT_EDGE) - sys.stdlib_module_names == {"edge"}
