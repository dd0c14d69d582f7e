"""Workers that are killed with ``kill -9`` under load.

* `kill_one_of_two` (G1, L01, L19): two workers, one of which is killed again and again, at 70 % of the peak that was measured
  right before. Nothing may be lost, wrong or refused: what the dead worker owed is asked again.
* `kill_the_only_worker` (G2, L02, L19): what it owed is answered with 503 within a second (or with 200, if its successor is
  there by then), the death is seen within 100 ms, and another worker answers within two seconds.

Meanwhile ``/metrics`` is read ten times a second: no counter ever goes down. The engine of the first takes the same time for
a batch of any size, as a GPU nearly does, so that one worker can bear the load of two for a while. Who shares a machine with
other work passes a ``slack`` that the bars on times are multiplied with; those on what was answered are always exact.
"""

from __future__ import annotations

import math
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from statistics import median

from tests.faults.aftermath import aftermath
from tests.faults.counter_watch import CounterWatch
from tests.faults.echo_server import EchoServer, echo_server
from tests.faults.figure import Figure
from tests.faults.load import LoadProcess
from tests.faults.metrics import metrics, settled_outcomes, total
from tests.faults.tally import Tally
from tests.processes import wait_for

SHARE_OF_PEAK = 0.7
WINDOW_SECONDS = 2.0  # after a kill; by then another worker shall be there
GIVE_UP_SECONDS = 30.0


def kill_one_of_two(
    *, kills: int = 30, every: float = 10.0, peak_seconds: float = 5.0, slack: float = 1.0, p99_bar: float | None = 2.0
) -> list[Figure]:
    """Two workers, one of which is killed every few seconds.

    Args:
        kills: how many.
        every: seconds from kill to kill, or more where the last one has no successor by then.
        peak_seconds: for which the peak is measured.
        slack: factor on bars on times.
        p99_bar: most times that the p99 within two seconds after kills is that of all other times; None only reports it.
    """
    chance = random.Random(1)
    deaths: list[Death] = []
    with echo_server(delay=0.02, workers=2) as server:
        with LoadProcess(server.port, connections=32, seconds=peak_seconds) as load:
            peak = load.tally(peak_seconds + GIVE_UP_SECONDS).rate()
        before = settled_outcomes(server.port)
        with (
            CounterWatch(server.port) as watch,
            LoadProcess(
                server.port, rate=SHARE_OF_PEAK * peak, seconds=(kills + 1) * every + kills * GIVE_UP_SECONDS
            ) as load,
        ):
            for _ in range(kills):
                time.sleep(every if not deaths else max(0.0, deaths[-1].at + every - time.monotonic()))
                deaths.append(kill(server, chance.choice(server.workers()), left=1))
            time.sleep(max(0.0, deaths[-1].at + every - time.monotonic()))
            load.stop()
            tally = load.tally(GIVE_UP_SECONDS)
        after_kills, calm = p99s(tally, deaths)
        return [
            Figure(goal="L01", name="kills", value=kills),
            Figure(goal="L01", name="peak", value=peak, unit="requests/s"),
            *aftermath("G1", server, tally, before),
            *figures_of(deaths, server, watch, slack=slack),
            Figure(goal="L01", name="p99 within 2 s after kills", value=after_kills * 1000, unit="ms"),
            Figure(goal="L01", name="p99 else", value=calm * 1000, unit="ms"),
            Figure(goal="G1", name="p99 after kills / else", value=after_kills / calm, relation="<=", bar=p99_bar),
        ]


