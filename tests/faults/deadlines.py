"""Deadlines that are shorter than the wait: 504 in time, and nothing is computed for nobody (O05, G16).

More requests than can be computed before their deadline (``X-Request-Timeout``) wait at once. Those whose time is up while they
wait are answered 504, and their rows are dropped; so is a request whose body does not come in time.
"""

from __future__ import annotations

import http.client
import socket
import time

from tests.faults.echo_server import EchoServer, echo_server
from tests.faults.figure import Figure
from tests.faults.load import LoadProcess
from tests.faults.metrics import metrics, settled_outcomes, total

BATCH_ROWS, BATCH_SECONDS = 4, 0.05
LATE_SECONDS = 0.25  # after the deadline, at most
BODY = b'{"instances": ["a text"]}'


def short_deadlines(*, waves: int = 3, at_once: int = 200, timeout: float = 0.5) -> list[Figure]:
    """More requests at once than can be computed before their deadline.

    Args:
        waves: how often.
        at_once: requests of one row each time.
        timeout: of each, in seconds.
    """
    with echo_server(delay=BATCH_SECONDS, max_batch_rows=BATCH_ROWS, max_rows_in_flight=2 * at_once) as server:
        before = rows(server)
        late = ok = timeouts = sent = 0
        for _ in range(waves):
            start = settled_outcomes(server.port)
            options = {"connections": at_once, "requests": at_once, "request_timeout": timeout}
            with LoadProcess(server.port, **options) as load:
                tally = load.tally(60)
            tally.check_conservation(start, settled_outcomes(server.port))
            assert server.answers()  # rows are taken in their order: all before this one were computed or dropped
            late = max(late, tally.p(1.0, from_send=True), tally.p(1.0, 504, from_send=True))
            ok, timeouts, sent = ok + tally.ok, timeouts + tally.timeouts, sent + tally.sent
        computed, dropped = (value - start for value, start in zip(rows(server), before, strict=True))
        computed -= waves  # the requests afterwards
        return [
            Figure(goal="O05", name="answered in time", value=ok, unit="requests", relation=">=", bar=1),
            Figure(goal="O05", name="answered 504", value=timeouts, unit="requests", bar=sent - ok),
            Figure(
                goal="O05",
                name="rows computed, but not answered",
                value=computed - ok,
                unit="rows",
                relation="<=",
                bar=2 * BATCH_ROWS * waves,  # the batch on the device when time is up, and the answers on their way
            ),
            Figure(goal="O05", name="rows neither computed nor dropped", value=sent - computed - dropped, bar=0),
            Figure(
                goal="G16",
                name="slowest answer after its deadline",
                value=(late - timeout) * 1000,
                unit="ms",
                relation="<=",
                bar=LATE_SECONDS * 1000,
            ),
            Figure(goal="O05", name="a request afterwards", value=server.answers(), bar=1),
        ]


def deadline_of_a_body(*, timeout: float = 0.5) -> list[Figure]:
    """A request whose body does not come before its deadline.

    Args:
        timeout: of the request, in seconds.
    """
    head = (
        "POST /v1/models/echo:predict HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
        f"X-Request-Timeout: {timeout}\r\nContent-Length: {len(BODY)}\r\n\r\n"
    )
    with echo_server() as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            started = time.monotonic()
            connection.sendall(head.encode() + BODY[:-1])
            response = http.client.HTTPResponse(connection)
            response.begin()
            late = time.monotonic() - started - timeout
        counted = settled_outcomes(server.port)
        return [
            Figure(goal="G16", name="status of a body that is late", value=response.status, bar=504),
            Figure(
                goal="G16",
                name="after its deadline",
                value=late * 1000,
                unit="ms",
                relation="<=",
                bar=LATE_SECONDS * 1000,
            ),
            Figure(goal="G16", name="and not before it", value=late * 1000, unit="ms", relation=">=", bar=0),
            Figure(
                goal="G20",
                name="counted as a timeout",
                value=counted["timeout"],
                unit="requests",
                bar=counted["received"],
            ),
            Figure(goal="O05", name="a request afterwards", value=server.answers(), bar=1),
        ]


def rows(server: EchoServer) -> tuple[float, float]:
    """Computed, and dropped."""
    found = metrics(server.port)
    return total(found, "graftwork_batch_size_rows_sum"), total(found, "graftwork_dropped_rows_total")
