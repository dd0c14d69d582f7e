"""What is let in: rows and bytes in flight are bounded, whoever sends them, and who is refused learns when to come again.

``retry_after``: the seconds that a full server names are about those that it then takes for what it has (O01).
``large_and_tiny``: requests of the largest size do not keep tiny ones from being answered (O06).
``bytes_in_flight``: bodies are counted as they arrive, and refused above the limit; who only announces one holds nothing.
"""

from __future__ import annotations

import http.client
import socket
import time
from contextlib import ExitStack, closing

from tests.faults.echo_server import EchoServer, echo_server
from tests.faults.figure import Figure
from tests.faults.load import LoadProcess, run_load
from tests.faults.metrics import metrics, settled_outcomes, total
from tests.faults.tally import Tally
from tests.processes import wait_for
from tests.server_process import json_body

LARGEST = 64  # rows in one request
BATCH_ROWS, BATCH_SECONDS = 8, 0.02
ROWS_PER_SECOND = BATCH_ROWS / BATCH_SECONDS
TINY_RATE = 50
PATH = "/v1/models/echo:predict"


def retry_after(*, requests: int = 10) -> list[Figure]:
    """A server is filled with rows and asked for one more.

    Args:
        requests: of the largest size, that fill it.
    """
    rows = requests * LARGEST
    with echo_server(delay=BATCH_SECONDS, max_batch_rows=BATCH_ROWS, max_rows_in_flight=rows) as server:
        usual = run_load(server.port, connections=2 * BATCH_ROWS, requests=20 * BATCH_ROWS)  # it learns its rate
        with ExitStack() as stack:
            filling = [stack.enter_context(closing(connect(server))) for _ in range(requests)]
            for number, connection in enumerate(filling):
                connection.request("POST", PATH, json_body([f"text {number} {row}" for row in range(LARGEST)]))
            wait_for(lambda: total(metrics(server.port), "graftwork_in_flight_rows") == rows, 10, pause=0.005)
            reply, asked = server.predict("echo", ["one more"]), time.monotonic()
            seconds = int(reply.headers.get("retry-after", 0))
            filled = [connection.getresponse().status for connection in filling]
            took = time.monotonic() - asked
        unanswered = usual.sent - usual.ok + requests - filled.count(200)
        uncounted = usual.sent + requests + 1 - settled_outcomes(server.port)["received"]
        return [
            Figure(goal="O01", name="status of one row too many", value=reply.status, bar=503),
            Figure(goal="O01", name="Retry-After", value=seconds, unit="s", relation=">=", bar=2),
            Figure(goal="O01", name="what was in flight took", value=took, unit="s"),
            Figure(goal="O01", name="Retry-After over that, at least", value=seconds / took, relation=">=", bar=0.5),
            Figure(goal="O01", name="Retry-After over that, at most", value=seconds / took, relation="<=", bar=3),
            Figure(goal="O01", name="requests not answered", value=unanswered, bar=0),
            Figure(goal="G20", name="requests not counted", value=uncounted, bar=0),
            Figure(goal="O01", name="a request afterwards", value=server.answers(), bar=1),
        ]


