"""What a request says of itself beside its tensors, as HTTP and gRPC both have it: an id, and parameters by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.errors import InvalidParameter, InvalidValue, NotSupported

MAX_ID = 1024  # characters
MAX_TIMEOUT_US = 1 << 53


def check_id(value: Any) -> str:
    """An id that was sent.

    Raises:
        InvalidParameter: it is none that can be echoed.
    """
    if not isinstance(value, str) or len(value) > MAX_ID or not value.isprintable():
        raise InvalidParameter(f"/id: this must be a string of at most {MAX_ID:,} printable characters")
    return value


def check_memory(parameters: Mapping[str, Any]) -> None:
    """Raises `NotSupported` where a tensor shall be in shared memory."""
    if any(name.startswith("shared_memory") for name in parameters):
        raise NotSupported("tensors in shared memory are not supported; send them in the request")


def flag(parameters: Mapping[str, Any], name: str, pointer: str) -> bool:
    """A parameter that is true or false; false where it is missing.

    Args:
        pointer: to the parameters in the request.

    Raises:
        InvalidValue: it is of another type.
    """
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise InvalidValue(f"{pointer}/{name}: this must be true or false")
    return value


def whole(parameters: Mapping[str, Any], name: str, pointer: str, end: int) -> int:
    """A parameter that is a whole number from 0 and less than ``end``; 0 where it is missing.

    Args:
        pointer: to the parameters in the request.

    Raises:
        InvalidValue: it is none.
    """
    value = parameters.get(name, 0)
    if type(value) is not int or not 0 <= value < end:
        raise InvalidValue(f"{pointer}/{name}: this must be a whole number from 0 to {end - 1:,}")
    return value


def timeout_seconds(parameters: Mapping[str, Any]) -> float | None:
    """The parameter ``timeout``, which is sent in microseconds; 0 is none."""
    return whole(parameters, "timeout", "/parameters", MAX_TIMEOUT_US) / 1e6 or None
