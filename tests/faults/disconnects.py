"""Clients that hang up: what they left in the queue is not computed, and nothing of them stays behind (O04, G15).

One request keeps the device busy; meanwhile many clients ask and hang up, so that all their rows are in the queue when they
do. Then others hang up while their rows are computed: those results are dropped. Memory, open files and all that counts as in
flight are compared with what they were after the first such clients.
"""

from __future__ import annotations

import http.client
from dataclasses import dataclass

from tests.faults.echo_server import EchoServer, echo_server
from tests.faults.figure import Figure
from tests.faults.footprint import MEBI, footprint, warm_up
from tests.faults.load import run_load
from tests.faults.metrics import metrics, outcomes, settled_outcomes, total
from tests.processes import wait_for
from tests.server_process import json_body

BATCH_SECONDS = 0.6
BATCH_ROWS = 8
IN_FLIGHT = ("graftwork_in_flight_requests", "graftwork_in_flight_rows", "graftwork_in_flight_bytes")


@dataclass(frozen=True, kw_only=True)
class Count:
    """What a server has counted when nothing was in flight; every request here has one row."""

    received: float
    ok: float
    disconnected: float
    computed_rows: float
    dropped_rows: float

    def since(self, before: Count) -> Count:
        return Count(**{name: value - getattr(before, name) for name, value in vars(self).items()})


def hang_ups(*, clients: int = 1000, at_once: int = 200, computed: int = 24, size: int = 100) -> list[Figure]:
    """Clients that hang up while their rows wait, and then some that do while theirs are computed.

    Args:
        clients: that hang up while their rows wait.
        at_once: how many of them, each time.
        computed: clients that hang up while their rows are computed.
        size: of each text, in bytes; one above 64 KiB comes in more than one piece.
    """
    waves = -(-clients // at_once)
    with echo_server(delay=BATCH_SECONDS, max_batch_rows=BATCH_ROWS, max_rows_in_flight=2 * at_once) as server:
        warm_up(server)
        for _ in range(max(2, waves // 10)):  # until the most that there is at once was taken
            hang_up_while_queued(server, at_once, size)
        start, before = count(server), footprint(server)
        for _ in range(waves):
            hang_up_while_queued(server, at_once, size)
        middle = count(server)
        executing = run_load(
            server.port, connections=BATCH_ROWS, requests=computed, hang_up_after=BATCH_SECONDS / 2, size=size
        )
        end = count(server)
        growth = footprint(server).growth(before)
        found = metrics(server.port)
        left = sum(total(found, name) for name in IN_FLIGHT)
        waiting, executed = middle.since(start), end.since(middle)
        sent = waves * at_once
        uncounted = end.since(start).received - (sent + waves + executing.sent + 2)
        return [
            Figure(goal="G15", name="hung up while queued", value=waiting.disconnected, unit="clients", bar=sent),
            Figure(
                goal="G15",
                name="share of their rows never computed",
                value=1 - (waiting.computed_rows - waiting.ok) / sent,
                relation=">=",
                bar=0.99,
            ),
            Figure(goal="G15", name="of these, dropped in the worker", value=waiting.dropped_rows, unit="rows"),
            Figure(
                goal="O04",
                name="hung up while computed",
                value=executed.disconnected,
                unit="clients",
                bar=executing.hung_up,
            ),
            Figure(goal="O04", name="results of them dropped", value=executed.computed_rows - executed.ok, unit="rows"),
            Figure(goal="G20", name="requests not counted", value=uncounted, bar=0),
            Figure(goal="G15", name="left in flight", value=left, bar=0),
            Figure(goal="G15", name="open files left", value=growth.files, unit="files", relation="<=", bar=0),
            Figure(
                goal="G15",
                name="growth of memory",
                value=growth.memory / MEBI,
                unit="MiB",
                relation="<=",
                bar=5 + at_once * size / MEBI,  # the allocator may keep what was there at once
            ),
            Figure(goal="O04", name="a request afterwards", value=server.answers(), bar=1),
        ]


def hang_up_while_queued(server: EchoServer, clients: int, size: int) -> None:
    """One request occupies the device; others come meanwhile, and have hung up before it is free."""
    occupying = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        occupying.request("POST", "/v1/models/echo:predict", json_body(["occupies the device"]))
        wait_for(lambda: total(metrics(server.port), "graftwork_in_flight_rows") == 1, 10, pause=0.005)
        tally = run_load(server.port, connections=clients, requests=clients, hang_up_after=0.02, size=size)
        assert tally.hung_up == clients, tally.summary()
        assert occupying.getresponse().status == 200
    finally:
        occupying.close()


def count(server: EchoServer) -> Count:
    """Rows are taken in the order of their arrival: with this answer, all before it were computed or dropped."""
    assert server.answers()
    settled_outcomes(server.port)
    found = metrics(server.port)
    counted = outcomes(found)
    return Count(
        received=counted["received"],
        ok=counted["ok"],
        disconnected=counted["disconnected"],
        computed_rows=total(found, "graftwork_batch_size_rows_sum"),
        dropped_rows=total(found, "graftwork_dropped_rows_total"),
    )
