"""Which versions of a model a server keeps loaded, beside those that have an alias."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from pydantic import AfterValidator

from models.errors import InvalidParameter

_LATEST = re.compile(r"latest:([1-9][0-9]{0,8})")
_NUMBERS = re.compile(r"[1-9][0-9]{0,8}(?:,[1-9][0-9]{0,8}){0,63}")


@dataclass(frozen=True, kw_only=True)
class VersionPolicy:
    """Prints as ``latest:2``, ``all`` or ``1,4``.

    Attributes:
        latest: how many of the newest; None where that does not count.
        numbers: exactly these; None where that does not count. Neither of them means all.
    """

    latest: int | None = 2
    numbers: tuple[int, ...] | None = None

    @classmethod
    def parse(cls, text: str) -> VersionPolicy:
        """Reads ``latest:N``, ``all``, or numbers with commas between them.

        Raises:
            InvalidParameter: anything else.
        """
        if text == "all":
            return cls(latest=None)
        if match := _LATEST.fullmatch(text):
            return cls(latest=int(match[1]))
        if _NUMBERS.fullmatch(text):
            return cls(latest=None, numbers=tuple(sorted({int(number) for number in text.split(",")})))
        raise InvalidParameter("what is kept loaded is latest:N, all, or version numbers such as 1,4")

    def __str__(self) -> str:
        if self.numbers is not None:
            return ",".join(map(str, self.numbers))
        return "all" if self.latest is None else f"latest:{self.latest}"

    def kept(self, numbers: Collection[int]) -> frozenset[int]:
        """Those of some versions that are kept."""
        if self.numbers is not None:
            return frozenset(self.numbers).intersection(numbers)
        return frozenset(numbers if self.latest is None else sorted(numbers)[-self.latest :])


def _checked(text: str) -> str:
    try:
        return str(VersionPolicy.parse(text))
    except InvalidParameter as error:
        raise ValueError(error.message) from None


PolicyText: TypeAlias = Annotated[str, AfterValidator(_checked)]
"""A policy in a document."""
