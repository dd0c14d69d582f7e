from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.tally import HUNG_UP, LOST, WRONG, Tally

ENDS = [200, 200, 200, 422, 404, 503, 504, 500, 307, LOST, WRONG, HUNG_UP]
SERVER = {"received": 12, "ok": 4, "client_error": 2, "shed": 1, "timeout": 1, "failed": 2, "disconnected": 2}
NOTHING = dict.fromkeys(SERVER, 0)


def tally_of(*ends: int, start: float = 100.0, every: float = 0.1, seconds: float = 0.05) -> Tally:
    """Requests one after the other, each of which takes as long as the first one and its number."""
    tally = Tally()
    for number, end in enumerate(ends):
        sent = start + number * every
        tally.count_sent(sent)
        tally.count_end(end, sent - 0.002, sent, sent + seconds * (number + 1))
        if end == LOST:
            tally.losses["reset"] += 1
        if end in (LOST, WRONG):
            tally.note("reset" if end == LOST else "wrong", b"id-%d" % number, sent, b"\xffbytes")
    return tally


def test_each_end_is_one_of_these() -> None:
    tally = tally_of(*ENDS)
    assert (tally.sent, tally.ok, tally.client_errors, tally.shed, tally.timeouts) == (12, 3, 2, 1, 1)
    assert (tally.failed, tally.lost, tally.wrong, tally.hung_up) == (2, 1, 1, 1)
    assert tally.by_status == {200: 3, 422: 1, 404: 1, 503: 1, 504: 1, 500: 1, 307: 1}
    tally.check_conservation()


@settings(deadline=None)
@given(st.lists(st.sampled_from(ENDS), max_size=40))
def test_ends_add_up_to_what_was_sent(ends: list[int]) -> None:
    tally_of(*ends).check_conservation()


def test_a_request_without_an_end_is_missed() -> None:
    tally = tally_of(200)
    tally.count_sent(101.0)
    with pytest.raises(AssertionError, match="without an end"):
        tally.check_conservation()


@pytest.mark.parametrize(
    "server",
    [
        SERVER,  # it answered the lost request and the wrong one with 200, and one more with an error that was hung up on
        {**SERVER, "received": 11, "disconnected": 1},  # the lost request never arrived
        {**SERVER, "received": 10, "ok": 3, "disconnected": 1, "failed": 3},  # an error of it took another's place
    ],
)
def test_the_server_may_count_what_was_not_seen(server: dict[str, float]) -> None:
    server = {
        **server,
        "failed": server["received"] - sum(server[n] for n in server if n not in ("received", "failed")),
    }
    tally_of(*ENDS).check_conservation(NOTHING, server)


@pytest.mark.parametrize(
    "change",
    [
        {"received": 13},  # one without an outcome
        {"received": 13, "ok": 5},  # one that nobody sent
        {"received": 9, "ok": 1},  # two seen answers that the server did not give
        {"shed": 0, "ok": 5},  # a 503 counted as ok
        {"disconnected": 3, "ok": 3},  # one given up that was answered
    ],
)
def test_a_server_that_counts_otherwise_is_seen(change: dict[str, float]) -> None:
    with pytest.raises(AssertionError, match="the server counted"):
        tally_of(*ENDS).check_conservation(NOTHING, {**SERVER, **change})


def test_only_what_came_between_counts() -> None:
    after = {name: count + 7 for name, count in SERVER.items()}
    after["received"] += 5 * 7  # seven of each of six outcomes
    before = dict.fromkeys(SERVER, 7.0) | {"received": 42.0}
    tally_of(*ENDS).check_conservation(before, after)


def test_quantiles_are_of_one_status() -> None:
    tally = tally_of(200, 503, 200, 503, 200, 200)
    assert tally.p(0.5, from_send=True) == pytest.approx(0.15)  # of 0.05, 0.15, 0.25, 0.30
    assert tally.p(1.0, from_send=True) == pytest.approx(0.30)
    assert tally.p(1.0) == pytest.approx(0.302)  # from when it was due
    assert tally.p(0.99, 503, from_send=True) == pytest.approx(0.20)
    assert math.isnan(tally.p(0.5, 504))
    with pytest.raises(ValueError, match="quantile"):
        tally.p(99)


@settings(deadline=None)
@given(st.lists(st.floats(0, 10), min_size=1, max_size=50), st.floats(0.01, 1))
def test_a_quantile_is_a_latency_that_so_many_do_not_exceed(seconds: list[float], quantile: float) -> None:
    tally = Tally()
    for each in seconds:
        tally.count_sent(0.0)
        tally.count_end(200, 0.0, 0.0, each)
    found = tally.p(quantile)
    assert found in seconds
    assert sum(each <= found for each in seconds) >= quantile * len(seconds) - 1e-9
    assert sum(each < found for each in seconds) < quantile * len(seconds) + 1e-9


def test_rates_series_and_windows() -> None:
    tally = tally_of(*[200] * 5, *[503] * 5, *[200] * 10, every=0.1, seconds=0.0)  # from 100.0 to 101.9
    assert tally.rate() == pytest.approx(15 / 1.9)
    assert tally.rate(within=(99.95, 100.45)) == pytest.approx(10)
    assert tally.rate(503, within=(100.45, 100.95)) == pytest.approx(10)
    assert tally.rate(within=(100.45, 100.95)) == 0
    assert tally.series(width=0.5)[0] == 5
    assert sum(tally.series()) == 15
    assert sum(tally.series(503)) == 5
    assert math.isnan(tally.p(0.5, within=(100.45, 100.95)))


def test_nothing_at_all() -> None:
    tally = Tally()
    tally.check_conservation()
    assert (tally.rate(), tally.series(), tally.late, tally.most_late) == (0.0, [], 0, 0.0)
    assert tally.summary()["sent"] == 0
    assert Tally.from_json(json.loads(json.dumps(tally.to_json()))) == tally


def test_requests_that_left_late_are_counted() -> None:
    tally = Tally()
    for delay in (0.0, 0.009, 0.011, 0.5):
        tally.count_sent(10 + delay)
        tally.count_end(200, 10.0, 10 + delay, 11.0)
    assert tally.late == 2
    assert tally.most_late == pytest.approx(0.5)


@settings(deadline=None)
@given(st.lists(st.sampled_from(ENDS), max_size=20), st.lists(st.sampled_from(ENDS), max_size=20))
def test_two_loads_as_one(first: list[int], second: list[int]) -> None:
    one, two = tally_of(*first, start=100), tally_of(*second, start=50)
    one.codes["overloaded"] += 2
    two.unsent["refused"] += 3
    both = one.merge(two)
    assert both.sent == len(first) + len(second)
    assert both.by_status == one.by_status + two.by_status
    assert (both.codes, both.unsent) == ({"overloaded": 2}, {"refused": 3})
    assert (both.first, both.last) == (min(one.first, two.first), max(one.last, two.last))
    assert len(both.incidents) == len(one.incidents) + len(two.incidents)
    both.check_conservation()


@settings(deadline=None)
@given(st.lists(st.sampled_from(ENDS), max_size=20), st.integers(0, 5))
def test_a_tally_travels_as_json(ends: list[int], count: int) -> None:
    tally = tally_of(*ends)
    tally.codes["overloaded"] += count
    tally.unasked = tally.without_retry_after = count
    document: dict[str, Any] = json.loads(json.dumps(tally.to_json()))
    assert Tally.from_json(document) == tally
