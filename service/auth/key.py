"""A key: who holds its secret may do what its scopes name.

A secret is ``gw_``, the key's id, ``_`` and 43 random characters. It is told once, when it is made; only its SHA-256 is kept,
which is enough, since nobody can guess 256 random bits.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from models.errors import InvalidParameter

_RANDOM_BYTES = 32  # 43 characters of base64url
_ID_AT = slice(len("gw_"), len("gw_") + 8)
_LIFETIME = re.compile(r"([1-9][0-9]{0,4})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class Scope(StrEnum):
    """What a key may be allowed to do."""

    PREDICT = "predict"
    METADATA = "metadata"
    METRICS = "metrics"
    ADMIN = "admin"


class State(StrEnum):
    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


class Key(BaseModel):
    """What is kept of a key.

    Attributes:
        name: for people; several keys may share it.
        sha256: of the whole secret, in hex.
        requests_per_second: how often it may ask; nothing is no limit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}$")]
    name: Annotated[str, StringConstraints(pattern=_NAME)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    scopes: tuple[Scope, ...] = Field(min_length=1)
    requests_per_second: float | None = Field(default=None, gt=0, le=1e6, allow_inf_nan=False)
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None
    revoked_at: AwareDatetime | None = None

    def state(self, now: datetime) -> State:
        """Whether it opens anything."""
        if self.revoked_at is not None:
            return State.REVOKED
        return State.EXPIRED if self.expires_at is not None and self.expires_at <= now else State.ACTIVE


def check_key_name(name: str) -> str:
    """The name itself, if it can be a key's; raises `InvalidParameter` otherwise."""
    if re.fullmatch(_NAME, name) is None:
        raise InvalidParameter(
            "a key's name is 1 to 64 letters, digits, '.', '_' or '-', and starts with a letter or digit"
        )
    return name


def new_secret() -> str:
    """A secret that nobody has had before."""
    return f"gw_{secrets.token_hex(4)}_{secrets.token_urlsafe(_RANDOM_BYTES)}"


def id_of(secret: bytes) -> bytes:
    """The id in a secret; whatever else was sent in its place has some bytes there, or none."""
    return secret[_ID_AT]


def digest(secret: bytes) -> bytes:
    """The 32 bytes by which a secret is known."""
    return hashlib.sha256(secret).digest()


def parse_lifetime(text: str) -> timedelta:
    """How long a key lives: ``30m``, ``12h``, ``90d`` or ``8w``.

    Raises:
        InvalidParameter: anything else.
    """
    match = _LIFETIME.fullmatch(text)
    if match is None:
        raise InvalidParameter("a key expires after minutes, hours, days or weeks, such as 30m, 12h, 90d or 8w")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
