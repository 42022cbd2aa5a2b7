"""Regular expressions that take a bounded time over any text, whether it fits or not.

Python's engine tries one way after the other, and lets nothing else run meanwhile: over a code of
50 letters ``(?:(?:\\w+ ?)+;)?.+`` takes it days. Here each part of a pattern is matched once from
each place of the text, and keeps for each end the way that Python's would have found first.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial

# Python's own parser: what a pattern means is not read a second time here.
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

# By name, where a group was last matched; and such, by the ends of what was matched, in the order
# in which Python's engine would try them.
Groups = Mapping[str, tuple[int, int]]
Ends = dict[int, Groups]
Rest = Callable[[int], Ends]
_Character = Callable[[str], bool]

MAX_DEPTH = 20
# Over one text, a tenth of a second or two; over a code a sensible pattern takes some hundred.
MAX_STEPS = 400_000
_NOTHING: Groups = {}
_KNOWN_FLAGS = re.UNICODE | re.IGNORECASE | re.DOTALL | re.VERBOSE | re.MULTILINE


class TooManySteps(Exception):
    """A pattern takes too long over a text."""


class _Text:
    """A text that is matched, and what was found out about it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.length = len(text)
        self.steps = 0
        self.found: dict[tuple[object, int], Ends] = {}
        self.optional: dict[object, list[Ends]] = {}

    def followed(self, ends: Ends, rest: Rest) -> Ends:
        """Return where what begins at each of the ends ends; of several ways the first.

        Raises:
            TooManySteps: all in all.
        """
        followed: Ends = {}
        for place, groups in ends.items():
            beyond = rest(place)
            self.steps += len(beyond) + 1
            if self.steps > MAX_STEPS:
                raise TooManySteps
            for end, more in beyond.items():
                if end not in followed:
                    followed[end] = {**groups, **more} if more else groups
        return followed


_Match = Callable[[_Text, int], Ends]


class BoundedPattern:
    """A regular expression of a whole text, without look-around and references back.

    Attributes:
        groups: names of its groups.
    """

    def __init__(self, pattern: str) -> None:
        """Prepare to match.

        Raises:
            ValueError: what is wrong with the pattern.
        """
        try:
            re.compile(pattern)
            parsed = parser.parse(pattern)
        except (re.error, RecursionError) as error:
            raise ValueError(str(error)) from error
        state = parsed.state
        if state.flags & ~_KNOWN_FLAGS:
            raise ValueError("only the flags i, m, s and x can be used")
        self.groups = frozenset(state.groupdict)
        names = {number: name for name, number in state.groupdict.items()}
        self._match = _Compiler(names, bool(state.flags & re.IGNORECASE)).sequence(parsed)

    def fullmatch(self, text: str) -> dict[str, str] | None:
        """Return what the groups hold that were matched; None where the text does not fit.

        A group within a repetition holds what it matched last.

        Raises:
            TooManySteps: it takes too long.
        """
        found = self._match(_Text(text), 0).get(len(text))
        if found is None:
            return None
        return {name: text[first:end] for name, (first, end) in found.items()}


class _Compiler:
    """Makes matchers of what Python's parser has read."""

    def __init__(self, names: Mapping[int, str], ignore_case: bool) -> None:
        self._names = names
        self._ignore_case = ignore_case

    def sequence(self, items: Iterable[tuple[Any, Any]], depth: int = 0) -> _Match:
        if depth > MAX_DEPTH:
            raise ValueError(f"its groups lie in each other, more than {MAX_DEPTH} deep")
        return _sequence([self._item(kind, value, depth + 1) for kind, value in items])

    def _item(self, kind: Any, value: Any, depth: int) -> _Match:
        character = self._character(kind, value)
        if character is not None:
            return _run(character, 1, 1, greedy=True)
        if kind in (op.MAX_REPEAT, op.MIN_REPEAT):
            least, most, items = value
            greedy = kind is op.MAX_REPEAT
            repeated = self._character(*items[0]) if len(items) == 1 else None
            if repeated is not None:
                return _run(repeated, least, most, greedy=greedy)
            return _repeated(self.sequence(items, depth), least, most, greedy=greedy)
        if kind is op.SUBPATTERN:
            number, added, removed, items = value
            if added or removed:
                raise ValueError("flags stand at its beginning, for all of it")
            return _named(self._names.get(number), self.sequence(items, depth))
        if kind is op.BRANCH:
            return _either([self.sequence(items, depth) for items in value[1]])
        if kind is op.AT:
            return _at(value)
        raise ValueError("look-around, references back and atomic groups are not supported")

    def _character(self, kind: Any, value: Any) -> _Character | None:
        """Return what tests one character, where the item is one."""
        if kind is op.ANY:
            return lambda one: one != "\n"
        if kind is op.LITERAL:
            return self._in_any_case(lambda one: ord(one) == value)
        if kind is op.NOT_LITERAL:
            return _negated(self._in_any_case(lambda one: ord(one) == value))
        if kind is not op.IN:
            return None
        tests = [_member(*member) for member in value if member[0] is not op.NEGATE]
        found = self._in_any_case(lambda one: any(test(one) for test in tests))
        return _negated(found) if value[0][0] is op.NEGATE else found

    def _in_any_case(self, test: _Character) -> _Character:
        if not self._ignore_case:
            return test
        return lambda one: any(
            test(form) for form in (one, one.lower(), one.upper()) if len(form) == 1
        )


