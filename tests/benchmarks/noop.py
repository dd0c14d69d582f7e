"""Requests a second that need no computing: our own cost a request, beside that of LitServe and mosec.

    python -m tests.benchmarks.noop

All serve the same echo (a text in JSON in, its sha256 out) with one worker, to 32 clients that ask again as soon as they are
answered. LitServe and mosec run in several configurations, the best of which counts. All of them run at the same time, but
all except the one that is measured are stopped (SIGSTOP): some are busy when they are idle. They take turns.

What asks is wrk where it is installed, and else our own load generator (``deploy/load``), which needs some 20 us of CPU time for a
request. All answers of a first load are verified (`tests.faults.load`, whose texts are all different); later ours looks
whether they are the same, and wrk at their status only.

mosec (https://github.com/mosecorg/mosec) is no dependency of ours. To compare with it:

    python -m venv /tmp/mosec && /tmp/mosec/bin/pip install mosec
    MOSEC_PYTHON=/tmp/mosec/bin/python python -m tests.benchmarks.noop
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import orjson
from rich import box
from rich.console import Console
from rich.table import Table

from tests.benchmarks.clients import Clients
from tests.benchmarks.cpu_time import cpu_seconds
from tests.benchmarks.peer import Peer, awake, stop
from tests.benchmarks.report import write
from tests.benchmarks.workload import Workload
from tests.faults.echo_server import EchoServer
from tests.faults.figure import Figure
from tests.faults.load import run_load
from tests.processes import process_group, running
from tests.server_process import ServerProcess

CONNECTIONS = 32
ROUNDS = 5
SECONDS = max(1, round(float(os.environ.get("GRAFTWORK_BENCH_SECONDS", "4"))))
WARM_UP_SECONDS = 1
VERIFIED_REQUESTS = 500

OURS = "graftwork"
PLAIN = "litserve, batches of 32"
LITSERVE: Mapping[str, Sequence[str]] = {
    PLAIN: ["--batch=32"],
    "litserve, batches of 32 within 5 ms": ["--batch=32", "--window=0.005"],
    "litserve, batches of 32 within 5 ms, fast_queue": ["--batch=32", "--window=0.005", "--fast-queue"],
    "litserve, no batches": [],
    "litserve, no batches, fast_queue": ["--fast-queue"],
}
MOSEC: Mapping[str, tuple[int, int]] = {  # the largest batch, and for how many milliseconds it is gathered
    "mosec, batches of 32 within 10 ms": (32, 10),
    "mosec, batches of 16 within 1 ms": (16, 1),
    "mosec, no batches": (1, 1),
}


JSON = {"Content-Type": "application/json"}
BODY = orjson.dumps({"instances": ["a text of a hundred bytes, as the load generator sends".ljust(100, ".")]})


@dataclass(kw_only=True)
class Contestant:
    """A server, and what was measured of it in each round.

    Attributes:
        rates: requests a second.
        costs: microseconds of CPU time a request: of all processes, and of parts of them by name.
        seconds: CPU time of what asked, a request.
    """

    server: ServerProcess
    path: str
    rates: list[float] = field(default_factory=list)
    costs: list[dict[str, float]] = field(default_factory=list)
    asking: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    def cost(self, part: str) -> float:
        return statistics.median(cost[part] for cost in self.costs)

    def parts(self) -> dict[str, list[int]]:
        """The processes by what they do."""
        everything = [pid for pid in running() if process_group(pid) == self.server.process.pid]
        if not isinstance(self.server, EchoServer):
            return {"all": everything}
        return {"all": everything, "api": [self.server.api()], "worker": self.server.workers()}


class Asking:
    """Clients in a closed loop.

    Args:
        with_wrk: or with our own generator; None takes wrk where it is installed.
    """

    def __init__(self, *, with_wrk: bool | None = None) -> None:
        self._with_wrk = shutil.which("wrk") is not None if with_wrk is None else with_wrk
        self.name = "wrk" if self._with_wrk else "our load generator"

    def run(self, port: int, path: str, seconds: int) -> tuple[int, float]:
        """Requests that were answered, and how many a second."""
        return self._wrk(port, path, seconds) if self._with_wrk else self._generator(port, path, seconds)

    def _wrk(self, port: int, path: str, seconds: int) -> tuple[int, float]:
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            headers = "".join(f'wrk.headers["{name}"] = "{value}"\n' for name, value in JSON.items())
            script.write(f'wrk.method = "POST"\nwrk.body = [[{BODY.decode()}]]\n{headers}')
            script.flush()
            command = ["wrk", "--threads=1", f"--connections={CONNECTIONS}", f"--duration={seconds}s"]
            command += [f"--script={script.name}", f"http://127.0.0.1:{port}{path}"]
            said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
        if "Non-2xx" in said or "Socket errors" in said:
            raise RuntimeError(said)
        found = re.search(r"(\d+) requests in", said)
        rate = re.search(r"Requests/sec: +([\d.]+)", said)
        assert found is not None
        assert rate is not None
        return int(found[1]), float(rate[1])

    def _generator(self, port: int, path: str, seconds: int) -> tuple[int, float]:
        workload = Workload(name="noop", items=[], bodies=[BODY], content_type=JSON["Content-Type"])
        clients = Clients(port, workload, [path])
        try:
            rate, latencies = clients.run(CONNECTIONS, seconds)
        finally:
            clients.close()
        return len(latencies), rate


def measure(contestant: Contestant, asking: Asking) -> None:
    """One turn."""
    server, path = contestant.server, contestant.path
    with awake(contestant.server):
        asking.run(server.port, path, WARM_UP_SECONDS)
        parts = contestant.parts()
        before = {part: cpu_seconds(pids) for part, pids in parts.items()}
        asked = resource.getrusage(resource.RUSAGE_CHILDREN)
        count, rate = asking.run(server.port, path, SECONDS)
        after = {part: cpu_seconds(pids) for part, pids in parts.items()}
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    contestant.rates.append(rate)
    contestant.costs.append({part: (after[part] - before[part]) / count * 1e6 for part in parts})
    contestant.asking.append((ended.ru_utime + ended.ru_stime - asked.ru_utime - asked.ru_stime) / count * 1e6)


def _probe(path: str) -> tuple[str, bytes, str]:
    return path, b'{"instances":["a"]}', JSON["Content-Type"]


def start(stack: ExitStack) -> Mapping[str, Contestant]:
    """Every server, verified and stopped."""
    contestants = {OURS: Contestant(server=EchoServer(), path="/v1/models/echo:predict")}
    for name, options in LITSERVE.items():
        arguments = ["tests.benchmarks.litserve_echo", *options]
        contestants[name] = Contestant(server=Peer(arguments=arguments, probe=_probe("/predict")), path="/predict")
    python = os.environ.get("MOSEC_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import mosec"], capture_output=True).returncode:
        print(f"mosec is not installed, so its figures are left out; the start of {__file__} says how to have them")
    else:
        for name, (batch, wait) in MOSEC.items():
            peer = Peer(
                arguments=["tests.benchmarks.mosec_echo", f"--wait={wait}"],
                environment={"MOSEC_ECHO_BATCH": str(batch)},
                python=python,
                probe=_probe("/inference"),
            )
            contestants[name] = Contestant(server=peer, path="/inference")
    for contestant in contestants.values():
        stack.callback(contestant.server.destroy)
    for name, contestant in contestants.items():
        contestant.server.wait_until_ready()
        tally = run_load(contestant.server.port, path=contestant.path, requests=VERIFIED_REQUESTS, check_id=False)
        if tally.ok != VERIFIED_REQUESTS:
            raise RuntimeError(f"{name}: {tally.summary()}")
        stop(contestant.server)
    return contestants


def ratio(ours: Contestant, peer: Contestant) -> float:
    """The median of the ratios of each round."""
    return statistics.median(a / b for a, b in zip(ours.rates, peer.rates, strict=True))


def figures(contestants: Mapping[str, Contestant], asking: Asking) -> list[Figure]:
    ours = contestants[OURS]

    def best(names: Mapping[str, object]) -> Contestant:
        return max((contestants[name] for name in names), key=lambda contestant: contestant.rate)

    litserve, rate = best(LITSERVE), "requests/s"
    found = [
        Figure(goal="", name="noop_graftwork", value=ours.rate, unit=rate),
        Figure(goal="", name="noop_litserve", value=litserve.rate, unit=rate),
        Figure(
            goal="",
            name="noop_over_plain_litserve",
            value=ratio(ours, litserve),
            unit="ratio",
            relation=">=",
            bar=10,
        ),
        Figure(goal="", name="noop_over_default_litserve", value=ratio(ours, contestants[PLAIN]), unit="ratio"),
        Figure(goal="", name="noop_api_cpu", value=ours.cost("api"), unit="us/request"),
        Figure(goal="", name="noop_worker_cpu", value=ours.cost("worker"), unit="us/request"),
        Figure(
            goal="",
            name="noop_generator_ceiling",
            value=1e6 / statistics.median(ours.asking),
            unit=f"{rate}, {asking.name}",
        ),
    ]
    if MOSEC.keys() <= contestants.keys():
        mosec = best(MOSEC)
        found += [
            Figure(goal="", name="noop_mosec", value=mosec.rate, unit=rate),
            Figure(goal="", name="noop_over_mosec", value=ratio(ours, mosec), unit="ratio"),
        ]
    return found


def main() -> None:
    """Runs the benchmark and adds its figures to ``build/bench.json``."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.noop")
    parser.add_argument("--own-generator", action="store_true", help="though wrk is installed")
    asking = Asking(with_wrk=False if parser.parse_args().own_generator else None)
    console = Console()
    with ExitStack() as stack:
        contestants = start(stack)
        for number in range(ROUNDS):
            with console.status(f"no-op requests, round {number + 1} of {ROUNDS}"):
                for contestant in contestants.values():
                    measure(contestant, asking)
    title = f"No-op requests, {CONNECTIONS} clients, asked by {asking.name}"
    table = Table("server", "requests/s", "graftwork is faster", "CPU us a request", title=title, box=box.SIMPLE_HEAD)
    for name, contestant in contestants.items():
        cost = f"{contestant.cost('all'):.0f}"
        if name == OURS:
            cost += f" (API process {contestant.cost('api'):.0f}, worker {contestant.cost('worker'):.0f})"
        table.add_row(name, f"{contestant.rate:,.0f}", f"{ratio(contestants[OURS], contestant):.2f} x", cost)
    console.print(table)
    write(figures(contestants, asking))


if __name__ == "__main__":
    main()
