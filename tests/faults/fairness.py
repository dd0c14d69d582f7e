"""One key asks far more often than it may, another as it always does: the first is refused, the second notices nothing (O02, G7).

The polite key runs alone first, then beside the flood; both at an even pace. The ratio of its times is held against its bar
in the long form only: other work on the same cores spoils it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from service.auth.key import Scope
from service.auth.key_file import KeyFile
from tests.faults.echo_server import echo_server
from tests.faults.figure import Figure
from tests.faults.load import LoadProcess
from tests.faults.metrics import metrics, settled_outcomes, total

POLITE_RATE = 50.0  # requests a second
FLOOD = 10  # times as many
BATCH_SECONDS, BATCH_ROWS = 0.01, 8


def key_floods(*, seconds: float = 10.0, strict: bool = False) -> list[Figure]:
    """A key with a rate asks ten times as often as it may and as the polite one does.

    Args:
        seconds: of each of the two measurements.
        strict: holds the ratio of times against its bar.
    """
    with tempfile.TemporaryDirectory(prefix="graftwork-keys-") as directory:
        path = Path(directory) / "keys.json"
        file = KeyFile(path)
        _, flooder_secret = file.create("flooder", [Scope.PREDICT], requests_per_second=POLITE_RATE)
        _, polite_secret = file.create("polite", [Scope.PREDICT, Scope.METRICS])
        polite, flood = bearer(polite_secret), bearer(flooder_secret)
        with echo_server(delay=BATCH_SECONDS, max_batch_rows=BATCH_ROWS, keys=str(path)) as server:
            before = settled_outcomes(server.port, headers=polite)
            with LoadProcess(server.port, rate=POLITE_RATE, seconds=seconds, headers=polite, spacing="even") as load:
                alone = load.tally(seconds + 60)
            with (
                LoadProcess(server.port, rate=FLOOD * POLITE_RATE, seconds=seconds + 1, headers=flood) as flood_load,
                LoadProcess(
                    server.port, rate=POLITE_RATE, seconds=seconds, headers=polite, spacing="even", seed=1
                ) as load,
            ):
                beside = load.tally(seconds + 60)
                flooded = flood_load.tally(seconds + 60)
            alone.merge(beside).merge(flooded).check_conservation(before, settled_outcomes(server.port, headers=polite))
            counted = total(
                metrics(server.port, headers=polite), "graftwork_refused_requests_total", reason="rate_limited"
            )
            works = server.answers(**polite)
    allowed = POLITE_RATE * (flooded.last - flooded.first + 1)  # a second's worth at once, and then its rate
    refused = flooded.by_status[429]
    unanswered = alone.sent + beside.sent - alone.ok - beside.ok
    return [
        Figure(goal="O02", name="polite requests not answered", value=unanswered, unit="requests", bar=0),
        Figure(goal="O02", name="flood refused with 429", value=refused / flooded.sent, relation=">=", bar=0.8),
        Figure(goal="O02", name="flood answered over allowed", value=flooded.ok / allowed, relation="<=", bar=1.0),
        Figure(goal="O02", name="flood, neither", value=flooded.sent - flooded.ok - refused, unit="requests", bar=0),
        Figure(goal="O02", name="429 without Retry-After", value=flooded.without_retry_after, bar=0),
        Figure(goal="O02", name="429 not counted", value=refused - counted, bar=0),
        Figure(goal="O02", name="429 p99", value=flooded.p(0.99, 429) * 1000, unit="ms"),
        Figure(goal="G7", name="polite p99 alone", value=alone.p(0.99) * 1000, unit="ms"),
        Figure(goal="G7", name="polite p99 beside the flood", value=beside.p(0.99) * 1000, unit="ms"),
        Figure(
            goal="G7",
            name="polite p99 beside the flood over alone",
            value=beside.p(0.99) / alone.p(0.99),
            relation="<=",
            bar=1.5 if strict else None,
        ),
        Figure(goal="O02", name="sent late by the generator", value=beside.late / beside.sent),
        Figure(goal="O02", name="a request afterwards", value=works, bar=1),
    ]


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}
