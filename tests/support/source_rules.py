"""The rules of the house over the source text: who imports whom, and how classes are built."""

import ast
import gc
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGES = ("edge", "training", "export")

# From the top down; rooms of one rank do not know each other.
RANKS = (
    ("cli", "api"),
    ("app", "fleet"),
    ("hmi", "doctor", "challenge"),
    ("station", "teaching"),
    ("listen",),
    ("cameras", "mqtt", "plc"),
    ("journal", "settings"),
    ("ports", "processes"),
    ("contract",),
    ("recipes",),
    ("inspection",),
    ("bundle",),
    ("imaging",),
)
# Under all rooms, and importing none of them.
GROUND_FLOOR = frozenset(
    {"system", "errors", "redaction", "atomic_files", "csv_table", "validation"}
    | {"yaml_lines", "section", "token_bucket", "wording"}
)
# What training and export may import besides the ground floor.
SHARED_ROOMS = frozenset({"imaging", "bundle", "inspection", "recipes", "teaching"})

HEAVY = (
    *("torch", "torchvision", "lightning-fabric", "tensorboard", "OpenVINO", "NNCF", "ONNX"),
    *("numba", "OpenCV", "numpy", "pydantic", "paho-mqtt", "cryptography", "Aravis", "optuna"),
    *("pymodbus", "gpiod", "protobuf", "zxing-cpp", "asyncua", "fsspec", "aiohttp", "SQLAlchemy"),
    "alembic",
)
IO_MODULES = frozenset(
    {"asyncio", "concurrent", "ctypes", "io", "logging", "multiprocessing", "os", "pathlib"}
    | {"queue", "select", "shutil", "signal", "socket", "sqlite3", "subprocess", "sys"}
    | {"tempfile", "threading", "time", "urllib.request", "cv2", "openvino", "paho", "yaml"}
)
# Pure of what IO_MODULES hold: bytes for ids, and the names of paths.
PURE_PARTS = frozenset({"os.urandom", "os.fsencode", "os.path"})

MAX_POSITIONAL = 4
SECTIONS = frozenset({"Args:", "Attributes:", "Raises:", "Returns:", "Yields:"})

# Words that a reader of the field meets nowhere else, each with what is said in their place.
PRIVATE_WORDS = {
    **dict.fromkeys(("tell", "tells", "told", "said"), "report, log, publish or notify"),
    **dict.fromkeys(("picture", "pictures"), "image, or frame where a camera gave it"),
    **dict.fromkeys(("deeds", "ears", "onlooker"), "handlers, reader or observer"),
    **dict.fromkeys(("tally", "tallied", "fewest", "owed"), "totals, min or expected"),
}
# First words of functions: callbacks are on_x, queues have get and put.
PRIVATE_VERBS = {
    "say": "emit, log or publish",
    "note": "record or count",
    "take": "get, read, accept or on_x",
}
SUPERLATIVES = frozenset({"MOST", "LARGEST", "LONGEST", "HIGHEST", "FEWEST", "LEAST", "SMALLEST"})
# Of files and settings that stay readable, and of an API that is not ours.
CONTRACT_NAMES = frozenset(
    {"picture_width_px", "pictures_per_second", "pictures_per_s", "most_pictures"}
)


@dataclass(frozen=True, slots=True)
class Module:
    """One source file.

    Attributes:
        name: dotted, of a package without ``__init__``.
        path: relative to the root.
        nodes: of the tree, which is walked once: rules look at them again and again. Without
            the contexts of names, which stand there once for each name.
    """

    name: str
    path: Path
    source: str
    tree: ast.Module
    nodes: tuple[ast.AST, ...]

    @property
    def room(self) -> str:
        """Return the second part of the name; empty for a package's own ``__init__``."""
        return self.name.partition(".")[2].partition(".")[0]


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module, or name of a module."""

    target: str
    line: int

    @property
    def room(self) -> str:
        return self.target.partition(".")[2].partition(".")[0]


def read_modules(root: Path, packages: Iterable[str] = PACKAGES) -> list[Module]:
    """Read every module below the packages' folders."""
    found = []
    # A million nodes, none of which is garbage, would be looked through again and again.
    collecting = gc.isenabled()
    gc.disable()
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            source = path.read_text("utf-8")
            tree = ast.parse(source)
            found.append(Module(name, path.relative_to(root), source, tree, _nodes_below(tree)))
    if collecting:
        gc.enable()
    return found


