"""A server that may not have much: open files, address space, processes (L18).

* `few_open_files`: with 256 of them, connections above what they allow are refused, with 503 or by closing them. The others
  notice nothing, and there is room again when some have gone.
* `little_memory` and `few_processes`: the server serves, or ends and says why, or lives and says why it is not ready. It never
  just hangs, and it ends when it is told to.
* `no_more_processes`: a worker dies at a moment when no process can be started. It is replaced when one can.

What is limited is every process of the server, by ``ulimit`` or by `tests.faults.pids_group`, which is not to be had everywhere.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from tests.faults.aftermath import aftermath
from tests.faults.echo_server import EchoServer, echo_server
from tests.faults.figure import Figure
from tests.faults.load import LoadProcess
from tests.faults.metrics import settled_outcomes
from tests.faults.pids_group import PidsGroup
from tests.processes import wait_for

OPEN_FILES = 256
MOST_CONNECTIONS = OPEN_FILES - 128  # which are for what is no client: service.http.limits
IDLE, BUSY, EXCESS = 100, 20, 300  # connections

SERVES, ENDS, WAITS, HANGS = "serves", "ends and says why", "is not ready and says why", "hangs"
GIVE_UP_SECONDS = 60.0


def few_open_files(*, rounds: int = 10) -> list[Figure]:
    """Connections beyond what the open files allow, beside some that are busy and some that are idle.

    Args:
        rounds: how often 300 are opened and closed.
    """
    room = MOST_CONNECTIONS - IDLE - BUSY
    served, refused = [], 0
    with echo_server(under=ulimit(f"-n {OPEN_FILES}")) as server, ExitStack() as stack:
        before = settled_outcomes(server.port)
        idle = [stack.enter_context(connect(server)) for _ in range(IDLE)]
        with LoadProcess(server.port, connections=BUSY, seconds=rounds * GIVE_UP_SECONDS) as load:
            wait_for(lambda: connections(server) == IDLE + BUSY, GIVE_UP_SECONDS)
            for _ in range(rounds):
                with ExitStack() as excess:
                    clients = [excess.enter_context(connect(server)) for _ in range(EXCESS)]
                    statuses = Counter(map(live_status, clients))
                served.append(statuses[200])
                refused += statuses[503] + statuses[0]
                wait_for(lambda: connections(server) == IDLE + BUSY, GIVE_UP_SECONDS)
            still_served = list(map(live_status, idle)).count(200)
            load.stop()
            tally = load.tally(GIVE_UP_SECONDS)
        wait_for(lambda: connections(server) == IDLE, GIVE_UP_SECONDS)
        unknown = rounds * EXCESS - sum(served) - refused
        return [
            Figure(goal="L18", name="open files", value=OPEN_FILES),
            Figure(goal="L18", name="connections", value=IDLE + BUSY + EXCESS),
            Figure(goal="L18", name="of the last 300, served, most", value=max(served), relation="<=", bar=room),
            Figure(goal="L18", name="of the last 300, served, least", value=min(served), relation=">=", bar=1),
            Figure(goal="L18", name="of the last 300, neither served nor refused", value=unknown, bar=0),
            Figure(goal="L18", name="idle ones served in the end", value=still_served, bar=IDLE),
            *aftermath("L18", server, tally, before),
        ]


def little_memory(
    *, mebibytes: Sequence[int] = (40, 60, 70, 80, 90, 100, 120, 150, 200, 300, 500), slack: float = 1.0
) -> list[Figure]:
    """Servers whose processes may each have so much address space.

    Args:
        mebibytes: the limits, one after the other.
        slack: factor on bars on times.
    """
    found = {limit: what_it_does(ulimit(f"-v {limit * 1024}"), slack) for limit in mebibytes}
    return figures_of(found, "MiB a process")


def few_processes(*, limits: Sequence[int] = (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12), slack: float = 1.0) -> list[Figure]:
    """Servers that may have so many processes and threads.

    Args:
        limits: one after the other.
        slack: factor on bars on times.
    """
    found = {}
    for limit in limits:
        with PidsGroup(limit) as group:
            found[limit] = what_it_does(group.under, slack)
    return figures_of(found, "processes and threads")


def no_more_processes(*, seconds: float = 5.0, slack: float = 1.0) -> list[Figure]:
    """A worker dies at a moment when no process can be started.

    Args:
        seconds: for which none can.
        slack: factor on bars on times.
    """
    with PidsGroup(100) as group, echo_server(under=group.under) as server:
        (worker,) = server.workers()
        group.limit(group.count() - len(os.listdir(f"/proc/{worker}/task")))
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: "cannot be started" in server.text(), GIVE_UP_SECONDS, server.text)
        time.sleep(seconds)
        live, ready = server.status_of("/health/live"), server.status_of("/health/ready")
        group.limit(100)
        freed = time.monotonic()
        server.wait_until_ready(GIVE_UP_SECONDS)
        back = time.monotonic() - freed
        most = (2 * seconds + 2) * slack  # the pause between two tries is at most as long as all of it so far
        return [
            Figure(goal="L18", name="no process can be started for", value=seconds, unit="s"),
            Figure(goal="L18", name="status of liveness meanwhile", value=live, bar=200),
            Figure(goal="L18", name="status of readiness meanwhile", value=ready, bar=503),
            Figure(goal="L18", name="worker back after", value=back, unit="s", relation="<=", bar=most),
            Figure(goal="L18", name="a request afterwards", value=server.answers(), bar=1),
        ]


def what_it_does(under: Sequence[str], slack: float) -> str:
    """Starts a server under a limit and gives one of SERVES, ENDS, WAITS, HANGS; then has it end."""
    with echo_server(under=under, ready=False) as server:
        give_up_at = time.monotonic() + GIVE_UP_SECONDS
        while (does := what_is_seen(server)) == HANGS and time.monotonic() < give_up_at:
            time.sleep(0.1)
        with suppress(subprocess.TimeoutExpired):
            server.process.terminate()
            server.process.wait(GIVE_UP_SECONDS)
            wait_for(lambda: not server.survivors(), 5 * slack, server.text)
            return does
    return HANGS


def what_is_seen(server: EchoServer) -> str:
    """One of SERVES, ENDS, WAITS; HANGS if it is none of them by now."""
    if server.process.poll() is not None:
        return ENDS if server.process.returncode > 0 and server.text().strip() else HANGS
    try:
        ready = server.request("GET", "/health/ready")
    except OSError:
        return HANGS
    if ready.status == 200:
        return SERVES if server.answers() else HANGS
    says_why = "ended with" in ready.json()["detail"] and server.text().count('"level":"error"') >= 3
    return WAITS if says_why else HANGS


def figures_of(found: Mapping[int, str], unit: str) -> list[Figure]:
    """With which limits a server did what."""
    figures = []
    for does in (SERVES, ENDS, WAITS, HANGS):
        limits = [str(limit) for limit, did in found.items() if did == does]
        name = f"it {does} with {', '.join(limits) or 'no number of'} {unit}"
        least, most = (">=", 1) if does == SERVES else ("==", 0) if does == HANGS else ("==", None)
        figures.append(Figure(goal="L18", name=name, value=len(limits), relation=least, bar=most))
    return figures


def ulimit(limit: str) -> Sequence[str]:
    """A command that runs another one, which comes after it, with a limit."""
    return ["sh", "-c", f'ulimit {limit} && exec "$@"', "sh"]


def connect(server: EchoServer) -> socket.socket:
    """A connection that lets nobody wait for long."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def live_status(client: socket.socket) -> int:
    """The status of ``GET /health/live`` on a connection; 0 where it ended."""
    try:
        client.sendall(b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        return int(client.recv(1024)[9:12] or 0)
    except ConnectionError:
        return 0


def connections(server: EchoServer) -> int:
    """Clients' connections that the server has not closed: established ones, and those that only their client has closed."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    port = f":{server.port:04X}"
    return sum(address.endswith(port) and state in ("01", "08") for _, address, _, state, *_ in lines)
