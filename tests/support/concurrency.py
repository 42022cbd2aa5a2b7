"""Which threads, processes and queues the code of ``edge`` builds, read from its text."""

import ast
from collections.abc import Iterable, Iterator

from tests.support.source_rules import Module

QUEUES = frozenset(
    {"Queue", "SimpleQueue", "EveryMailbox", "LatestMailbox", "CommandQueue", "WriteQueue"}
    | {"Handover"}
)


def built(modules: Iterable[Module]) -> set[tuple[str, str, str]]:
    """Return kind, name and file of each thread, process and queue."""
    return {
        (kind, name, module.path.as_posix())
        for module in modules
        for node in module.nodes
        if isinstance(node, ast.Call)
        for kind, name in _built(node, module)
    }


def _built(call: ast.Call, module: Module) -> Iterator[tuple[str, str]]:
    function = call.func.value if isinstance(call.func, ast.Subscript) else call.func
    what = ast.unparse(function).rpartition(".")[2]
    given = {one.arg: one.value for one in call.keywords}
    if what == "Worker":
        yield "thread", _text(call.args[0])
    elif what == "Thread":
        yield "thread", _text(given.get("name", given.get("target")))
    elif what == "ThreadPoolExecutor":
        yield "thread", _text(given.get("thread_name_prefix"))
    elif what == "Timer":
        yield "timer", _text(call.args[1])
    elif what == "spawn" and not module.name.endswith("child_process"):
        yield "process", _text(call.args[0])
    elif what == "Popen" and not module.name.endswith("child_process"):
        yield "process", module.name
    elif what in QUEUES:
        yield "queue", what


def _text(node: ast.expr | None) -> str:
    """Return a literal name, NAME for what varies, and of a function its own name."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(p.value) if isinstance(p, ast.Constant) else "N" for p in node.values)
    if isinstance(node, ast.Attribute):
        return node.attr
    text = ast.unparse(node) if node is not None else ""
    return "NAME" if text == "name" else text
