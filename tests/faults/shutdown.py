"""The end of a server that is told to: it answers what it accepted and leaves nothing behind (G3, L08, L09).

* `sigterm_under_load`: clients ask all the while, others keep idle connections. What was accepted, as the log says, is answered
  with 200, and the server ends with exit code 0. Also as the first process of a container: there, a signal without a handler
  is ignored, and orphans are inherited.
* `sigterm_early`: at any moment of the start.
* `worker_dies_meanwhile`, `worker_hangs_meanwhile`: while the server ends. What the worker owed is answered nevertheless.
* `second_sigterm`: the end comes at once.

A request on a kept connection that the server closes at that moment is not accepted, which clients have to expect
(RFC 9112, 9.3.1); such ones are counted beside.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack

from tests.faults.echo_server import EchoServer, echo_server
from tests.faults.figure import Figure
from tests.faults.load import LoadProcess
from tests.faults.metrics import metrics, total
from tests.faults.remains import Remains, figures_of, remains_of
from tests.faults.scarcity import connect, live_status
from tests.faults.tally import Tally
from tests.service.conftest import children, process_state, wait_for

AS_FIRST_PROCESS = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
IDLE, BUSY = 10, 16  # connections
ORPHANS = 5
DRAIN_DELAY_SECONDS = 0.5
GRACE_SECONDS = 30.0
GIVE_UP_SECONDS = 60.0


def may_be_first_process() -> bool:
    """Whether this process may start others in a process namespace of their own, as only root may."""
    return subprocess.run([*AS_FIRST_PROCESS, "true"], capture_output=True, check=False).returncode == 0


def sigterm_under_load(*, cycles: int = 10, as_first_process: bool = False, slack: float = 1.0) -> list[Figure]:
    """A server is started, asked, and told to end, again and again.

    Args:
        cycles: how often.
        as_first_process: of a process namespace, which has inherited some orphans.
        slack: factor on bars on times.
    """
    tally, accepted, unanswered = Tally(), 0, 0
    codes, ended_after, not_ready_after, zombies = [], [], [], 0
    remains: list[Remains] = []
    for _ in range(cycles):
        with (
            echo_server(
                delay=0.02, under=AS_FIRST_PROCESS if as_first_process else (), drain_delay_seconds=DRAIN_DELAY_SECONDS
            ) as server,
            ExitStack() as stack,
            LoadProcess(server.port, connections=BUSY, seconds=GIVE_UP_SECONDS) as load,
        ):
            parent = server.process.pid
            if as_first_process:
                (parent,) = children(parent)
                zombies += leave_orphans(parent)
            idle = [stack.enter_context(connect(server)) for _ in range(IDLE)]
            assert all(live_status(client) == 200 for client in idle)
            wait_for(lambda: total(metrics(server.port), "graftwork_rows_total") > 10 * BUSY, GIVE_UP_SECONDS)
            told = time.monotonic()
            os.kill(parent, signal.SIGTERM)
            wait_for(lambda: server.status_of("/health/ready") != 200, GIVE_UP_SECONDS, pause=0.005)
            not_ready_after.append(time.monotonic() - told)
            codes.append(server.process.wait(GIVE_UP_SECONDS))
            ended_after.append(time.monotonic() - told)
            remains.append(remains_of(server))
            load.stop()
            seen = load.tally(GIVE_UP_SECONDS)
            ids = accepted_ids(server)
            accepted += len(ids)
            unanswered += len(ids) - (seen.sent - seen.lost)
            unanswered += sum(incident.request_id in ids for incident in seen.incidents)
            tally = tally.merge(seen)
    return [
        Figure(goal="G3", name="cycles", value=cycles),
        Figure(goal="G3", name="requests accepted", value=accepted, relation=">=", bar=10 * BUSY * cycles),
        Figure(goal="G3", name="accepted but not answered", value=unanswered, unit="requests", bar=0),
        Figure(goal="G3", name="answered other than with 200", value=tally.by_status.total() - tally.ok, bar=0),
        Figure(goal="G3", name="wrong", value=tally.wrong + tally.unasked, unit="requests", bar=0),
        Figure(goal="G3", name="sent but not accepted", value=tally.lost, unit="requests"),
        Figure(goal="G3", name="exit codes other than 0", value=sum(code != 0 for code in codes), bar=0),
        Figure(goal="G3", name="ended after, most", value=max(ended_after), unit="s", relation="<=", bar=GRACE_SECONDS),
        Figure(goal="L08", name="not ready after, most", value=max(not_ready_after), unit="s", relation="<=", bar=0.2 * slack),
        *([Figure(goal="G3", name="orphans that stayed as zombies", value=zombies, bar=0)] if as_first_process else []),
        *figures_of("G3", remains, slack=slack),
    ]


def sigterm_early(*, delays: Sequence[float] = tuple(n / 10 for n in range(40)), as_first_process: bool = False, slack: float = 1.0) -> list[Figure]:
    return []


def accepted_ids(server: EchoServer) -> set[str]:
    """The ids of all predictions that the server began to work on, as its log has them."""
    paths = (record for record in server.records() if record.get("path", "").endswith(":predict"))
    return {record["request_id"] for record in paths}


def leave_orphans(parent: int) -> int:
    """Leaves processes behind in the namespace of a process; says how many of them stay there as zombies when they end."""
    for _ in range(ORPHANS):
        subprocess.run(["nsenter", "--target", str(parent), "--pid", "sh", "-c", "sleep 0.1 &"], check=True)

    return 0