def _member(kind: Any, value: Any) -> _Character:
    """Return what tests a character for a member of a class."""
    if kind is op.LITERAL:
        return lambda one: ord(one) == value
    if kind is op.RANGE:
        return lambda one: value[0] <= ord(one) <= value[1]
    tests: dict[Any, _Character] = {
        op.CATEGORY_DIGIT: str.isdecimal,
        op.CATEGORY_NOT_DIGIT: _negated(str.isdecimal),
        op.CATEGORY_SPACE: str.isspace,
        op.CATEGORY_NOT_SPACE: _negated(str.isspace),
        op.CATEGORY_WORD: _in_word,
        op.CATEGORY_NOT_WORD: _negated(_in_word),
    }
    return tests[value]


def _negated(test: _Character) -> _Character:
    return lambda one: not test(one)


def _in_word(one: str) -> bool:
    return one.isalnum() or one == "_"


def _run(test: _Character, least: int, most: int, *, greedy: bool) -> _Match:
    """Match so many characters of one kind."""

    def match(text: _Text, at: int) -> Ends:
        end = at
        while end < text.length and end - at < most and test(text.text[end]):
            end += 1
        ends = range(at + least, end + 1)
        return dict.fromkeys(reversed(ends) if greedy else ends, _NOTHING)

    return match


def _sequence(matches: list[_Match]) -> _Match:
    def match(text: _Text, at: int) -> Ends:
        ends: Ends = {at: _NOTHING}
        for one in matches:
            ends = text.followed(ends, partial(one, text))
        return ends

    return _kept(match)


def _named(name: str | None, inner: _Match) -> _Match:
    if name is None:
        return inner
    return lambda text, at: {
        end: {**groups, name: (at, end)} for end, groups in inner(text, at).items()
    }


def _either(choices: list[_Match]) -> _Match:
    return lambda text, at: _first(*(one(text, at) for one in choices))


def _first(*ways: Ends) -> Ends:
    """Return the ends of all, each as the first of them has it."""
    ends: Ends = {}
    for one in ways:
        for end, groups in one.items():
            ends.setdefault(end, groups)
    return ends


def _repeated(body: _Match, least: int, most: int, *, greedy: bool) -> _Match:
    """Match a group so many times."""
    endless = most is op.MAXREPEAT

    key = object()

    def optional(text: _Text) -> list[Ends]:
        """Return, by place, what may come there beyond the least rounds."""
        before: list[Ends] = [{place: _NOTHING} for place in range(text.length + 1)]
        for _ in range(1 if endless else min(most - least, text.length + 1)):
            after: list[Ends] = [{} for _ in before]
            rest = after if endless else before
            for place in range(text.length, -1, -1):  # one round leads further to the right
                longer = text.followed(body(text, place), partial(_after_round, rest, place))
                stop: Ends = {place: _NOTHING}
                after[place] = _first(longer, stop) if greedy else _first(stop, longer)
            before = after
        return before

    def match(text: _Text, at: int) -> Ends:
        ends: Ends = {at: _NOTHING}
        for _ in range(min(least, text.length + 1)):
            ends = text.followed(ends, partial(body, text))
        if key not in text.optional:
            text.optional[key] = optional(text)
        return text.followed(ends, text.optional[key].__getitem__)

    return _kept(match)


def _after_round(rest: list[Ends], place: int, end: int) -> Ends:
    """Return what may follow a round; after one that took no character there is no other."""
    return rest[end] if end > place else {place: _NOTHING}


def _at(kind: Any) -> _Match:
    """Match nothing, at a place of this kind."""

    def holds(text: _Text, at: int) -> bool:
        if kind in (op.AT_BEGINNING, op.AT_BEGINNING_STRING):
            return at == 0
        if kind in (op.AT_END, op.AT_END_STRING):
            return at == text.length
        before = at > 0 and _in_word(text.text[at - 1])
        after = at < text.length and _in_word(text.text[at])
        return (before != after) == (kind is op.AT_BOUNDARY)

    return lambda text, at: {at: _NOTHING} if holds(text, at) else {}


def _kept(match: _Match) -> _Match:
    """Match once from each place of a text."""
    key = object()

    def matched(text: _Text, at: int) -> Ends:
        found = text.found.get((key, at))
        if found is None:
            found = text.found[key, at] = match(text, at)
        return found

    return matched
