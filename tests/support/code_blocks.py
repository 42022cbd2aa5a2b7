"""The code blocks of README and docs, and the commands in them."""

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
OUR_PROGRAMS = (
    *("edge-run", "edge-listen", "edge-fleet", "edge-sign", "train-station", "export-model"),
)
_FENCE = re.compile(r"(?ms)^```(\w*)\n(.*?)^```$")
_SEPARATORS = frozenset({"&&", "&", "|", ";"})


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        document: path within the project.
        line: of its fence, from 1.
        language: as the fence says; empty where it says none.
        title: the last inline code of the text before it, as ``verdict``.
    """

    document: str
    line: int
    language: str
    text: str
    title: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a shell block, without ``sudo`` and the folder of its program."""

    place: str
    program: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.place} {shlex.join((self.program, *self.arguments))}"


def documents() -> list[Path]:
    """Return README, the other documents at the root, and docs/."""
    return [
        *sorted(ROOT.glob("*.md"), key=lambda p: p.name != "README.md"),
        *sorted(ROOT.glob("docs/*.md")),
    ]


def blocks() -> list[Block]:
    """Return every fenced block, in the order of reading."""
    found = []
    for path in documents():
        text = path.read_text("utf-8")
        for match in _FENCE.finditer(text):
            before = text[: match.start()]
            titles = re.findall(r"`([^`\n]+)`", before[-300:])
            name = str(path.relative_to(ROOT))
            found.append(
                Block(
                    name, before.count("\n") + 1, match[1], match[2], titles[-1] if titles else ""
                )
            )
        assert text.count("\n```") == 2 * len(_FENCE.findall(text)), f"{path}: an open fence"
    return found


def shell_commands(block: Block) -> Iterator[Command]:
    """Give the commands of a shell block, each part of a pipe for itself."""
    for line in block.text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word not in _SEPARATORS:
                words.append(word)
            elif words:
                yield _command(str(block), words)
                words = []


def inline_commands(programs: Iterable[str] = OUR_PROGRAMS) -> Iterator[Command]:
    """Give the commands of these programs that stand in the text as inline code with an option."""
    pattern = re.compile(rf"`((?:{'|'.join(programs)}) [^`]*)`")
    for path in documents():
        text = path.read_text("utf-8")
        text = _FENCE.sub(lambda match: "\n" * match[0].count("\n"), text)
        for match in pattern.finditer(text):
            place = f"{path.relative_to(ROOT)}:{text[: match.start()].count(chr(10)) + 1}"
            yield _command(place, shlex.split(match[1].replace("\n", " ")))


def _command(place: str, words: list[str]) -> Command:
    while re.fullmatch(r"\w+=.*", words[0]) or words[0] == "sudo":
        words = words[1:]
    if ">" in words:
        words = words[: words.index(">")]  # what follows is the shell's
    if words[0] == "runuser":
        words = words[words.index("--") + 1 :]
    program = words[0] if words[0].startswith("systemd/") else words[0].rpartition("/")[2]
    return Command(place, program, tuple(words[1:]))
