from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from service.client.retry_after import retry_after_seconds

DATE = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry-after": "7"}, 7),
        ({"retry-after": " 0 "}, 0),
        ({"retry-after": "3600"}, 60),
        ({"retry-after": "9" * 400}, 60),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:09 GMT", "date": DATE}, 9),
        ({"retry-after": "Wed, 21 Oct 2026 07:27:00 GMT", "date": DATE}, 0),
        ({"retry-after": "Thu, 22 Oct 2026 07:27:00 GMT", "date": DATE}, 60),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "1.5"}, 0),
        ({"retry-after": "²"}, 0),
    ],
)
def test_a_number_or_a_date_within_a_minute(headers: dict[str, str], seconds: float) -> None:
    assert retry_after_seconds(headers) == seconds


def test_without_the_servers_date_our_own_clock_counts() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 20 < retry_after_seconds({"retry-after": soon, "date": "x"}) <= 30
