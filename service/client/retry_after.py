"""When a server says that it is worth asking again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MOST_SECONDS = 60.0  # whoever asks for more is asked again after that all the same


def retry_after_seconds(headers: Mapping[str, str]) -> float:
    """The seconds of ``Retry-After`` (RFC 9110, 10.2.3), a number or a date; 0 where it says nothing that can be read.

    Args:
        headers: with names in lower case. A date counts from the server's own ``Date``, as clocks differ.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdecimal():
        return min(float(value), MOST_SECONDS)
    then = _date(value)
    if then is None:
        return 0.0
    now = _date(headers.get("date", "")) or datetime.now(UTC)
    return min(max(0.0, (then - now).total_seconds()), MOST_SECONDS)


def _date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
