"""More requests than can be computed: the excess is refused at once, and the rest is answered as fast as ever (O01, G6).

A steady open loop at 80 % of the capacity runs all the time. An excess that brings both to twice, five and ten times the
capacity comes on top of it and goes again: what is answered meanwhile is the goodput, and when the steady load is answered as
before, the server is back. The capacity is that of a closed loop, measured first in the same run.

Ratios of times are held against their bars in the long form only: other work on the same cores spoils them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.faults.echo_server import EchoServer, echo_server
from tests.faults.figure import Figure
from tests.faults.load import LoadProcess
from tests.faults.metrics import settled_outcomes
from tests.faults.tally import Tally

STEADY = 0.8  # of the capacity
DEADLINE_SECONDS = 5.0
SETTLE_SECONDS = 0.5  # until the queue is as long as it will be
WINDOW_SECONDS = 0.5
CONNECTIONS = 500  # at most of each of two loads: all are within the server's limit


def excess(
    *, seconds: float = 4.0, after_seconds: float = 2.0, factors: Sequence[float] = (2, 5, 10), strict: bool = False
) -> list[Figure]:
    """Overload where the device is the bottleneck.

    Args:
        seconds: of each measurement and each excess.
        after_seconds: that the steady load goes on after an excess.
        factors: of the capacity, that are asked for with the excess.
        strict: holds ratios of times against their bars.
    """
    figures = []
    with echo_server(delay=0.05, max_batch_rows=8) as server:
        peak, usual = measure(server, seconds)
        figures.append(Figure(goal="G6", name="peak goodput", value=peak, unit="rows/s"))
        figures.append(Figure(goal="G6", name=f"p99 at {STEADY:.0%} load", value=usual.p(0.99) * 1000, unit="ms"))
        for factor in factors:
            figures += overload(server, factor, peak, usual, seconds, after_seconds, strict)
        figures.append(Figure(goal="O01", name="a request afterwards", value=server.answers(), bar=1))
    return figures


def excess_of_the_api_process(*, seconds: float = 3.0, clients: int = 400) -> list[Figure]:
    """Overload where the device takes no time, so that the API process is the bottleneck: a refusal costs it what an answer does.

    Many clients ask again as soon as they are answered or refused; an open loop at twice the rate would need more than the
    second of two cores. The times are reported only.

    Args:
        seconds: of each measurement.
        clients: that ask at once; those of the peak are few enough to be admitted.
    """
    with echo_server() as server:
        with LoadProcess(server.port, connections=32, seconds=seconds) as load:
            peak = load.tally(seconds + 60).rate()
        before = settled_outcomes(server.port)
        with LoadProcess(server.port, connections=clients, seconds=seconds) as load:
            tally = load.tally(seconds + 60)
        return [
            Figure(goal="G6", name="peak goodput", value=peak, unit="rows/s"),
            Figure(goal="G6", name="goodput over peak", value=tally.rate() / peak),
            Figure(goal="G6", name="accepted p99", value=tally.p(0.99) * 1000, unit="ms"),
            Figure(goal="G6", name="shed p99", value=tally.p(0.99, 503) * 1000, unit="ms"),
            Figure(goal="G6", name="slowest of both", value=max(tally.p(1.0), tally.p(1.0, 503)), unit="s"),
            Figure(goal="G6", name="answered and shed", value=tally.rate() + tally.rate(503), unit="requests/s"),
            *counts("API process", tally, before, settled_outcomes(server.port)),
            Figure(goal="O01", name="a request afterwards", value=server.answers(), bar=1),
        ]


def measure(server: EchoServer, seconds: float) -> tuple[float, Tally]:
    """The highest goodput, and the load at 80 % of it."""
    with LoadProcess(server.port, connections=24, seconds=seconds) as load:
        peak = load.tally(seconds + 60).rate()
    with LoadProcess(server.port, rate=STEADY * peak, seconds=seconds) as load:
        return peak, load.tally(seconds + 60)


def overload(
    server: EchoServer,
    factor: float,
    peak: float,
    usual: Tally,
    seconds: float,
    after_seconds: float,
    strict: bool,
) -> list[Figure]:
    """One excess on top of the steady load."""
    before = settled_outcomes(server.port)
    options = {"request_timeout": DEADLINE_SECONDS, "connections": CONNECTIONS}
    with (
        LoadProcess(server.port, rate=STEADY * peak, seconds=1 + seconds + after_seconds, **options) as steady_load,
        LoadProcess(server.port, rate=(factor - STEADY) * peak, seconds=seconds, seed=1, **options) as excess_load,
    ):
        over = excess_load.tally(seconds + 60)
        steady = steady_load.tally(seconds + 60)
    start, end = over.first, over.first + seconds
    both = steady.merge(over)
    within = (start + SETTLE_SECONDS, end)
    goal = f"{factor:g}x"
    figures = {
        "goodput over peak": (both.rate(within=within) / peak, "", ">=", 0.8 if factor >= 10 else 0.9),
        "accepted p99 over p99 at 80 %": (both.p(0.99, within=within) / usual.p(0.99), "", "<=", 2.0),
        "shed p99": (both.p(0.99, 503, within=within) * 1000, "ms", "<=", 50.0),
        "back to usual after": (back_after(steady, end, usual), "s", "<=", 5.0),
    }
    return [
        *(
            Figure(
                goal="G6",
                name=f"{goal}: {name}",
                value=value,
                unit=unit,
                relation=relation,
                bar=bar if strict else None,
            )
            for name, (value, unit, relation, bar) in figures.items()
        ),
        Figure(
            goal="G6",
            name=f"{goal}: slowest accepted",
            value=both.p(1.0),
            unit="s",
            relation="<=",
            bar=DEADLINE_SECONDS,
        ),
        Figure(goal="G6", name=f"{goal}: shed", value=both.shed / both.sent, relation=">=", bar=0.1),
        Figure(goal="G6", name=f"{goal}: shed without Retry-After", value=both.without_retry_after, bar=0),
        Figure(goal="G6", name=f"{goal}: sent late by the generator", value=both.late / both.sent),
        *counts(goal, both, before, settled_outcomes(server.port)),
    ]


def back_after(steady: Tally, end: float, usual: Tally) -> float:
    """Seconds until nothing is shed any more, and half a second's median is no more than the usual p99."""
    start = end
    while start < steady.last:
        window = (start, start + WINDOW_SECONDS)
        if steady.rate(503, within=window) == 0 and steady.p(0.5, within=window) <= usual.p(0.99):
            return start + WINDOW_SECONDS - end
        start += WINDOW_SECONDS / 5
    return float("inf")


def counts(prefix: str, tally: Tally, before: Mapping[str, float], after: Mapping[str, float]) -> list[Figure]:
    """What must be exact in every overload."""
    tally.check_conservation(before, after)
    neither = tally.sent - tally.ok - tally.shed
    return [
        Figure(goal="G6", name=f"{prefix}: lost or wrong", value=tally.lost + tally.wrong, unit="requests", bar=0),
        Figure(goal="G6", name=f"{prefix}: neither answered nor shed", value=neither, unit="requests", bar=0),
        Figure(
            goal="G20", name=f"{prefix}: not counted", value=tally.sent + before["received"] - after["received"], bar=0
        ),
    ]