def _nodes_below(tree: ast.Module) -> tuple[ast.AST, ...]:
    """Return the nodes of a tree as ``ast.walk`` does, in half its time."""
    found: list[ast.AST] = [tree]
    for node in found:  # grows meanwhile
        for value in vars(node).values():
            if isinstance(value, ast.AST):
                if not isinstance(value, ast.expr_context):
                    found.append(value)
            elif isinstance(value, list):
                found.extend(one for one in value if isinstance(one, ast.AST))
    return tuple(found)


def find_imports(module: Module) -> Iterator[Import]:
    """Yield what a module imports anywhere, also in functions and for types alone."""
    for node in module.nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                yield Import(f"{base}.{alias.name}", node.lineno)


def upward_imports(modules: Iterable[Module]) -> list[str]:
    """Return the imports inside of ``edge`` that do not go downwards."""
    rank = {room: -number for number, rooms in enumerate(RANKS) for room in rooms}
    faults = []
    for module in _of(modules, "edge"):
        if module.room not in rank and module.room not in GROUND_FLOOR | {"", "__main__"}:
            faults.append(f"{module.path}: the room {module.room!r} has no rank")
        for one in find_imports(module):
            if not one.target.startswith("edge.") or one.room == module.room:
                continue
            own, other = rank.get(module.room), rank.get(one.room)
            # ``import edge`` alone, and a name of edge/__init__.py, is the ground floor.
            if other is None or module.room in ("", "__main__"):
                continue
            if own is None or other >= own:
                faults.append(f"{module.path}:{one.line}: {module.room} imports {one.target}")
    return faults


def foreign_imports(modules: Iterable[Module]) -> list[str]:
    """Return what training and export import of ``edge`` that only a station needs.

    Also what ``edge`` imports of them, training of export, and relative imports, which hide it.
    """
    below = {"edge": ("training", "export"), "training": ("export",), "export": ()}
    faults = []
    for module in modules:
        package = module.name.split(".")[0]
        for one in find_imports(module):
            top = one.target.split(".")[0]
            shared = one.room in SHARED_ROOMS | GROUND_FLOOR or one.room.startswith("__")
            refused = package != "edge" and top == "edge" and "." in one.target and not shared
            if refused or top in below[package] or one.target.startswith("."):
                faults.append(f"{module.path}:{one.line}: {package} imports {one.target}")
    return faults


def reaches(modules: Iterable[Module], start: str, goal: str) -> list[str]:
    """Return the modules below ``goal`` that one below ``start`` imports, whatever the way."""
    by_name = {module.name: module for module in modules}
    waiting = [name for name in by_name if _within(name, start)]
    seen = set(waiting)
    while waiting:
        for one in find_imports(by_name[waiting.pop()]):
            for name in (one.target, one.target.rpartition(".")[0]):
                if name in by_name and name not in seen:
                    seen.add(name)
                    waiting.append(name)
    return sorted(name for name in seen if _within(name, goal))


def import_circles(modules: Iterable[Module]) -> list[str]:
    """Return the files that import each other in a circle, so that their order decides."""
    by_name = {module.name: module for module in modules}
    below = {name: _loaded_with(module, by_name) for name, module in by_name.items()}
    done = set[str]()
    return [circle for start in by_name for circle in _circles(start, (), below, done)]


def _circles(
    name: str, way: tuple[str, ...], below: Mapping[str, set[str]], done: set[str]
) -> Iterator[str]:
    if name in way:
        yield " → ".join([*way[way.index(name) :], name])
    elif name not in done:
        for one in sorted(below[name]):
            yield from _circles(one, (*way, name), below, done)
        done.add(name)


def _loaded_with(module: Module, by_name: Mapping[str, Module]) -> set[str]:
    """Return what is loaded with a module: imports in functions, and for types alone, are not."""
    waiting: list[ast.AST] = list(module.tree.body)
    found = set[str]()
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in by_name else str(node.module) for name in names}
        waiting += ast.iter_child_nodes(node)
    return found & by_name.keys() - {module.name}


