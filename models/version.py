"""A model's name, one of its versions, and how a user refers to them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from models.errors import InvalidParameter
from models.manifest import Manifest

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ALIAS = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
NUMBER = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """One published version on disk; prints as ``flowers:3``."""

    name: str
    number: int
    directory: Path
    manifest: Manifest

    def __str__(self) -> str:
        return f"{self.name}:{self.number}"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What a user points at: ``flowers``, ``flowers:3`` or ``flowers@champion``."""

    name: str
    number: int | None = None
    alias: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Reads ``NAME``, ``NAME:N`` or ``NAME@ALIAS``.

        Raises:
            InvalidParameter: anything else.
        """
        name, at, alias = text.partition("@")
        if at:
            return cls(name=check_name(name), alias=check_alias(alias))
        name, colon, number = text.partition(":")
        if not colon:
            return cls(name=check_name(name))
        return cls(name=check_name(name), number=parse_number(number))

    def __str__(self) -> str:
        if self.alias is not None:
            return f"{self.name}@{self.alias}"
        return self.name if self.number is None else f"{self.name}:{self.number}"


def is_name(name: str) -> bool:
    """Whether a model can be named so; a name is also a folder and part of a URL."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str) -> str:
    """The name itself, if it can be a model's; raises `InvalidParameter` otherwise."""
    if not is_name(name):
        raise InvalidParameter(
            "a model's name is 1 to 64 letters, digits, '.', '_' or '-', and starts with a letter or digit"
        )
    return name


def check_model_id(text: str) -> str:
    """The text itself, if it can mean a model: as `Reference.parse` reads it, or a backbone's name on the hub, ``owner/name``.

    Raises:
        InvalidParameter: it can not.
    """
    owner, slash, name = text.partition("/")
    if slash:
        check_name(owner)
        check_name(name)
    else:
        Reference.parse(text)
    return text


def is_alias(alias: str) -> bool:
    """Whether it can be one."""
    return _ALIAS.fullmatch(alias) is not None


def check_alias(alias: str) -> str:
    """The alias itself, if it can be one; raises `InvalidParameter` otherwise."""
    if not is_alias(alias):
        raise InvalidParameter("an alias is 1 to 64 letters, digits, '_' or '-', and starts with a letter or '_'")
    return alias


def parse_number(text: str) -> int:
    """A version's number: decimal digits without a leading zero, below 10^9."""
    if not NUMBER.fullmatch(text):
        raise InvalidParameter("a version's number is 1, 2, 3 ... without a leading zero")
    return int(text)
