"""The two ways of asking: as fast as answers come, or at times of the generator's own."""

from __future__ import annotations

import asyncio
import itertools
import random
from array import array
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Literal

from tests.faults.client_connection import ClientConnection, connect, why_unsent
from tests.faults.request import Make, Request
from tests.faults.tally import Tally

Spacing = Literal["poisson", "even"]

PATIENCE_SECONDS = 60.0
RETRY_SECONDS = 0.01  # between two tries to connect
STALE_SECONDS = 2.0  # a connection that was free for longer is not used again: the server may be about to close it


def never() -> bool:
    return False


async def closed_loop(
    port: int,
    *,
    connections: int,
    make: Make,
    seconds: float | None = None,
    requests: int | None = None,
    patience: float = PATIENCE_SECONDS,
    stopped: Callable[[], bool] = never,
) -> Tally:
    """Each connection asks again as soon as it is answered; one that is lost is replaced.

    A slow server is asked less in a closed loop: how long requests would have to wait at a given rate, it does not show
    (``open_loop`` does). What it shows is the highest rate at so many connections.

    Args:
        port: of the server.
        connections: how many ask.
        make: gives the requests.
        seconds: after which no request is sent any more.
        requests: how many are sent.
        patience: seconds until an unanswered request counts as lost; a connection that cannot be had for so long is given up.
        stopped: asked before each request; True ends the load.
    """
    if seconds is None and requests is None:
        raise ValueError("a closed loop needs seconds or requests to end")
    tally = Tally()
    numbers = itertools.count() if requests is None else iter(range(requests))
    end = float("inf") if seconds is None else monotonic() + seconds
    over = False

    def ask_next(connection: ClientConnection) -> None:
        nonlocal over
        number = None if over or stopped() or monotonic() >= end else next(numbers, None)
        if number is None:
            over = True
            connection.close()
        else:
            connection.ask(make(number))

    async def keep_asking() -> None:
        give_up_at = monotonic() + patience
        while not (over or stopped() or monotonic() >= min(end, give_up_at)):
            try:
                connection = await connect(port, tally, ask_next, patience=patience)
            except OSError as error:
                tally.unsent[why_unsent(error)] += 1
                await asyncio.sleep(RETRY_SECONDS)
                continue
            ask_next(connection)
            await connection.ended
            give_up_at = monotonic() + patience

    await asyncio.gather(*(keep_asking() for _ in range(connections)))
    return tally


async def open_loop(
    port: int,
    *,
    rate: float,
    seconds: float,
    make: Make,
    connections: int = 512,
    spacing: Spacing = "poisson",
    seed: int = 0,
    patience: float = PATIENCE_SECONDS,
    stopped: Callable[[], bool] = never,
) -> Tally:
    """Requests are due at times that do not depend on the server, as with many independent clients.

    Latencies are from when a request was due. From when it was sent, a server that stalls for a second would have slow
    answers only for the few requests that were out, not for all that could not be sent meanwhile: Gil Tene's "coordinated
    omission". ``Tally.service_times`` has them from sending nevertheless; both differ where ``Tally.late`` is not 0, that is
    where the generator or its number of connections was the limit. A timer of the event loop may be 1 to 2 ms late.

    Args:
        port: of the server.
        rate: requests per second, on average.
        seconds: how long requests are due.
        make: gives the requests.
        connections: how many there may be at most. New ones are opened while all are busy.
        spacing: of the times: a Poisson process, or even.
        seed: of the Poisson process.
        patience: seconds until an unanswered request counts as lost.
        stopped: asked again and again; True ends the load.
    """
    tally = Tally()
    free: list[ClientConnection] = []  # the one that was used last is used first
    waiting: deque[tuple[Request, float]] = deque()
    opened = 0
    over = False

    def on_free(connection: ClientConnection) -> None:
        if waiting:
            connection.ask(*waiting.popleft())
        elif over:
            connection.close()
        else:
            free.append(connection)

    async def keep_one() -> None:
        nonlocal opened
        while waiting:
            try:
                connection = await connect(port, tally, on_free, patience=patience)
            except OSError as error:
                if waiting:
                    waiting.popleft()
                    tally.unsent[why_unsent(error)] += 1
                continue
            on_free(connection)
            await connection.ended
        opened -= 1

    def arrive(request: Request, due: float) -> None:
        nonlocal opened
        while free:
            connection = free.pop()
            if connection.usable and monotonic() - connection.free_since < STALE_SECONDS:
                connection.ask(request, due)
                return
            connection.close()
        waiting.append((request, due))
        if opened < connections:
            opened += 1
            tasks.create_task(keep_one())

    def give_up() -> None:
        tally.unsent["no connection"] += len(waiting)
        waiting.clear()

    start = monotonic()
    async with asyncio.TaskGroup() as tasks:
        for number, offset in enumerate(arrivals(rate, seconds, spacing, seed)):
            due = start + offset
            await asyncio.sleep(0)  # answers are read even while this is behind
            while (pause := due - monotonic()) > 0:  # a timer may also be up to 1 ms early
                await asyncio.sleep(pause)
            if stopped():
                break
            arrive(make(number), due)
        over = True
        for connection in free:
            connection.close()
        timer = asyncio.get_running_loop().call_later(patience, give_up)
    timer.cancel()
    return tally


def arrivals(rate: float, seconds: float, spacing: Spacing = "poisson", seed: int = 0) -> array[float]:
    """When requests are due, in seconds from the start."""
    if spacing == "even":
        return array("d", (number / rate for number in range(round(rate * seconds))))
    gaps, times, time = random.Random(seed), array("d"), 0.0
    while (time := time + gaps.expovariate(rate)) < seconds:
        times.append(time)
    return times