def missing_modules(modules: Iterable[Module]) -> list[str]:
    """Return the imports of modules that are not there, in functions, too: nobody loads these."""
    modules = list(modules)
    there = {module.name for module in modules}
    packages = {name.split(".")[0] for name in there}
    faults = []
    for module in modules:
        for node in module.nodes:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [node.module]
            faults += [
                f"{module.path}:{getattr(node, 'lineno', 1)}: {name}"
                for name in names
                if name.split(".")[0] in packages and name not in there
            ]
    return faults


def repeated_classes(modules: Iterable[Module]) -> list[str]:
    """Return the public names that two classes share."""
    places = defaultdict(list)
    for module in modules:
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(module.path))
    return [f"{name}: {', '.join(found)}" for name, found in places.items() if len(found) > 1]


def long_constructors(modules: Iterable[Module]) -> list[str]:
    """Return the classes whose constructor takes more than four arguments by position."""
    faults = []
    for module in modules:
        for node in module.nodes:
            if isinstance(node, ast.ClassDef):
                count = _positional(node)
                if count:
                    faults.append(f"{module.path}:{node.lineno}: {node.name} takes {count}")
    return faults


def long_functions(modules: Iterable[Module]) -> list[str]:
    """Return the functions that take more than four arguments by position.

    Compiled ones are left out: a call by name costs what compiling gained, where it is possible.
    """
    faults = []
    for module in modules:
        owned = {
            item: node
            for node in module.nodes
            if isinstance(node, ast.ClassDef)
            for item in node.body
        }
        for node in module.nodes:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            options = [ast.unparse(one) for one in node.decorator_list]
            if node.name == "__init__" or any("kernel" in one for one in options):
                continue
            count = len(node.args.posonlyargs) + len(node.args.args)
            count -= node in owned and "staticmethod" not in options
            if count > MAX_POSITIONAL:
                faults.append(f"{module.path}:{node.lineno}: {node.name} takes {count}")
    return faults


def _positional(node: ast.ClassDef) -> int:
    """Return how many arguments a constructor takes where some are not by name; 0 for few."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            given = item.args
            by_position = len(given.posonlyargs) + len(given.args) - 1
            count = by_position + len(given.kwonlyargs)
            return count if by_position and count > MAX_POSITIONAL else 0
    options = [ast.unparse(one) for one in node.decorator_list]
    made = [one for one in options if one.startswith("dataclass")]
    if not made or "kw_only=True" in made[0]:
        return 0
    count = sum(
        isinstance(item, ast.AnnAssign)
        and "ClassVar" not in ast.unparse(item.annotation)
        and not (item.value is not None and "init=False" in ast.unparse(item.value))
        for item in node.body
    )
    return count if count > MAX_POSITIONAL else 0


def unexplained_imports(modules: Iterable[Module]) -> list[str]:
    """Return the imports in functions without a comment that names the library they delay.

    The comment ends on the line before the first of several imports that follow each other.
    """
    faults = []
    for module in modules:
        if not any(
            isinstance(n, ast.Import | ast.ImportFrom) and n.col_offset for n in module.nodes
        ):
            continue
        lines = module.source.splitlines()
        for function in module.nodes:
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for first in _first_imports(function):
                comment = _comment_before(lines, first.lineno)
                if not any(name.lower() in comment.lower() for name in HEAVY):
                    faults.append(f"{module.path}:{first.lineno}: {ast.unparse(first)}")
    return faults


def _first_imports(function: ast.AST) -> Iterator[ast.stmt]:
    for node in ast.walk(function):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, [])
            before: ast.stmt | None = None
            for statement in block if isinstance(block, list) else []:
                kinds = (ast.Import, ast.ImportFrom)
                if isinstance(statement, kinds) and not isinstance(before, kinds):
                    yield statement
                before = statement


def _comment_before(lines: list[str], number: int) -> str:
    comment: list[str] = []
    for line in reversed(lines[: number - 1]):
        if not line.strip().startswith("#"):
            break
        comment.insert(0, line.strip())
    return " ".join(comment)


def io_in_contract(modules: Iterable[Module]) -> list[str]:
    """Return where the contract touches a file, a clock, a connection or a thread."""
    faults = []
    for module in modules:
        if not _within(module.name, "edge.contract"):
            continue
        pure = {
            node.value
            for node in module.nodes
            if isinstance(node, ast.Attribute) and ast.unparse(node) in PURE_PARTS
        }
        for node in module.nodes:
            if isinstance(node, ast.Name) and node.id in IO_MODULES and node not in pure:
                faults.append(f"{module.path}:{node.lineno}: {node.id}")
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("open", "print", "input"):
                faults.append(f"{module.path}:{node.lineno}: {ast.unparse(node.func)}()")
        for one in find_imports(module):
            parts = one.target.split(".")
            names = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
            if names & (IO_MODULES - {"os"}) or (parts[0] == "os" and len(parts) > 1):
                faults.append(f"{module.path}:{one.line}: imports {one.target}")
    return faults


def private_words(modules: Iterable[Module]) -> list[str]:
    """Return the names that are made with a word of our own where the field has one."""
    faults = []
    for module in modules:
        for node in module.nodes:
            made = _made_name(node)
            if not made:
                continue
            advice = _advice(made, isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
            if advice:
                line = getattr(node, "lineno", 0)
                faults.append(f"{module.path}:{line}: {made} (use {advice})")
    return faults


def _made_name(node: ast.AST) -> str:
    """Return the name that a statement gives to something; empty where it gives none."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return node.name
    if isinstance(node, ast.arg):
        return node.arg
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        return node.attr
    return ""


