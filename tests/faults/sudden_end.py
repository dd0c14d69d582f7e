"""The API process or the parent is killed under load (L05): no process of the server stays, and the port is free within 2 s.

What was accepted is lost then: nobody is left who could answer. The parent's exit code tells whoever started it.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Literal

from tests.faults.echo_server import echo_server
from tests.faults.figure import Figure
from tests.faults.load import LoadProcess
from tests.faults.metrics import metrics, total
from tests.faults.remains import Remains, figures_of, remains_of
from tests.faults.tally import Tally
from tests.processes import wait_for

CONNECTIONS = 16
GIVE_UP_SECONDS = 60.0


def killed(who: Literal["API process", "parent"], *, cycles: int = 10, slack: float = 1.0) -> list[Figure]:
    """A server is started, asked, and loses one of its processes, again and again.

    Args:
        who: is killed.
        cycles: how often.
        slack: factor on bars on times.
    """
    tally = Tally()
    codes, ended_after = [], []
    remains: list[Remains] = []
    for _ in range(cycles):
        with (
            echo_server(delay=0.02, workers=2) as server,
            LoadProcess(server.port, connections=CONNECTIONS, seconds=GIVE_UP_SECONDS) as load,
        ):
            wait_for(lambda: total(metrics(server.port), "graftwork_rows_total") > 10 * CONNECTIONS, GIVE_UP_SECONDS)
            at = time.monotonic()
            os.kill(server.api() if who == "API process" else server.process.pid, signal.SIGKILL)
            codes.append(server.process.wait(GIVE_UP_SECONDS))
            ended_after.append(time.monotonic() - at)
            remains.append(remains_of(server))
            load.stop()
            tally = tally.merge(load.tally(GIVE_UP_SECONDS))
    expected = 1 if who == "API process" else -signal.SIGKILL
    files = who == "API process"  # who is killed removes nothing
    return [
        Figure(goal="L05", name=f"{who} killed", value=cycles),
        Figure(
            goal="L05", name="requests answered before", value=tally.ok, relation=">=", bar=10 * CONNECTIONS * cycles
        ),
        Figure(goal="L05", name="wrong", value=tally.wrong + tally.unasked, unit="requests", bar=0),
        Figure(goal="L05", name="lost", value=tally.lost, unit="requests"),
        Figure(goal="L05", name=f"exit codes other than {expected}", value=sum(c != expected for c in codes), bar=0),
        Figure(goal="L05", name="ended after, most", value=max(ended_after), unit="s", relation="<=", bar=2 * slack),
        *figures_of("L05", remains, files=files, slack=slack),
    ]
