"""A log that cannot be written (L17): stderr is closed, or leads to a full disk or to a full pipe that nobody reads.

Serving goes on, as fast as with a log that is read, through the death of a worker and to an end with exit code 0. What cannot
be written is left out; nobody waits for it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, get_args

from tests.faults.aftermath import aftermath
from tests.faults.echo_server import echo_server
from tests.faults.figure import Figure
from tests.faults.load import LoadProcess
from tests.faults.metrics import settled_outcomes
from tests.processes import wait_for

Sink = Literal["file", "nothing", "full disk", "full pipe"]

RATE = 200.0  # requests/s
RATIO = 1.5
GIVE_UP_SECONDS = 60.0


def unwritable_logs(*, seconds: float = 20.0) -> list[Figure]:
    """The same load with a log that is read, and with those that are not: these are no slower.

    Args:
        seconds: of load on each.
    """
    figures, medians = [], {}
    for sink in get_args(Sink):
        found, medians[sink] = served_with(sink, seconds=seconds)
        ratio = medians[sink] / medians["file"]
        bar = None if sink == "file" else RATIO
        figures += [*found, Figure(goal="L17", name="median / with a file", value=ratio, relation="<=", bar=bar)]
    return figures


def served_with(sink: Sink, *, seconds: float, slack: float = 1.0) -> tuple[list[Figure], float]:
    """One log: load, then the death of a worker, then the end.

    Args:
        sink: where stderr leads.
        seconds: of load.
        slack: factor on bars on times.

    Returns:
        The figures, and the median latency in seconds.
    """
    with redirection(sink) as to, echo_server(delay=0.005, drain_delay_seconds=0.1, under=run_with(to)) as server:
        before = settled_outcomes(server.port)
        with LoadProcess(server.port, rate=RATE, seconds=seconds) as load:
            tally = load.tally(seconds + GIVE_UP_SECONDS)
        faults = [str(figure) for figure in aftermath("L17", server, tally, before) if not figure.holds]
        os.kill(server.workers()[0], signal.SIGKILL)
        wait_for(lambda: server.status_of("/health/ready") == 503, GIVE_UP_SECONDS)
        server.wait_until_ready(GIVE_UP_SECONDS)
        told = time.monotonic()
        server.process.terminate()
        code = server.process.wait(GIVE_UP_SECONDS)
        ended_after = time.monotonic() - told
    median, p99 = tally.p(0.5), tally.p(0.99)
    figures = [
        Figure(goal="L17", name=f"stderr to {sink}: requests", value=tally.sent),
        Figure(goal="L17", name="; ".join(["faults", *faults]), value=len(faults), bar=0),
        Figure(goal="L17", name="p99", value=p99 * 1000, unit="ms"),
        Figure(goal="L17", name="median", value=median * 1000, unit="ms"),
        Figure(goal="L17", name="exit code", value=code, bar=0),
        Figure(goal="L17", name="ended after", value=ended_after, unit="s", relation="<=", bar=5 * slack),
    ]
    return figures, median


@contextmanager
def redirection(sink: Sink) -> Iterator[str]:
    """How a shell writes it."""
    if sink == "full pipe":
        with full_pipe() as path:
            yield f"2>{path}"
    else:
        yield {"file": "2>&1", "nothing": "2>&-", "full disk": "2>/dev/full"}[sink]


def run_with(to: str) -> Sequence[str]:
    """A command that runs another one, which comes after it, with a redirection."""
    return ["sh", "-c", f'exec "$@" {to}', "sh"]


@contextmanager
def full_pipe() -> Iterator[Path]:
    """A named pipe that is full, and that nobody reads."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "pipe"
        os.mkfifo(path)
        end = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        try:
            with suppress(BlockingIOError):
                while True:
                    os.write(end, b"\n")
            yield path
        finally:
            os.close(end)
