"""The error tree: distinct codes, a drawing that is complete, a way back from a code."""

from __future__ import annotations

import doctest
import random
import re
from difflib import get_close_matches

import pytest

from models import errors
from models.errors import DatasetInvalid, GraftworkError, InputError, Unavailable, did_you_mean, from_code, shown
from tests.stopwatch import quickest


def tree(kind: type[GraftworkError] = GraftworkError) -> list[type[GraftworkError]]:
    below = [found for child in kind.__subclasses__() for found in tree(child)]
    return [found for found in [kind, *below] if found.__module__ == errors.__name__]


KINDS = tree()


def test_codes_are_distinct_and_plain() -> None:
    codes = [kind.code for kind in KINDS]
    assert len(KINDS) > 30
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", code) for code in codes)


def test_a_code_is_its_class_in_other_words() -> None:
    """Codes are stable: a class that is renamed keeps its code, and then this test names it as an exception."""
    for kind in KINDS:
        words = re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()
        assert kind.code == {"graftwork_error": "internal", "input_error": "invalid_input"}.get(words, words)


def test_the_drawing_names_each_class_with_its_status() -> None:
    assert errors.__doc__ is not None
    drawing = errors.__doc__[: errors.__doc__.index("``status`` is")]
    drawn: dict[str, int] = {}
    waiting: list[str] = []
    for line in drawing.splitlines():
        waiting += re.findall(r"\b[A-Z][A-Za-z0-9]+\b", re.split(r" {2,}(?=[a-z])|\(", line)[0])
        status = re.search(r"\b([45]\d\d)\b", line)
        if status:
            drawn |= dict.fromkeys(waiting, int(status[1]))
            waiting = []
    assert {kind.__name__ for kind in KINDS} <= set(re.findall(r"\w+", drawing))
    for kind in KINDS:
        if kind is not InputError:  # a base: each of its kinds has its own
            assert drawn[kind.__name__] == kind.status, kind.__name__


def test_statuses_fit_their_branch() -> None:
    for kind in KINDS:
        assert 400 <= kind.status < 600
        if issubclass(kind, InputError):
            assert 400 <= kind.status < 500


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_crosses_a_process_by_its_code(kind: type[GraftworkError]) -> None:
    found = from_code(kind.code, "what happened")
    assert type(found) is kind
    assert found.message == str(found) == "what happened"


def test_an_unknown_code_is_an_internal_error() -> None:
    found = from_code("no_such_code", "x")
    assert type(found) is GraftworkError
    assert (found.code, found.status) == ("internal", 500)


def test_unavailable_says_when_to_come_back() -> None:
    assert Unavailable("busy").retry_after_seconds == 1
    assert Unavailable("busy", retry_after_seconds=7).retry_after_seconds == 7


@pytest.mark.parametrize(
    ("file", "line", "message"), [(None, None, "bad"), ("a.csv", None, "a.csv: bad"), ("a.csv", 3, "a.csv:3: bad")]
)
def test_a_data_error_points_at_its_place(file: str | None, line: int | None, message: str) -> None:
    error = DatasetInvalid("bad", file=file, line=line)
    assert (error.message, error.file, error.line) == (message, file, line)


def test_near_names_are_offered() -> None:
    assert did_you_mean("flower", ["flowers", "dogs"]) == "; did you mean 'flowers'?"
    assert did_you_mean("ab", ["ab1", "ab2", "ab3", "ab4"], most=2).count(" or ") == 1
    assert did_you_mean("flower", ["dogs"]) == did_you_mean("", []) == ""


WORDS = [
    "flowers",
    "cats",
    "intents",
    "toxicity",
    "birds",
    "cars",
    "leaves",
    "spam",
    "topic",
    "product",
    "review",
    "defect",
    "street",
    "food",
    "fabric",
]
TAILS = [
    "small",
    "large",
    "v2",
    "eu",
    "us",
    "prod",
    "staging",
    "beta",
    "2025",
    "2026",
    "de",
    "fr",
    "it",
    "en",
    "mobile",
    "edge",
]


def a_thousand_names() -> list[str]:
    """Names as people give them, many of them much alike."""
    chance = random.Random(0)
    found: set[str] = set()
    while len(found) < 1000:
        words = [*chance.choices(WORDS, k=chance.randint(1, 2)), *chance.choices(TAILS, k=chance.randint(0, 2))]
        found.add("-".join([*words, *([str(chance.randrange(1000))] if chance.random() < 0.5 else [])]))
    return sorted(found)


def mistyped(name: str, chance: random.Random) -> str:
    """One letter is missing, doubled, wrong, or changes places with the next."""
    at, letter = chance.randrange(len(name)), chance.choice("abcdefghijklmnopqrstuvwxyz-")
    before, here, after = name[:at], name[at], name[at + 1 :]
    return chance.choice(
        [before + after, before + here + here + after, before + letter + after, before + after[:1] + here + after[1:]]
    )


def test_among_many_names_the_one_that_was_meant_is_offered() -> None:
    names, chance = a_thousand_names(), random.Random(1)
    same = 0
    for meant in chance.sample(names, 200):
        typed = mistyped(meant, chance)
        wanted = get_close_matches(typed, names, n=3, cutoff=0.6)
        found = re.findall("'([^']+)'", did_you_mean(typed, names))
        assert found[0] == wanted[0]  # as if all of them had been looked at closely
        assert meant in found or meant not in wanted
        same += found == wanted
    assert same > 180  # the third best may differ
    assert did_you_mean("xylophone", names) == ""


def test_many_names_are_looked_at_quickly() -> None:
    """It happens on the server's event loop: 1.3 ms measured, where difflib alone takes 3 to 25."""
    names = a_thousand_names()
    assert quickest(lambda: did_you_mean("flowers-larg-prod", names), bound=0.002) < 0.004
    alike = [f"model-{number:04}" for number in range(1000)]
    assert quickest(lambda: did_you_mean("model-012", alike), bound=0.002) < 0.004


def test_the_examples_hold() -> None:
    assert doctest.testmod(errors).failed == 0


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a", "a"),
        ("a\n/b", "a\\n/b"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\udcff", "\\udcff"),
        ("x" * 61, "x" * 57 + "..."),
        ("\u00e9", "\u00e9"),
    ],
)
def test_a_name_that_somebody_else_chose_is_shown_on_one_line(name: str, wanted: str) -> None:
    assert shown(name) == wanted
