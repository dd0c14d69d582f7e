"""What a request shows: ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``, and never anything in its address."""

from __future__ import annotations

from collections.abc import Iterable

NONE = b""

_SCHEME = b"bearer "
_HEADERS = frozenset((b"authorization", b"x-api-key"))


def credential(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The one credential of a request, as it was sent.

    Args:
        headers: with names in lower case.

    Returns:
        `NONE` where there is none, or not one: a header comes twice, both are there and differ, the scheme is another one.
    """
    seen: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _HEADERS:
            if name in seen:
                return NONE
            seen[name] = value
    if not seen:
        return NONE
    bearer, found = seen.get(b"authorization"), seen.get(b"x-api-key")
    if bearer is None:
        return found or NONE
    token = bearer[len(_SCHEME) :].strip() if bearer[: len(_SCHEME)].lower() == _SCHEME else NONE
    return token if found is None or found == token else NONE
