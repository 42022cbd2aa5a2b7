"""Changed bytes, led by the lines that they reach: what reaches a new line is changed further.

No atheris: libFuzzer ends the process at the first finding and has one target a process; this
replays exactly from a seed, on any Python, and the parsers are Python.
"""

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

MAX_LENGTH = 65_536
MAX_KEPT = 400
_OURS = str(Path(__file__).parents[2])
_ROOMS = tuple(f"{_OURS}/{room}/" for room in ("edge", "training"))
_INTERESTING = (
    b"\x00",
    b"\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\x00\x00\x00",
    b"\xff" * 8,
    b"0",
    b"-1",
    b"1e999",
    b"NaN",
    b"9" * 30,
    b"null",
    b"[]",
    b"{}",
    b'"',
    b"\\u0000",
    b"\xed\xa0\x80",
    b"../",
    b"\r\n\r\n",
    b"\n",
    b": ",
    b"&a [*a]",
)

Place = tuple[CodeType, int]


def mutated(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """Change some bytes: flip, cut, repeat, insert, and join with another one."""
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        at = chance.randrange(len(changed) + 1)
        end = min(len(changed), at + chance.choice((1, 1, 2, 4, 16, 256)))
        match chance.randrange(8):
            case 0 if at < len(changed):
                changed[at] ^= 1 << chance.randrange(8)
            case 1 if at < len(changed):
                changed[at] = chance.randrange(256)
            case 2:
                del changed[at:end]
            case 3:
                changed[at:at] = changed[at:end] * chance.choice((1, 2, 50))
            case 4:
                changed[at:at] = chance.choice(_INTERESTING)
            case 5:
                changed[at:end] = chance.choice(_INTERESTING)
            case 6:
                changed[at:] = other[min(at, len(other)) :]
            case 7 if changed:
                begin = chance.randrange(len(changed))
                changed[at:at] = changed[begin : begin + chance.choice((1, 4, 32))]
    return bytes(changed[:MAX_LENGTH])


class Lines:
    """The lines of ours that a call reached."""

    def __init__(self) -> None:
        self.known: set[Place] = set()
        self._new = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        self._new = False
        before = sys.gettrace()
        sys.settrace(self._called)
        try:
            yield
        finally:
            sys.settrace(before)

    @property
    def reached_new(self) -> bool:
        return self._new

    def _called(self, frame: FrameType, _event: str, _: Any) -> Any:
        return self._line if frame.f_code.co_filename.startswith(_ROOMS) else None

    def _line(self, frame: FrameType, _event: str, _: Any) -> Any:
        place = (frame.f_code, frame.f_lineno)
        if place not in self.known:
            self.known.add(place)
            self._new = True
        return self._line


class Finding(Exception):
    """Bytes that a parser neither takes nor refuses with an error of its own."""

    def __init__(self, content: bytes) -> None:
        super().__init__(f"{len(content)} bytes, {content[:200]!r}")
        self.content = content


def fuzz(
    target: Callable[[bytes], None],
    corpus: Sequence[bytes],
    seed: int,
    going_on: Callable[[int], bool],
) -> tuple[int, int]:
    """Call a target with changed bytes.

    Args:
        target: raises nothing for bytes that it refuses as it should.
        going_on: asked before each call, with how many there were.

    Returns:
        How many calls there were, and how many lines they reached.

    Raises:
        Finding: from what the target raised.
    """
    chance = random.Random(seed)
    lines = Lines()
    kept = list(corpus)
    done = 0
    while going_on(done):
        if done < len(corpus):
            content = corpus[done]
        else:
            content = mutated(chance.choice(kept), chance.choice(kept), chance)
        try:
            with lines.watched():
                target(content)
        except Exception as error:  # whatever it is, the bytes are wanted
            raise Finding(content) from error
        if lines.reached_new and done >= len(corpus) and len(kept) < MAX_KEPT:
            kept.append(content)
        done += 1
    return done, len(lines.known)