def kill_the_only_worker(*, kills: int = 20, every: float = 4.0, slack: float = 1.0) -> list[Figure]:
    """One worker, killed again and again.

    Whatever was in its hands is tried alone by its successor, one row after the other: with slow batches, some of those 200s
    come later than a second after the death.

    Args:
        kills: how many.
        every: seconds from kill to kill, or more where the last one has no successor by then.
        slack: factor on bars on times.
    """
    deaths: list[Death] = []
    with echo_server(delay=0.02) as server:
        before = settled_outcomes(server.port)
        with (
            CounterWatch(server.port) as watch,
            LoadProcess(server.port, rate=100, seconds=(kills + 1) * every + kills * GIVE_UP_SECONDS) as load,
        ):
            for _ in range(kills):
                time.sleep(every if not deaths else max(0.0, deaths[-1].at + every - time.monotonic()))
                (worker,) = server.workers()
                deaths.append(kill(server, worker, left=0))
            time.sleep(1.0)
            load.stop()
            tally = load.tally(GIVE_UP_SECONDS)
        waits = [wait for death in deaths for wait in waits_in_flight(tally, death.at)]
        return [
            Figure(goal="L02", name="kills", value=kills),
            *aftermath("G2", server, tally, before, may_be=(200, 503)),
            *figures_of(deaths, server, watch, slack=slack),
            Figure(goal="L02", name="requests in flight at kills", value=len(waits), relation=">=", bar=kills),
            Figure(
                goal="G2",
                name="last answer to what was in flight, after the kill",
                value=max(waits),
                unit="s",
                relation="<=",
                bar=1.0 * slack,
            ),
        ]


class Death:
    """One kill, in seconds of the monotonic clock.

    Attributes:
        at: when the signal was sent.
        seen: when the server was first found to know.
        healed: when it was first found to have all workers again.
    """

    def __init__(self, at: float, seen: float, healed: float) -> None:
        self.at = at
        self.seen = seen
        self.healed = healed


def kill(server: EchoServer, worker: int, *, left: int) -> Death:
    """Kills a worker and waits until another one is there.

    Args:
        left: how many others there are.
    """

    def connected() -> float:
        return total(metrics(server.port), "graftwork_workers")

    at = time.monotonic()
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: connected() == left, GIVE_UP_SECONDS, server.text, pause=0.002)
    seen = time.monotonic()
    assert len(queues(server)) <= left  # that of the dead worker is not shown any more
    if left == 0:
        assert (server.status_of("/health/ready"), server.status_of("/health/live")) == (503, 200)
        server.wait_until_ready(GIVE_UP_SECONDS)
    else:
        wait_for(lambda: connected() == left + 1, GIVE_UP_SECONDS, server.text)
    return Death(at, seen, time.monotonic())


def queues(server: EchoServer) -> set[object]:
    """The workers that ``/metrics`` knows a queue of."""
    return set(metrics(server.port).get("graftwork_queue_depth_rows", {}))


def figures_of(deaths: Sequence[Death], server: EchoServer, watch: CounterWatch, *, slack: float) -> list[Figure]:
    """How soon deaths were seen and healed, and whether they were counted."""
    seen = [death.seen - death.at for death in deaths]
    healed = [death.healed - death.at for death in deaths]
    counted = total(metrics(server.port), "graftwork_worker_deaths_total")
    return [
        Figure(goal="L19", name="deaths counted", value=counted, bar=len(deaths)),
        Figure(goal="L19", name="scrapes of /metrics", value=watch.scrapes, relation=">=", bar=1),
        Figure(goal="L19", name="counters that went down", value=len(watch.decreases), bar=0),
        Figure(goal="G2", name="death seen after, median", value=median(seen) * 1000, unit="ms"),
        Figure(
            goal="G2", name="death seen after, most", value=max(seen) * 1000, unit="ms", relation="<=", bar=100 * slack
        ),
        Figure(goal="G2", name="worker back after, median", value=median(healed), unit="s"),
        Figure(goal="G2", name="worker back after, most", value=max(healed), unit="s", relation="<=", bar=2 * slack),
    ]


def p99s(tally: Tally, deaths: Sequence[Death]) -> tuple[float, float]:
    """The p99 in seconds of answers to requests that were due soon after a kill, and of all others."""

    def is_after_a_kill(due: float) -> bool:
        return any(death.at <= due < death.at + WINDOW_SECONDS for death in deaths)

    def p99(chosen: Callable[[float], bool]) -> float:
        found = sorted(
            taken
            for end, time_, taken in zip(tally.ends, tally.times, tally.latencies, strict=True)
            if end == 200 and chosen(time_ - taken)
        )
        return found[math.ceil(0.99 * len(found)) - 1]

    return p99(is_after_a_kill), p99(lambda due: not is_after_a_kill(due))


def waits_in_flight(tally: Tally, at: float) -> list[float]:
    """How long each request that was out at a time had still to wait for its answer."""
    return [
        ended - at for ended, taken in zip(tally.times, tally.service_times, strict=True) if ended - taken <= at < ended
    ]