def large_and_tiny(*, seconds: float = 3.0, strict: bool = False) -> list[Figure]:
    """Requests of one row, beside requests of 64: as many as are let in, more than can be computed, and without pause.

    Args:
        seconds: of each of the three.
        strict: holds the latency against its bar.
    """
    rows = 3 * LARGEST
    with echo_server(delay=BATCH_SECONDS, max_batch_rows=BATCH_ROWS, max_rows_in_flight=rows) as server:
        before = settled_outcomes(server.port)
        # Two clients with the largest requests: there is always room for the tiny ones.
        large, tiny = mixed(server, seconds, connections=2)
        # The rows that may be ahead of a tiny one when it is let in, and the batch that is being computed.
        most_seconds = rows / ROWS_PER_SECOND + BATCH_SECONDS
        # One and a half times what can be computed, by clients that do not know of each other.
        large_over, tiny_over = mixed(server, seconds, rate=1.5 * ROWS_PER_SECOND / LARGEST)
        # Eight clients that ask again at once, whatever Retry-After says.
        large_rude, tiny_rude = mixed(server, seconds, connections=8)
        tallies = (large, tiny, large_over, tiny_over, large_rude, tiny_rude)
        everything = Tally()
        for tally in tallies:
            everything = everything.merge(tally)
        everything.check_conservation(before, settled_outcomes(server.port))
        wrong = everything.wrong + everything.lost + everything.sent - everything.ok - everything.shed
        return [
            Figure(goal="O06", name="tiny ones refused", value=tiny.shed, unit="requests", bar=0),
            Figure(goal="O06", name="large ones refused", value=large.shed, unit="requests", bar=0),
            Figure(goal="O06", name="tiny p50 beside large ones", value=tiny.p(0.5) * 1000, unit="ms"),
            Figure(
                goal="O06",
                name="tiny p99 beside large ones",
                value=tiny.p(0.99) * 1000,
                unit="ms",
                relation="<=",
                bar=most_seconds * 1000 if strict else None,
            ),
            Figure(goal="O06", name="1.5x: share of tiny ones refused", value=share(tiny_over)),
            Figure(goal="O06", name="1.5x: share of large ones refused", value=share(large_over)),
            Figure(
                goal="O06",
                name="1.5x: tiny p99",
                value=tiny_over.p(0.99) * 1000,
                unit="ms",
                relation="<=",
                bar=(most_seconds + LARGEST / ROWS_PER_SECOND) * 1000 if strict else None,
            ),
            Figure(goal="O06", name="share of tiny ones refused beside rude clients", value=share(tiny_rude)),
            Figure(goal="O06", name="neither answered nor refused", value=wrong, unit="requests", bar=0),
            Figure(goal="O06", name="a request afterwards", value=server.answers(), bar=1),
        ]


def mixed(server: EchoServer, seconds: float, **of_large: float) -> tuple[Tally, Tally]:
    """The largest and tiny requests at a time."""
    with (
        LoadProcess(server.port, rows=LARGEST, seconds=seconds, **of_large) as large,
        LoadProcess(server.port, rate=TINY_RATE, seconds=seconds) as tiny,
    ):
        return large.tally(seconds + 60), tiny.tally(seconds + 60)


def share(tally: Tally) -> float:
    return tally.shed / tally.sent


def bytes_in_flight(*, slow: int = 50) -> list[Figure]:
    """Clients that announce large bodies and send part of them.

    Args:
        slow: clients that send very little of what they announce.
    """
    limit, announced, little = 2_000_000, 1_000_000, 10_000
    with echo_server(max_bytes_in_flight=limit, max_json_bytes=announced) as server, ExitStack() as stack:
        head = f"POST {PATH} HTTP/1.1\r\nHost: here\r\nContent-Type: text/plain\r\nContent-Length: {announced}\r\n\r\n"

        def send(size: int) -> socket.socket:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
            connection.sendall(head.encode() + b"x" * size)
            return connection

        def held() -> float:
            return total(metrics(server.port), "graftwork_in_flight_bytes")

        # Together they announce far more than the limit, and hold what they have sent.
        barely = [send(little) for _ in range(slow)]
        wait_for(lambda: held() >= slow * little, 10)
        held_by_slow = held()
        answered_beside = server.answers()
        # One fits beside them, the next one does not.
        fits = send(announced - 1)
        wait_for(lambda: held() >= slow * little + announced - 1, 10)
        too_much = send(announced - 1)
        refusal = http.client.HTTPResponse(too_much)
        refusal.begin()
        after = int(refusal.headers.get("Retry-After", 0))
        wait_for(lambda: held() <= slow * little + announced - 1, 10)
        # The one that fits is answered when it is whole; the slow ones hang up.
        fits.sendall(b"x")
        answer = http.client.HTTPResponse(fits)
        answer.begin()
        for connection in barely:
            connection.close()
        wait_for(lambda: held() == 0, 10)
        counted = settled_outcomes(server.port)
        uncounted = slow + 3 - counted["received"]
        return [
            Figure(goal="O01", name="bytes held by slow senders", value=held_by_slow, bar=slow * little),
            Figure(goal="O01", name="a request beside them", value=answered_beside, bar=1),
            Figure(goal="O01", name="status of a body over the limit", value=refusal.status, bar=503),
            Figure(goal="O01", name="its Retry-After", value=after, unit="s", relation=">=", bar=1),
            Figure(goal="O01", name="status of the body that fits", value=answer.status, bar=200),
            Figure(goal="O04", name="slow senders counted as disconnected", value=counted["disconnected"], bar=slow),
            Figure(goal="G20", name="requests not counted", value=uncounted, bar=0),
            Figure(goal="O01", name="a request afterwards", value=server.answers(), bar=1),
        ]


def connect(server: EchoServer) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
