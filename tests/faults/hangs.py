"""Workers that hang: requests get 504 at their deadline, and the worker is replaced (L04, G16).

* `stopped_worker`: one of two workers is stopped (SIGSTOP). It is killed once it was not heard for ``worker_timeout_seconds``.
* `endless_row`: a row is computed for ever. Its worker goes on to say that it lives, but is killed when nobody can wait for
  that batch any more: after ``request_timeout_seconds`` + ``worker_timeout_seconds``.

Meanwhile the other worker serves. No answer comes more than 250 ms after its deadline, and another worker is there within
twice the limit after which one counts as hung. ``slack`` is a factor on these bars for machines that do other work too.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

from tests.faults.aftermath import aftermath
from tests.faults.echo_server import EchoServer, echo_server
from tests.faults.figure import Figure
from tests.faults.load import LoadProcess, run_load
from tests.faults.metrics import metrics, settled_outcomes, total
from tests.faults.request import request
from tests.faults.tally import Tally
from tests.processes import wait_for

DEADLINE_SECONDS = 1.0  # of each request, as X-Request-Timeout
TOLERANCE_SECONDS = 0.25
WORKER_TIMEOUT_SECONDS = 3.0
REQUEST_TIMEOUT_SECONDS = 1.0  # the server's own, which is the most that anybody may wait
GIVE_UP_SECONDS = 60.0

Inflict = Callable[[EchoServer, int], Tally]  # lets a worker hang; gives what it asked for that


def stopped_worker(*, hangs: int = 5, slack: float = 1.0) -> list[Figure]:
    """One of two workers is stopped, again and again.

    Args:
        hangs: how often.
        slack: factor on bars on times.
    """
    chance = random.Random(1)

    def stop(server: EchoServer, _: int) -> Tally:
        os.kill(chance.choice(server.workers()), signal.SIGSTOP)
        return Tally()

    return hang(stop, hangs=hangs, limit=WORKER_TIMEOUT_SECONDS, slack=slack)


def endless_row(*, hangs: int = 5, slack: float = 1.0) -> list[Figure]:
    """One of two workers gets a row that it never ends with, again and again.

    Args:
        hangs: how often.
        slack: factor on bars on times.
    """

    def ask(server: EchoServer, number: int) -> Tally:
        endless = request([f"hang {number}"], headers={"X-Request-Timeout": f"{DEADLINE_SECONDS:g}"})
        tally = run_load(server.port, connections=1, requests=1, make=lambda _: endless)
        assert list(tally.ends) == [504]
        return tally

    return hang(ask, hangs=hangs, limit=REQUEST_TIMEOUT_SECONDS + WORKER_TIMEOUT_SECONDS, slack=slack)


def hang(inflict: Inflict, *, hangs: int, limit: float, slack: float) -> list[Figure]:
    """Two workers under load, one of which hangs now and then.

    Args:
        inflict: lets one hang.
        hangs: how often.
        limit: seconds until it counts as hung.
        slack: factor on bars on times.
    """
    replaced: list[float] = []
    tally = Tally()
    with echo_server(
        delay=0.02,
        workers=2,
        worker_timeout_seconds=WORKER_TIMEOUT_SECONDS,
        request_timeout_seconds=REQUEST_TIMEOUT_SECONDS,
    ) as server:
        wait_for(lambda: connected(server) == 2, GIVE_UP_SECONDS, server.text)
        before = settled_outcomes(server.port)
        with LoadProcess(
            server.port, rate=100, seconds=hangs * GIVE_UP_SECONDS, request_timeout=DEADLINE_SECONDS
        ) as load:
            periods = []
            for number in range(hangs):
                deaths = count_deaths(server)
                at = time.monotonic()
                tally = tally.merge(inflict(server, number))
                wait_for(lambda: count_deaths(server) > deaths, GIVE_UP_SECONDS, server.text)  # noqa: B023
                periods.append((at, time.monotonic()))
                wait_for(lambda: connected(server) == 2, GIVE_UP_SECONDS, server.text)
                replaced.append(time.monotonic() - at)
            load.stop()
            tally = tally.merge(load.tally(GIVE_UP_SECONDS))
        slowest = max(tally.service_times) - DEADLINE_SECONDS
        served = min(tally.rate(within=period) for period in periods)
        return [
            Figure(goal="L04", name="hangs", value=hangs),
            *aftermath("L04", server, tally, before, may_be=(200, 504)),
            Figure(goal="L04", name="requests with 504", value=tally.timeouts, relation=">=", bar=1),
            Figure(
                goal="L04",
                name="answers while one hangs, least",
                value=served,
                unit="/s",
                relation=">=",
                bar=50 / slack,
            ),
            Figure(
                goal="G16",
                name="answer after its deadline, most",
                value=slowest,
                unit="s",
                relation="<=",
                bar=TOLERANCE_SECONDS * slack,
            ),
            Figure(
                goal="G16",
                name="hung worker replaced after, most",
                value=max(replaced),
                unit="s",
                relation="<=",
                bar=2 * limit * slack,
            ),
            Figure(goal="L04", name="workers replaced", value=count_deaths(server), bar=hangs),
        ]


def connected(server: EchoServer) -> float:
    """How many workers there are."""
    return total(metrics(server.port), "graftwork_workers")


def count_deaths(server: EchoServer) -> float:
    """How many workers have died so far."""
    return total(metrics(server.port), "graftwork_worker_deaths_total")
