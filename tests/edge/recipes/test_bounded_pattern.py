"""A pattern matches what Python's own engine matches, and never takes long over it."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.recipes.bounded_pattern import BoundedPattern, TooManySteps

CHARACTERS = st.sampled_from(
    ["a", "b", "/", ".", "[ab]", "[^a]", r"\w", r"\D", "[a-y]", "가", r"\b", "^", "$"]
)
REPETITIONS = st.sampled_from(["*", "+", "?", "{1,2}", "{2}", "{0,3}", "{2,}", "*?", "+?", "??"])


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    grouped = inner.map(lambda one: f"(?:{one})")
    return st.one_of(
        st.lists(inner, min_size=2, max_size=4).map("".join),
        st.tuples(inner, inner).map("|".join).map(lambda one: f"(?:{one})"),
        st.tuples(grouped, REPETITIONS).map("".join),
    )


PATTERNS = st.recursive(CHARACTERS, larger, max_leaves=8)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    first=PATTERNS,
    second=PATTERNS,
    third=PATTERNS,
    flags=st.sampled_from(["", "(?i)"]),
    texts=st.lists(st.text("aAb/가 ", max_size=8), min_size=3, max_size=3),
)
def test_it_finds_what_pythons_engine_finds(
    first: str, second: str, third: str, flags: str, texts: list[str]
) -> None:
    pattern = f"{flags}(?P<one>{first})(?:{second})?(?P<two>{third})"
    bounded, expected = BoundedPattern(pattern), re.compile(pattern)

    for text in texts:
        found = expected.fullmatch(text)
        assert bounded.fullmatch(text) == (found and found.groupdict()), text


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("(?P<one>a)?b", "b", {}),
        ("(?:(?P<one>[ab])/)+", "a/b/", {"one": "b"}),
        ("(?x) (?P<one> a+ )  # some", "aa", {"one": "aa"}),
        ("(?i)(?P<one>[^k])", "K", None),
        ("(?P<one>a{2})", "aaa", None),
    ],
)
def test_groups_hold_what_was_matched_last(
    pattern: str, text: str, found: dict[str, str] | None
) -> None:
    assert BoundedPattern(pattern).fullmatch(text) == found


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("(?P<one>", "unterminated"),
        ("(?P<one>a)(?P=one)", "references back"),
        ("(?<=a)b", "look-around"),
        ("(?>a+)", "atomic groups"),
        ("a++", "atomic groups"),
        ("(?i:a)b", "flags stand at its beginning"),
        ("(?a)a", "only the flags"),
        ("(" * 30 + "a" + ")" * 30, "more than 20 deep"),
        ("(" * 5000 + "a" + ")" * 5000, "."),
    ],
)
def test_what_it_does_not_support_is_refused(pattern: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        BoundedPattern(pattern)


@pytest.mark.parametrize(
    "pattern", ["(?:(?:a{0,100}){0,100}){0,100}b?", "(?:a*){50}(?:a*){50,90}b", "(?:.*){90}/"]
)
def test_what_takes_too_long_ends(pattern: str) -> None:
    with pytest.raises(TooManySteps):
        BoundedPattern(pattern).fullmatch("a" * 100)