@cache
def _advice(name: str, is_function: bool) -> str:
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    if not words or name in CONTRACT_NAMES:
        return ""
    if name.isupper() and SUPERLATIVES & set(name.split("_")):
        return "MAX_ or MIN_"
    if is_function and words[0] in PRIVATE_VERBS:
        return PRIVATE_VERBS[words[0]]
    if is_function and words[0] != "test" and len(words) > 1 and words[-1] == "of":
        return "make_x, read_x or find_x"
    return next((PRIVATE_WORDS[word] for word in words if word in PRIVATE_WORDS), "")


def sections_first(modules: Iterable[Module]) -> list[str]:
    """Return the docstrings that begin with a section, and say in no sentence what they are of."""
    faults = []
    for module in modules:
        for node in module.nodes:
            documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
            text = ast.get_docstring(node) if isinstance(node, documented) else None
            if text and text.partition("\n")[0] in SECTIONS:
                name = getattr(node, "name", module.name)
                faults.append(f"{module.path}:{getattr(node, 'lineno', 1)}: {name}")
    return faults


def early_lambdas(modules: Iterable[Module]) -> list[str]:
    """Return the lambdas that stand in for a part which their function builds only after them."""
    faults = []
    for module in modules:
        if "lambda" not in module.source:
            continue
        for function in module.nodes:
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                built = _first_lines(function)
                for node in ast.walk(function):
                    if not isinstance(node, ast.Lambda):
                        continue
                    own = {one.arg for one in ast.walk(node.args) if isinstance(one, ast.arg)}
                    faults += [
                        f"{module.path}:{node.lineno}: {name}"
                        for name in sorted(_read_names(node.body) - own)
                        if built.get(name, 0) > (node.end_lineno or node.lineno)
                    ]
    return faults


def _first_lines(function: ast.AST) -> dict[str, int]:
    """Return on which line a function first assigns each of its names.

    Names of ``self`` count in a constructor alone: elsewhere they are there before.
    """
    found: dict[str, int] = {}
    for node in ast.walk(function):
        name = _read_name(node)
        if "." in name and getattr(function, "name", "") != "__init__":
            continue
        if name and isinstance(getattr(node, "ctx", None), ast.Store):
            line = getattr(node, "lineno", 0)
            found[name] = min(line, found.get(name, line))
    return found


def _read_names(node: ast.AST) -> set[str]:
    return {name for one in ast.walk(node) if (name := _read_name(one))}


