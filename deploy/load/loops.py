"""The two ways of asking: as fast as answers come, or at times of one's own."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import deque
from time import monotonic
from typing import Literal

from connection import Connection, Target
from load import Load

Spacing = Literal["poisson", "constant"]

RETRY_SECONDS = 0.05  # between two tries to connect
STALE_SECONDS = 2.0  # a connection that was free for longer is not used again: the server may be about to close it


async def closed_loop(load: Load, *, clients: int, seconds: float | None = None, requests: int | None = None) -> float:
    """Each client asks again as soon as it is answered; after a refusal, once its Retry-After is over.

    A slow server is asked less: how long requests would have to wait at a given rate, this does not show.

    Args:
        clients: how many; the servers get as many each.
        seconds: after which nothing is sent any more; what is under way then is waited for.
        requests: how many are sent, where it is not for seconds.

    Returns:
        How many seconds it took.
    """
    started = monotonic()
    end = float("inf") if seconds is None else started + seconds
    left = itertools.count() if requests is None else iter(range(requests))
    timer = asyncio.get_running_loop().call_later

    def is_next() -> bool:
        if monotonic() >= end or next(left, None) is None:
            return False
        load.tally.sent += 1
        return True

    def on_free(connection: Connection, wait: float) -> None:
        if wait:
            timer(max(0.0, min(wait, end - monotonic())), on_free, connection, 0.0)
        elif connection.is_usable and is_next():
            load.send(connection)
        else:
            connection.close()

    async def client(target: Target) -> None:
        while is_next():
            try:
                connection = await load.connect(target)
            except OSError as error:
                load.unsent(why(error))
                await asyncio.sleep(RETRY_SECONDS)
                continue
            load.send(connection)
            await connection.ended

    load.on_free = on_free
    watch = asyncio.create_task(load.watch())
    await asyncio.gather(*(client(load.targets[number % len(load.targets)]) for number in range(clients)))
    watch.cancel()
    return monotonic() - started


async def open_loop(
    load: Load, *, rate: float, seconds: float, spacing: Spacing = "poisson", connections: int = 512, seed: int = 0
) -> float:
    """Requests are due at times that do not depend on the servers, as with many independent clients.

    Latencies count from when a request was due. From when it was sent, a server that stalls for a second would have slow
    answers only for the few requests that were out, not for all that could not be sent meanwhile ("coordinated omission").
    Nobody waits for a Retry-After.

    Args:
        rate: requests a second, of all servers together, on average.
        seconds: for which requests are due; what is under way then is waited for.
        spacing: of the times: a Poisson process, or constant.
        connections: to each server, at most. New ones are opened while all are busy.
        seed: of the Poisson process.

    Returns:
        How many seconds it took.
    """
    gaps = random.Random(seed)
    pools = [_Pool(load, target, connections) for target in load.targets]
    by_target = {pool.target: pool for pool in pools}
    load.on_free = lambda connection, wait: by_target[connection.target].take_back(connection)
    watch = asyncio.create_task(load.watch())
    started = due = monotonic()
    for pool in itertools.cycle(pools):
        due += gaps.expovariate(rate) if spacing == "poisson" else 1 / rate
        if due >= started + seconds:
            break
        await asyncio.sleep(max(0.0, due - monotonic()))  # also where it is late: answers have to be read, too
        load.tally.sent += 1
        pool.ask(due)
    await asyncio.sleep(max(0.0, started + seconds - monotonic()))
    await asyncio.gather(*(pool.finish() for pool in pools))
    watch.cancel()
    return monotonic() - started


class _Pool:
    """The connections to one server."""

    def __init__(self, load: Load, target: Target, most: int) -> None:
        self.target = target
        self._load = load
        self._most = most
        self._free: list[Connection] = []  # the one that was used last is used first
        self._waiting: deque[float] = deque()  # when requests were due that no connection was free for
        self._open: set[asyncio.Task[None]] = set()
        self._is_over = False

    def ask(self, due: float) -> None:
        """A request is due."""
        while self._free:
            connection = self._free.pop()
            if connection.is_usable and monotonic() - connection.free_since < STALE_SECONDS:
                self._load.send(connection, due)
                return
            connection.close()
        self._waiting.append(due)
        if len(self._open) < self._most:
            task = asyncio.create_task(self._keep_one())
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    def take_back(self, connection: Connection) -> None:
        """A connection is free."""
        if self._waiting:
            self._load.send(connection, self._waiting.popleft())
        elif self._is_over:
            connection.close()
        else:
            self._free.append(connection)

    async def _keep_one(self) -> None:
        while self._waiting:
            try:
                connection = await self._load.connect(self.target)
            except OSError as error:
                if self._waiting:
                    self._waiting.popleft()
                    self._load.unsent(why(error))
                continue
            self.take_back(connection)
            await connection.ended

    async def finish(self) -> None:
        """Waits for what is under way."""
        self._is_over = True
        for connection in self._free:
            connection.close()
        while self._open:
            await asyncio.wait(self._open)


def why(error: OSError) -> str:
    """A reason that is the same for all errors of a kind."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, TimeoutError):
        return "no connection in time"
    return f"no connection: {error.strerror or type(error).__name__}"
