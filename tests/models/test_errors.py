"""The error tree: distinct codes, a drawing that is complete, a way back from a code."""

from __future__ import annotations

import doctest
import re

import pytest

from models import errors
from models.errors import DatasetInvalid, GraftworkError, InputError, Unavailable, did_you_mean, from_code


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


def test_the_examples_hold() -> None:
    assert doctest.testmod(errors).failed == 0
