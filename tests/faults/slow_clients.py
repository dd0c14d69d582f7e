"""Clients that take their time: they are sent away, and nobody else waits for them (G13, H01, H02, O03).

``slow_senders``: heads and bodies that come byte by byte, while others ask as usual.
``idle_connections``: more connections than there may be, on which nothing is ever sent.
``slow_readers``: clients that never read their answers.

In the short form the limits of a connection are shorter, and ratios of times are reported only: see ``strict``.
"""

from __future__ import annotations

import http.client
import itertools
import resource
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing

from service.http.limits import ConnectionLimits
from tests.faults.crowd import Crowd, Manner
from tests.faults.echo_server import EchoServer, echo_server
from tests.faults.figure import Figure
from tests.faults.footprint import footprint, warm_up
from tests.faults.load import LoadProcess
from tests.faults.metrics import metrics, settled_outcomes, total
from tests.faults.tally import Tally
from tests.processes import wait_for
from tests.server_process import json_body

POST = b"POST /v1/models/echo:predict HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
SLOW_HEAD = Manner(pieces=[POST[:1], *(bytes([byte]) for byte in POST[1:] + b"X-Long: " + b"x" * 10_000)], pause=0.5)
SLOW_BODY = Manner(pieces=[POST + b"Content-Length: 1000000\r\n\r\n{", *[b" "] * 10_000], pause=0.5)
SHORT_LIMITS = {
    "header_timeout_seconds": 1.5,
    "body_timeout_seconds": 3.0,
    "body_grace_seconds": 1.0,
    "write_timeout_seconds": 1.0,
    "sweep_seconds": 0.1,
}
USUAL_RATE = 100
ROOM = 500  # connections beside the slow ones, who come again while their last one still ends
SLACK_SECONDS = 2.0  # for a busy machine


def slow_senders(
    *,
    clients: int = 100,
    seconds: float = 4.0,
    limits: Mapping[str, float] = SHORT_LIMITS,
    strict: bool = False,
) -> list[Figure]:
    """Heads and bodies that come byte by byte, while others ask as usual.

    Args:
        clients: of either kind; one that is sent away connects again.
        seconds: of the usual load, alone and then beside them.
        limits: of a connection; nothing is those of the server.
        strict: holds the ratio of latencies against its bar.
    """
    with echo_server(
        delay=0.02,
        max_batch_rows=8,
        max_rows_in_flight=1000,
        connections={**limits, "max_connections": 2 * clients + ROOM},
    ) as server:
        set_limits = ConnectionLimits(**limits)
        warm_up(server)
        files = footprint(server).files
        before = settled_outcomes(server.port)
        coming = {"replaced": True, "over_seconds": set_limits.header_timeout_seconds}  # not all at once: see O03
        alone = usual_load(server, seconds)
        with (
            Crowd(server.port, clients, SLOW_HEAD, **coming) as heads,
            Crowd(server.port, clients, SLOW_BODY, **coming) as bodies,
        ):
            wait_for(lambda: min(heads.opened, bodies.opened) >= clients, 30)
            found = metrics(server.port)
            rows_held, bytes_held = (total(found, f"graftwork_in_flight_{what}") for what in ("rows", "bytes"))
            beside = usual_load(server, seconds)
            wait_for(lambda: min(len(heads.lives), len(bodies.lives)) >= clients, 60)
        after = settled_outcomes(server.port)
        wait_for(lambda: footprint(server).files <= files, 10)
        sent = alone.sent + beside.sent + bodies.opened
        statuses = Counter(life.status for life in heads.lives + bodies.lives)
        unanswered = alone.sent - alone.ok + beside.sent - beside.ok
        return [
            Figure(goal="G13", name="slow heads sent away", value=len(heads.lives), relation=">=", bar=clients),
            Figure(goal="G13", name="slow bodies sent away", value=len(bodies.lives), relation=">=", bar=clients),
            Figure(
                goal="G13",
                name="told another status than 408",
                value=statuses.total() - statuses[408] - statuses[0],
                bar=0,
            ),
            Figure(  # one that is too slow to read it within linger_seconds
                goal="G13",
                name="share told nothing",
                value=statuses[0] / statuses.total(),
                relation="<=",
                bar=0.02,
            ),
            Figure(
                goal="H01",
                name="longest life of a slow head",
                value=max(life.seconds for life in heads.lives),
                unit="s",
                relation="<=",
                bar=set_limits.header_timeout_seconds + SLACK_SECONDS,
            ),
            Figure(
                goal="H02",
                name="longest life of a slow body",
                value=max(life.seconds for life in bodies.lives),
                unit="s",
                relation="<=",
                bar=set_limits.body_grace_seconds + SLACK_SECONDS,
            ),
            Figure(goal="G13", name="rows that they held", value=rows_held, bar=0),
            Figure(
                goal="G13", name="bytes that they held", value=bytes_held, relation="<=", bar=clients * 10, unit="bytes"
            ),
            Figure(goal="G13", name="usual requests not answered", value=unanswered, bar=0),
            Figure(goal="G13", name="usual p99 alone", value=alone.p(0.99) * 1000, unit="ms"),
            Figure(
                goal="G13",
                name="usual p99 beside them over alone",
                value=beside.p(0.99) / alone.p(0.99),
                relation="<=",
                bar=1.5 if strict else None,
            ),
            Figure(
                goal="G20", name="requests not counted", value=sent - (after["received"] - before["received"]), bar=0
            ),
            Figure(goal="G13", name="a request afterwards", value=server.answers(), bar=1),
        ]


