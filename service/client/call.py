"""What is asked of a service, and the steps until it is answered, whoever takes them."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request, whichever replica answers it.

    Attributes:
        path: with its query.
        repeatable: whether it does no harm where it is taken twice.
    """

    method: Literal["GET", "POST"]
    path: str
    body: bytes | None = None
    content_type: str | None = None
    repeatable: bool = True


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer, whole; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Failure:
    """There was no answer.

    Attributes:
        kind: ``unreachable`` says that nothing was sent.
        reason: of the operating system, or of the library that speaks HTTP.
    """

    kind: Literal["unreachable", "broken off", "timed out"]
    reason: str = ""


Outcome: TypeAlias = Reply | Failure


@dataclass(frozen=True, kw_only=True)
class Send:
    """A step: send this, and say what came of it.

    Attributes:
        seconds: after which it is given up.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Pause:
    """A step: wait."""

    seconds: float


Steps: TypeAlias = Generator[Send | Pause, Outcome | None, T]
"""Yields steps, is sent the outcome of each `Send`, and returns what was asked for."""
