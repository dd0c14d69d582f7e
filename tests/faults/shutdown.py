"""The end of a server that is told to: it answers what it accepted and leaves nothing behind (G3, L08, L09).

* `sigterm_under_load`: clients ask all the while, others keep idle connections. What was accepted, as the log says, is answered
  with 200, and the server ends with exit code 0.
* `sigterm_early`: at any moment of the start.
* `troubled_end`: a worker dies or hangs while the server ends, and what it owed is answered nevertheless; or a second SIGTERM
  comes, and the end at once.

The first two also as the first process of a container (of a process namespace, which only root may make). There, a signal
without a handler is ignored, and who has lost its parent is inherited.

A request on a kept connection that the server closes at that moment is not accepted, which clients have to expect
(RFC 9112, 9.3.1); such ones are counted beside.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from tests.faults.echo_server import EchoServer, echo_server
from tests.faults.figure import Figure
from tests.faults.load import LoadProcess
from tests.faults.metrics import metrics, outcomes, total
from tests.faults.remains import Remains, figures_of, remains_of
from tests.faults.scarcity import connect, live_status
from tests.faults.tally import LOST, Tally
from tests.processes import children, wait_for

AS_FIRST_PROCESS = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
IDLE, BUSY = 10, 16  # connections
OWED = 8  # requests
ORPHANS = 5
DRAIN_DELAY_SECONDS = 0.5
GRACE_SECONDS = 30.0
ORPHAN_SECONDS = 10.0
GIVE_UP_SECONDS = 60.0

Trouble = Literal["worker dies", "the only worker dies", "worker hangs", "second SIGTERM"]


def may_be_first_process() -> bool:
    """Whether this process may start others in a process namespace of their own."""
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        return False
    return subprocess.run([*AS_FIRST_PROCESS, "true"], capture_output=True, check=False).returncode == 0


def sigterm_under_load(*, cycles: int = 10, as_first_process: bool = False, slack: float = 1.0) -> list[Figure]:
    """A server is started, asked, and told to end, again and again.

    Args:
        cycles: how often.
        as_first_process: of a process namespace; in the first cycle it inherits some orphans.
        slack: factor on bars on times.
    """
    tally, accepted, unanswered, unlogged, zombies = Tally(), 0, 0, 0, 0
    codes, ended_after, not_ready_after = [], [], []
    remains: list[Remains] = []
    under = AS_FIRST_PROCESS if as_first_process else ()
    for cycle in range(cycles):
        with (
            echo_server(delay=0.02, under=under, drain_delay_seconds=DRAIN_DELAY_SECONDS) as server,
            ExitStack() as stack,
            LoadProcess(server.port, connections=BUSY, seconds=GIVE_UP_SECONDS) as load,
        ):
            parent = parent_of(server)
            if as_first_process and cycle == 0:
                zombies = inherit_orphans(parent)
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
            left_out = sum(incident.request_id in ids for incident in seen.incidents)
            unanswered += left_out
            unlogged += seen.sent - seen.lost - (len(ids) - left_out)
            tally = tally.merge(seen)
    other = tally.by_status.total() - tally.ok
    most = 0.2 * slack
    figures = [
        Figure(goal="G3", name="cycles", value=cycles),
        Figure(goal="G3", name="requests accepted", value=accepted, relation=">=", bar=10 * BUSY * cycles),
        Figure(goal="G3", name="accepted but not answered", value=unanswered, unit="requests", bar=0),
        Figure(goal="G3", name="answered but not logged", value=unlogged, unit="requests", bar=0),
        Figure(goal="G3", name="answered other than with 200", value=other, unit="requests", bar=0),
        Figure(goal="G3", name="wrong", value=tally.wrong + tally.unasked, unit="requests", bar=0),
        Figure(goal="G3", name="sent but not accepted", value=tally.lost, unit="requests"),
        Figure(goal="G3", name="exit codes other than 0", value=sum(code != 0 for code in codes), bar=0),
        Figure(goal="G3", name="ended after, most", value=max(ended_after), unit="s", relation="<=", bar=GRACE_SECONDS),
        Figure(goal="L08", name="not ready after, most", value=max(not_ready_after), unit="s", relation="<=", bar=most),
        *figures_of("G3", remains, slack=slack),
    ]
    if as_first_process:
        figures.append(Figure(goal="G3", name=f"of {ORPHANS} orphans, left as zombies", value=zombies, bar=0))
    return figures


def sigterm_early(
    *, delays: Sequence[float] = tuple(n / 10 for n in range(30)), as_first_process: bool = False, slack: float = 1.0
) -> list[Figure]:
    """A server is told to end while it starts.

    Args:
        delays: when, in seconds from its start; one server for each. As a first process, from when it can be told.
        as_first_process: of a process namespace.
        slack: factor on bars on times.
    """
    codes, ended_after, deaf = [], [], []
    remains: list[Remains] = []
    for delay in delays:
        started = time.monotonic()
        with echo_server(under=AS_FIRST_PROCESS if as_first_process else (), ready=False) as server:
            if as_first_process:
                wait_for(lambda: can_be_told(parent_of(server)), GIVE_UP_SECONDS, pause=0.005)
                deaf.append(time.monotonic() - started)
            time.sleep(delay)
            told = time.monotonic()
            os.kill(parent_of(server), signal.SIGTERM)
            codes.append(server.process.wait(GIVE_UP_SECONDS))
            ended_after.append(time.monotonic() - told)
            remains.append(remains_of(server))
    without_handler = 0 if as_first_process else codes.count(-signal.SIGTERM)
    other = len(codes) - codes.count(0) - without_handler
    most = max(ended_after)
    figures = [
        Figure(goal="L09", name="starts", value=len(delays)),
        Figure(goal="L09", name="exit codes other than 0 and by SIGTERM itself", value=other, bar=0),
        Figure(goal="L09", name="ended by SIGTERM itself", value=without_handler),
        Figure(goal="L09", name="ended after, most", value=most, unit="s", relation="<=", bar=5 * slack),
        *figures_of("L09", remains, slack=slack),
    ]
    if deaf:
        figures.append(Figure(goal="L09", name="cannot be told for, most", value=max(deaf), unit="s"))
    return figures


def troubled_end(trouble: Trouble, *, slack: float = 1.0) -> list[Figure]:
    """A server ends while a worker of it does not answer, and then something happens.

    Args:
        trouble: what.
        slack: factor on bars on times.
    """
    workers = 2 if trouble == "worker dies" else 1
    with echo_server(delay=0.2, workers=workers, drain_delay_seconds=0.1, worker_timeout_seconds=2.0) as server:
        wait_for(lambda: total(metrics(server.port), "graftwork_workers") == workers, GIVE_UP_SECONDS, server.text)
        worker, *_ = server.workers()
        os.kill(worker, signal.SIGSTOP)
        with LoadProcess(server.port, connections=OWED, requests=OWED) as load:
            wait_for(lambda: outcomes(metrics(server.port))["received"] == OWED, GIVE_UP_SECONDS, server.text)
            server.process.send_signal(signal.SIGTERM)
            wait_for(lambda: server.status_of("/health/live") == 0, GIVE_UP_SECONDS, server.text)
            at = time.monotonic()
            if trouble == "second SIGTERM":
                server.process.send_signal(signal.SIGTERM)
            elif trouble != "worker hangs":
                os.kill(worker, signal.SIGKILL)
            code = server.process.wait(GIVE_UP_SECONDS)
            ended_after = time.monotonic() - at
            remains = remains_of(server)
            load.stop()
            tally = load.tally(GIVE_UP_SECONDS)
        status, expected_code, most = {
            "worker dies": (200, 0, 5.0),
            "the only worker dies": (503, 0, 2.0),  # what it owed is answered within one
            "worker hangs": (503, 0, 6.0),  # the same, once it was not heard for two seconds
            "second SIGTERM": (LOST, 1, 2.0),
        }[trouble]
        ends = f"ended with {status}" if status else "not answered"
        return [
            Figure(goal="L08", name=f"{trouble}: requests accepted", value=OWED),
            Figure(goal="L08", name=f"of them {ends}", value=tally.ends.count(status), bar=OWED),
            Figure(goal="L08", name="exit code", value=code, bar=expected_code),
            Figure(goal="L08", name="ended after", value=ended_after, unit="s", relation="<=", bar=most * slack),
            *figures_of("L08", [remains], slack=slack),
        ]


def parent_of(server: EchoServer) -> int:
    """The pid of the server's own process, as it is seen from here."""
    if not server.under:
        return server.process.pid
    wait_for(lambda: children(server.process.pid), GIVE_UP_SECONDS)
    (parent,) = children(server.process.pid)
    return parent


def accepted_ids(server: EchoServer) -> set[str]:
    """The ids of all predictions that the server began to work on, as its log has them."""
    return {record["request_id"] for record in server.records() if record.get("path", "").endswith(":predict")}


def can_be_told(pid: int) -> bool:
    """Whether a process has a handler for SIGTERM."""
    caught = Path(f"/proc/{pid}/status").read_text().partition("SigCgt:")[2].split()[0]
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def inherit_orphans(parent: int) -> int:
    """Leaves processes behind in the namespace of a process, and says how many of them stay as zombies when they have ended."""
    before = _children(parent)
    for _ in range(ORPHANS):
        subprocess.run(["nsenter", "--target", str(parent), "--pid", "sh", "-c", "sleep 0.5 &"], check=True)
    orphans = _children(parent) - before
    assert len(orphans) == ORPHANS
    deadline = time.monotonic() + ORPHAN_SECONDS
    while (left := orphans & _children(parent)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return len(left)


def _children(parent: int) -> set[int]:
    """Zombies too."""
    pids = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return set(map(int, pids))