def _read_name(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self":
        return f"self.{node.attr}"
    return ""


def builders_of_the_page(modules: Iterable[Module]) -> list[str]:
    """Return who imports the page's end of the station, or its window, beside ``app``."""
    return [
        f"{module.path}:{one.line}: {module.name} imports {one.target}"
        for module in _of(modules, "edge")
        if module.room not in ("app", "hmi")
        for one in find_imports(module)
        if _within(one.target, "edge.hmi.station_end") or _within(one.target, "edge.hmi.window")
    ]


def clocks_read_by_records(modules: Iterable[Module]) -> list[str]:
    """Return fields of records and arguments whose default reads the clock: time is passed in."""
    found = []
    for module in modules:
        for node in module.nodes:
            defaults: list[ast.expr | None] = []
            if isinstance(node, ast.keyword) and node.arg == "default_factory":
                defaults = [node.value]
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                calls = [*node.args.defaults, *node.args.kw_defaults]
                defaults = [one.func for one in calls if isinstance(one, ast.Call)]
            found += [
                f"{module.path}:{one.lineno}: {ast.unparse(one)}"
                for one in defaults
                if one is not None and _CLOCK.match(ast.unparse(one))
            ]
    return found


_CLOCK = re.compile(r"(?:lambda: )?(?:time\.(?:time|monotonic|perf_counter)|datetime\.now)\b")

# What messages count; one of it is written without its s.
COUNTED = "images|parts|verdicts|records|files|frames|stations|tiles|rows|triggers|messages|entries"
COUNTED += "|events|edges|scores|recipes|rounds|checks|threads|pairs|stations|showings|defects"
_COUNTED = re.compile(rf" (?:(?!and|of|or)[a-z-]+ ){{0,3}}?(?:{COUNTED})\b")
# These are no counts, or bounds that are never one.
_NO_COUNTS = re.compile(
    r"what|kind|key|config\.algorithm|_listed\(loose\)|more|opcua\.host|folds|' or '.*|wrong\[0\]"
    r"|(?:agreeing|counted)\(.*|[A-Z_]+"
)


def uncounted(modules: Iterable[Module]) -> list[str]:
    """Return counts that stand before a plural whatever they are: ``1 images``."""
    return [
        f"{module.path}:{line}: {{{what}}}{behind[:40]}"
        for module in modules
        for node in module.nodes
        for what, behind, line in _placeholders(node)
        if _COUNTED.match(behind) and not _NO_COUNTS.fullmatch(what)
    ]


def _placeholders(node: ast.AST) -> Iterator[tuple[str, str, int]]:
    """Yield what a message puts in, the text behind it, and where."""
    if isinstance(node, ast.JoinedStr):
        for value, text in zip(node.values, node.values[1:], strict=False):
            if isinstance(value, ast.FormattedValue) and isinstance(text, ast.Constant):
                yield ast.unparse(value.value), str(text.value), node.lineno
    elif isinstance(node, ast.Call) and ast.unparse(node.func).startswith("log."):
        first = node.args[0] if node.args else None
        if isinstance(first, ast.Constant):
            for behind in str(first.value).split("%d")[1:]:
                yield "%d", behind, node.lineno


def all_faults(modules: list[Module]) -> Mapping[str, list[str]]:
    """Return by rule what breaks it."""
    return {
        "imports go downwards": upward_imports(modules),
        "training and export know nothing of the station": foreign_imports(modules),
        "the page's process loads nothing of the station's end": reaches(
            modules, "edge.hmi.server", "edge.hmi.station_end"
        ),
        "the station never names the page": reaches(modules, "edge.station", "edge.hmi"),
        "only app builds station and page": builders_of_the_page(modules),
        "no circle of files": import_circles(modules),
        "no public class name twice": repeated_classes(modules),
        "long constructors take names": long_constructors(modules),
        "long functions take names": long_functions(modules),
        "an import in a function names the library it delays": unexplained_imports(modules),
        "the contract knows no I/O and no thread": io_in_contract(modules),
        "names are words of the field": private_words(modules),
        "no lambda stands in for a part": early_lambdas(modules),
        "a docstring begins with a sentence": sections_first(modules),
        "no record reads the clock": clocks_read_by_records(modules),
        "a count agrees with what is counted": uncounted(modules),
    }


def _of(modules: Iterable[Module], package: str) -> Iterator[Module]:
    return (module for module in modules if _within(module.name, package))


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")
