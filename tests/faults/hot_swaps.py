"""Versions that are promoted, loaded and unloaded under load.

* `hot_swaps` (G4, L10, L11): the champion moves to and fro over HTTP, at 70 % of the peak that was measured right before. The
  model keeps its latest version only, so that every other swap loads a version and unloads another. Now and then a broken one
  is promoted. No request fails, no answer is of another version than it says, and once a promotion is answered, it holds.
* `churn` (G5): several clients at once have one version loaded and unloaded again and again.

The load checks every answer: each prediction says which version computed it.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

from tests.faults.aftermath import aftermath
from tests.faults.echo import BROKEN
from tests.faults.echo_server import EchoServer, echo_server
from tests.faults.figure import Figure
from tests.faults.footprint import MEBI, footprint, warm_up
from tests.faults.load import LoadProcess
from tests.faults.metrics import metrics, settled_outcomes, total
from tests.processes import wait_for
from tests.server_process import Reply

SHARE_OF_PEAK = 0.7
GIVE_UP_SECONDS = 60.0
BROKEN_EVERY = 10  # swaps
PROBES = 8  # requests right after a promotion


def hot_swaps(*, swaps: int = 100, peak_seconds: float = 5.0, slack: float = 1.0) -> list[Figure]:
    """Swaps the champion again and again.

    Args:
        swaps: how often.
        peak_seconds: for which the peak is measured.
        slack: factor on bars on times.
    """
    seconds, refused, stale = [], 0, 0
    with echo_server(delay=0.005, workers=2, admin=True) as server:
        assert change(server, "PUT", "keep", {"keep": "latest:1"}).status == 200
        with LoadProcess(server.port, connections=32, seconds=peak_seconds) as load:
            peak = load.tally(peak_seconds + GIVE_UP_SECONDS).rate()
        before = settled_outcomes(server.port)
        probes = 0
        with LoadProcess(server.port, rate=SHARE_OF_PEAK * peak, seconds=swaps + GIVE_UP_SECONDS) as load:
            received = before["received"]
            wait_for(
                lambda: total(metrics(server.port), "graftwork_received_requests_total") > received, GIVE_UP_SECONDS
            )
            for swap in range(swaps):
                number = 2 - swap % 2
                started = time.monotonic()
                reply = change(server, "PUT", "labels/champion", {"version": number, "expect": 3 - number})
                seconds.append(time.monotonic() - started)
                assert reply.status == 200, reply.body
                for _ in range(PROBES):
                    reply = server.predict("echo", ["which one?"])
                    assert reply.status == 200, reply.body
                    stale += reply.json()["version"] != number
                    probes += 1
                if swap % BROKEN_EVERY == 0:
                    refused += change(server, "PUT", "labels/champion", {"version": BROKEN}).status == 409
            load.stop()
            tally = load.tally(GIVE_UP_SECONDS)
        before = {**before, "received": before["received"] + probes, "ok": before["ok"] + probes}
        return [
            Figure(goal="L10", name="swaps", value=swaps),
            Figure(goal="L10", name="peak", value=peak, unit="requests/s"),
            *aftermath("G4", server, tally, before),
            Figure(goal="G4", name="requests while swapping", value=tally.sent / swaps, relation=">=", bar=10),
            Figure(goal="L10", name="answers of the old version after a promotion", value=stale, bar=0),
            Figure(goal="L11", name="broken versions promoted", value=-(-swaps // BROKEN_EVERY) - refused, bar=0),
            Figure(goal="L10", name="slowest promotion", value=max(seconds), unit="s", relation="<=", bar=1.0 * slack),
            Figure(goal="L10", name="p99 of requests", value=tally.p(0.99) * 1000, unit="ms"),
        ]


def churn(*, clients: int = 32, changes: int = 1024) -> list[Figure]:
    """Has a version loaded and unloaded by several clients at once.

    Args:
        clients: how many.
        changes: of each.
    """
    with echo_server(workers=2, admin=True) as server:
        warm_up(server)
        keep(server, 20)
        footprint_before, family = footprint(server), server.survivors()
        with ThreadPoolExecutor(clients) as pool:
            failed = sum(pool.map(lambda _: keep(server, changes), range(clients)))
        growth = footprint(server).growth(footprint_before)
        return [
            Figure(goal="G5", name="changes", value=clients * changes),
            Figure(goal="G5", name="changes that failed", value=failed, bar=0),
            Figure(goal="G5", name="processes that ended", value=len(set(family) - set(server.survivors())), bar=0),
            Figure(goal="G5", name="growth of memory", value=growth.memory / MEBI, unit="MiB", relation="<=", bar=50),
            Figure(goal="G5", name="ready", value=server.status_of("/health/ready"), bar=200),
            Figure(goal="G5", name="a request afterwards", value=server.answers(), bar=1),
        ]


def keep(server: EchoServer, changes: int) -> int:
    """Has the second version loaded and unloaded; returns how many of the changes failed."""
    policies = ("1", "1,2")
    return sum(change(server, "PUT", "keep", {"keep": policies[n % 2]}).status != 200 for n in range(changes))


def change(server: EchoServer, method: str, path: str, document: object) -> Reply:
    """What an operator asks for."""
    body = json.dumps(document).encode()
    return server.request(method, f"/v1/models/echo/{path}", body, {"Content-Type": "application/json"}, timeout=60)
