"""Enough of PromQL to know which metrics and labels an expression reads, and which labels its result has.

A vector is the set of its labels here, and whatever has none (a number, a text) is None.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Labels: TypeAlias = frozenset[str]
Vector: TypeAlias = Labels | None

_TOKEN = re.compile(
    r"""(?P<blank>\s+|\#.*)
    | (?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
    | (?P<range>\[[^]]*\])
    | (?P<number>\d[\w.]*)
    | (?P<name>[a-zA-Z_:][\w:]*)
    | (?P<sign>=~|!~|==|!=|<=|>=|[-+*/%^<>=(){},@])""",
    re.VERBOSE,
)
_AGGREGATIONS = {"sum", "avg", "min", "max", "count", "stddev", "group", "quantile"}
_CHOICES = {"topk", "bottomk"}  # whose results keep their labels
_OPERATORS = {"+", "-", "*", "/", "%", "^", "==", "!=", "<", ">", "<=", ">=", "and", "or", "unless"}


class PromqlError(ValueError):
    """An expression that names what is not there, or means nothing."""


def result_labels(expression: str, metrics: Mapping[str, Labels]) -> Vector:
    """The labels of what an expression gives.

    Args:
        metrics: the labels of each that there is.

    Raises:
        PromqlError: it reads a metric or a label that is not there, or combines vectors with different labels.
    """
    parser = _Parser(expression, metrics)
    found = parser.expression()
    if parser.next is not None:
        raise PromqlError(f"{parser.next!r} is too much in {expression}")
    return found


def _tokens(expression: str) -> list[str]:
    found, at = [], 0
    while at < len(expression):
        match = _TOKEN.match(expression, at)
        if match is None:
            raise PromqlError(f"{expression[at:]!r} is no PromQL")
        at = match.end()
        if match.lastgroup != "blank":
            found.append(match.group())
    return found


class _Parser:
    """By recursive descent; operators need no precedence where all vectors around them have the same labels."""

    def __init__(self, expression: str, metrics: Mapping[str, Labels]) -> None:
        self._left = _tokens(expression)[::-1]
        self._expression = expression
        self._metrics = metrics

    @property
    def next(self) -> str | None:
        return self._left[-1] if self._left else None

    def _take(self, wanted: str | None = None) -> str:
        if self.next is None or wanted not in (None, self.next):
            raise PromqlError(f"{wanted or 'more'} is missing in {self._expression}")
        return self._left.pop()

    def _check(self, labels: Sequence[str] | Labels, vector: Vector) -> None:
        if missing := set(labels) - (vector or set()):
            raise PromqlError(f"no label {', '.join(sorted(missing))} in {self._expression}")

    def expression(self) -> Vector:
        left = self._operand()
        while self.next in _OPERATORS:
            self._take()
            if self.next == "bool":
                self._take()
            on: Sequence[str] | None = None
            if self.next in ("on", "ignoring"):
                kind, on = self._take(), self._names()
                if kind == "ignoring":
                    on = sorted((left or frozenset()) - set(on))
            right = self._operand()
            if left is None or right is None:
                left = right if left is None else left
            elif on is not None:
                self._check(on, left)
                self._check(on, right)
                left = frozenset(on)
            elif left != right:
                raise PromqlError(f"{sorted(left)} never match {sorted(right)} in {self._expression}")
        return left

    def _operand(self) -> Vector:
        if self.next in ("-", "+"):
            self._take()
            return self._operand()
        token = self._take()
        if token == "(":
            found = self.expression()
            self._take(")")
        elif token[0].isdigit() or token[0] in "\"'":
            return None
        elif token in _AGGREGATIONS | _CHOICES:
            found = self._aggregation(token)
        elif self.next == "(":
            found = self._call(token)
        else:
            found = self._selector(token)
        while self.next is not None and (self.next.startswith("[") or self.next == "offset"):
            if self._take() == "offset":
                self._take()
        return found

    def _aggregation(self, name: str) -> Vector:
        clause = self._clause()
        arguments = self._arguments()
        clause = clause or self._clause()
        vector = arguments[-1]
        kind, labels = clause or ("by", ())
        self._check(labels, vector)
        if name in _CHOICES:
            return vector
        return frozenset(labels) if kind == "by" else (vector or frozenset()) - set(labels)

    def _clause(self) -> tuple[str, Sequence[str]] | None:
        return (self._take(), self._names()) if self.next in ("by", "without") else None

    def _names(self) -> Sequence[str]:
        self._take("(")
        found = []
        while self.next != ")":
            found.append(self._take())
            if self.next == ",":
                self._take()
        self._take()
        return found

    def _arguments(self) -> Sequence[Vector]:
        self._take("(")
        found: list[Vector] = []
        while self.next != ")":
            found.append(self.expression())
            if self.next == ",":
                self._take()
        self._take()
        return found

    def _call(self, name: str) -> Vector:
        vectors = [argument for argument in self._arguments() if argument is not None]
        if name == "histogram_quantile":
            self._check(["le"], vectors[0])
            return vectors[0] - {"le"}
        if name == "absent":
            return frozenset()
        return vectors[0] if vectors else None

    def _selector(self, name: str) -> Vector:
        if name not in self._metrics:
            raise PromqlError(f"there is no metric {name} in {self._expression}")
        if self.next == "{":
            self._take()
            while self.next != "}":
                self._check([self._take()], self._metrics[name])
                self._take()  # the operator
                self._take()  # the text
                if self.next == ",":
                    self._take()
            self._take()
        return self._metrics[name]
