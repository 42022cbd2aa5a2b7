"""Runs a function block in structured text: the subset of IEC 61131-3 that ours keeps to.

Line by line into Python, so that the text that a PLC gets is what the tests run. Numbers wrap as
their types do.
"""

import re
from typing import Any

BITS = {"BOOL": 1, "UINT": 16, "WORD": 16, "UDINT": 32}


class FunctionBlock:
    """One instance; inputs and outputs are attributes, ``cycle`` is one call."""

    def __init__(self, text: str) -> None:
        text = re.sub(r"\(\*.*?\*\)", "", text, flags=re.DOTALL)
        head, _, body = text.rpartition("END_VAR\n")
        self.types: dict[str, str] = {}
        self.values: dict[str, Any] = {}
        for name, size, kind, initial in re.findall(
            r"(\w+) : (?:ARRAY\[0\.\.(\d+)\] OF )?(\w+)(?: := ([\w#]+))?;", head
        ):
            self.types[name] = kind
            first = _expression(initial) if initial else "0"
            value = eval(first, {})
            self.values[name] = [0] * (int(size) + 1) if size else value
        self._program = compile(_python(body), "the function block", "exec")

    def cycle(self, **inputs: Any) -> None:
        """Call the block once."""
        self.values |= inputs
        scope: dict[str, Any] = {"values": self.values, "wrapped": self._wrapped}
        exec(self._program, scope)

    def __getattr__(self, name: str) -> Any:
        return self.values[name]

    def _wrapped(self, name: str, value: int) -> int:
        return int(value) & (1 << BITS[self.types[name]]) - 1


def _python(body: str) -> str:
    lines, depth, first = list[str](), 0, False
    for raw in body.splitlines():
        line = raw.strip().rstrip(";")
        indent = "    " * depth
        if not line or line == "END_FUNCTION_BLOCK":
            continue
        if match := re.fullmatch(r"IF (.*) THEN", line):
            lines.append(f"{indent}if {_expression(match[1])}:")
            depth += 1
        elif match := re.fullmatch(r"ELSIF (.*) THEN", line):
            lines.append(f"{indent[4:]}elif {_expression(match[1])}:")
        elif line == "ELSE":
            lines.append(f"{indent[4:]}else:")
        elif match := re.fullmatch(r"CASE (.*) OF", line):
            lines.append(f"{indent}chosen = {_expression(match[1])}")
            first = True
            depth += 1
        elif match := re.fullmatch(r"(\d+):", line):
            lines.append(f"{indent[4:]}{'if' if first else 'elif'} chosen == {match[1]}:")
            first = False
        elif match := re.fullmatch(r"FOR (\w+) := (\d+) TO (\d+) DO", line):
            lines.append(f"{indent}for values['{match[1]}'] in range({match[2]}, {match[3]} + 1):")
            depth += 1
        elif line in ("END_IF", "END_CASE", "END_FOR"):
            depth -= 1
        elif match := re.fullmatch(r"(\w+)(\[.*\])? := (.*)", line):
            name, index, value = match.groups()
            place = f"[{_expression(index[1:-1])}]" if index else ""
            whole = f"wrapped('{name}', {_expression(value)})"
            lines.append(f"{indent}values['{name}']{place} = {whole}")
        else:
            raise AssertionError(f"no statement of the subset: {line}")
    assert depth == 0
    return "\n".join(lines)


def _expression(text: str) -> str:
    words = {"AND": "&", "OR": "|", "MOD": "%", "NOT": "1 -", "TRUE": "1", "FALSE": "0", "=": "=="}
    found = []
    for token in re.findall(r"16#[0-9A-F]+|\w+|<>|>=|<=|\S", text):
        if token.startswith("16#"):
            found.append(f"0x{token[3:]}")
        elif token in words:
            found.append(words[token])
        elif token == "<>":
            found.append("!=")
        elif re.fullmatch(r"\w+_TO_\w+", token):
            found.append("int")
        elif re.fullmatch(r"[A-Za-z_]\w*", token):
            found.append(f"values['{token}']")
        else:
            found.append(token)
    return " ".join(found)