def idle_connections(*, idle: int = 300, most: int = 100, limits: Mapping[str, float] = SHORT_LIMITS) -> list[Figure]:
    """More connections than there may be, on which nothing is ever sent.

    Args:
        idle: connections; as many open files does this process need.
        most: that the server lets in.
        limits: of a connection beside that; nothing is those of the server.
    """
    allow_open_files(idle + 200)
    with echo_server(connections={**limits, "max_connections": most}) as server:
        warm_up(server)
        files = footprint(server).files
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as old:
            beside = [status(old)]
            with Crowd(server.port, idle, Manner()) as crowd:
                started = time.monotonic()
                wait_for(lambda: crowd.opened + crowd.failed == idle, 60)
                beside.append(status(old))
                excess = idle - crowd.failed - (most - 1)
                wait_for(lambda: sum(life.status == 503 for life in crowd.lives) >= excess, 30)
                told = sum(life.status == 503 for life in crowd.lives)
                beside.append(status(old))
                # A new client is told to come again, and let in when the idle ones have been sent away.
                refused = server.status_of("/health/live")
                wait_for(lambda: server.status_of("/health/live") == 200, 60)
                back = time.monotonic() - started
                wait_for(lambda: len(crowd.lives) == crowd.opened, 60)
                without_a_word = sum(not life.answer for life in crowd.lives)
            beside.append(status(old))
        wait_for(lambda: footprint(server).files <= files, 10)
        received = settled_outcomes(server.port)["received"]
        return [
            Figure(goal="O03", name="idle connections", value=crowd.opened, bar=idle),
            Figure(goal="O03", name="told 503 and closed", value=told, relation=">=", bar=excess),
            Figure(goal="O03", name="let in, and closed in time", value=without_a_word, relation="<=", bar=most),
            Figure(goal="O03", name="status of a new client meanwhile", value=refused, bar=503),
            Figure(goal="O03", name="an old client answered beside them", value=beside.count(200), bar=len(beside)),
            Figure(
                goal="O03",
                name="a new client let in after",
                value=back,
                unit="s",
                relation="<=",
                bar=ConnectionLimits(**limits).header_timeout_seconds + 2 * SLACK_SECONDS,
            ),
            Figure(goal="G20", name="requests not counted", value=len(beside) - received + 4000, bar=0),
            Figure(goal="O03", name="a request afterwards", value=server.answers(), bar=1),
        ]


def slow_readers(*, clients: int = 8, limits: Mapping[str, float] = SHORT_LIMITS) -> list[Figure]:
    """Clients that ask for much, again and again, and never read an answer.

    Args:
        clients: how many.
        limits: of a connection; nothing is those of the server.
    """
    body = json_body([f"a text of some length {row}" for row in range(64)])
    asking = POST + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with echo_server(max_rows_in_flight=64 * (clients + 1), connections=limits) as server:
        warm_up(server)
        files = footprint(server).files
        with Crowd(server.port, clients, Manner(pieces=itertools.repeat(asking), reads=False)) as crowd:
            wait_for(lambda: crowd.opened == clients, 30)
            usual = usual_load(server, 2.0)
            wait_for(lambda: len(crowd.lives) == clients, 60)
            longest = max(life.seconds for life in crowd.lives)
        wait_for(lambda: footprint(server).files <= files, 10)
        unanswered = usual.sent - usual.ok
        settled_outcomes(server.port)
        return [
            Figure(goal="H02", name="clients that read nothing, cut off", value=len(crowd.lives), bar=clients),
            Figure(goal="H02", name="longest life of one", value=longest, unit="s"),
            Figure(goal="H02", name="usual requests not answered", value=unanswered, unit="requests", bar=0),
            Figure(goal="H02", name="usual p99 beside them", value=usual.p(0.99) * 1000, unit="ms"),
            Figure(goal="H02", name="a request afterwards", value=server.answers(), bar=1),
        ]


def usual_load(server: EchoServer, seconds: float) -> Tally:
    """What others ask meanwhile."""
    with LoadProcess(server.port, rate=USUAL_RATE, seconds=seconds) as load:
        return load.tally(seconds + 60)


def status(connection: http.client.HTTPConnection) -> int:
    """Of one more request on the same connection."""
    connection.request("POST", "/v1/models/echo:predict", json_body(["still there"]))
    response = connection.getresponse()
    response.read()
    return response.status


def allow_open_files(count: int) -> None:
    """Raises the limit of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
