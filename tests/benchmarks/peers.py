"""Images and texts a second beside LitServe with torch, and mosec with the same engine.

    python -m tests.benchmarks.peers

All answer the same photographs and sentences, to 32 clients that ask again as soon as they are answered. The peers run in
several configurations, the best of which counts. All run at the same time, but all except the one that is measured are
stopped (SIGSTOP), and they take turns. LitServe runs what its documentation teaches: torch, eager, in fp32, Pillow and timm's
transform, or the tokenizer. mosec has our preprocessor, engine and head.

mosec (https://github.com/mosecorg/mosec) is no dependency of ours. To compare with it:

    python -m venv /tmp/mosec && /tmp/mosec/bin/pip install mosec
    MOSEC_PYTHON=/tmp/mosec/bin/python python -m tests.benchmarks.peers
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from service.cli import WORKER_ENVIRONMENT
from tests.benchmarks.clients import Clients
from tests.benchmarks.peer import Peer, awake, stop
from tests.benchmarks.report import write
from tests.benchmarks.workload import BACKBONES, Workload, image_workload, publish, text_workload
from tests.faults.figure import Figure
from tests.server_process import ServerProcess

CLIENTS = 32
ROUNDS = 3
SECONDS = float(os.environ.get("GRAFTWORK_BENCH_SECONDS", "5"))
BARS = {"images": 4.5, "texts": 3.0}  # times the requests of LitServe

OURS = "graftwork"
LITSERVE: Mapping[str, Sequence[str]] = {
    "litserve, 1 worker": ["--workers=1"],
    "litserve, 1 worker, batches of 8": ["--workers=1", "--batch=8"],
    "litserve, 2 workers": ["--workers=2"],
    "litserve, 2 workers, batches of 8": ["--workers=2", "--batch=8"],
}
MOSEC: Mapping[str, tuple[int, int]] = {  # workers, and the largest batch
    "mosec, 1 worker, batches of 8": (1, 8),
    "mosec, 2 workers, batches of 8": (2, 8),
    "mosec, 2 workers, batches of 32": (2, 32),
}


@dataclass(kw_only=True)
class Contestant:
    """A server, who asks it, and what came of each round, in requests a second."""

    server: ServerProcess
    clients: Clients
    rates: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)


def servers(repository: Path, workload: Workload) -> Mapping[str, tuple[ServerProcess, Workload, str]]:
    """Every server, on its way, with what it is asked and where."""
    path = f"/v1/models/{workload.name}:predict?top_k=1"
    found: dict[str, tuple[ServerProcess, Workload, str]] = {
        OURS: (ServerProcess(repository=repository), workload, path)
    }
    in_json = _in_json(workload)
    for name, options in LITSERVE.items():
        arguments = ["tests.benchmarks.litserve_model", f"--backbone={BACKBONES[workload.name]}", *options]
        probe = ("/predict", in_json.bodies[0], in_json.content_type)
        # Left to itself, its allocator gives memory back with every batch, and takes twice as long.
        found[name] = (Peer(arguments=arguments, probe=probe, environment=WORKER_ENVIRONMENT), in_json, "/predict")
    python = os.environ.get("MOSEC_PYTHON", sys.executable)
    libraries = os.pathsep.join([os.getcwd(), sysconfig.get_path("purelib")])
    if subprocess.run([python, "-c", "import mosec"], capture_output=True).returncode:
        print(f"mosec is not installed, so its figures are left out; the start of {__file__} says how to have them")
        return found
    for name, (workers, batch) in MOSEC.items():
        environment = {
            **WORKER_ENVIRONMENT,
            "PYTHONPATH": libraries,
            "MOSEC_MODEL": workload.name,
            "MOSEC_REPOSITORY": str(repository),
            "MOSEC_WORKERS": str(workers),
            "MOSEC_BATCH": str(batch),
        }
        probe = ("/inference", workload.bodies[0], workload.content_type)
        peer = Peer(arguments=["tests.benchmarks.mosec_model"], environment=environment, python=python, probe=probe)
        found[name] = (peer, workload, "/inference")
    return found


def _in_json(workload: Workload) -> Workload:
    """With images as base64, which is how LitServe's documentation sends them."""
    if workload.content_type == "application/json":
        return workload
    bodies = [json.dumps({"instances": [{"b64": base64.b64encode(item).decode()}]}).encode() for item in workload.items]
    return dataclasses.replace(workload, bodies=bodies, content_type="application/json")


def compete(repository: Path, workload: Workload, console: Console) -> list[Figure]:
    """The figures of one workload."""
    with ExitStack() as stack:
        contestants: dict[str, Contestant] = {}
        for name, (server, asked, path) in servers(repository, workload).items():
            stack.callback(server.destroy)
            clients = Clients(server.port, asked, [path])
            stack.callback(clients.close)
            contestants[name] = Contestant(server=server, clients=clients)
        for contestant in contestants.values():
            contestant.server.wait_until_ready()
        for contestant in contestants.values():
            stop(contestant.server)
        for number in range(ROUNDS):
            with console.status(f"{workload.name}, round {number + 1} of {ROUNDS}"):
                for contestant in contestants.values():
                    with awake(contestant.server):
                        contestant.clients.run(CLIENTS, 2.0)
                        contestant.rates.append(contestant.clients.run(CLIENTS, SECONDS)[0])
    ours = contestants[OURS]
    table = Table("server", workload.unit, "graftwork is faster", title=f"{CLIENTS} clients", box=box.SIMPLE_HEAD)
    for name, contestant in contestants.items():
        table.add_row(name, f"{contestant.rate:,.1f}", f"{ratio(ours, contestant):.2f} x")
    console.print(table)
    litserve = best(contestants, LITSERVE)
    figures = [
        Figure(
            goal="",
            name=f"served_{workload.name}_over_plain_litserve",
            value=ratio(ours, litserve),
            unit="ratio",
            relation=">=",
            bar=BARS[workload.name],
        ),
        Figure(goal="", name=f"litserve_{workload.name}", value=litserve.rate, unit=workload.unit),
    ]
    if MOSEC.keys() <= contestants.keys():
        mosec = best(contestants, MOSEC)
        name = f"served_{workload.name}_over_mosec_same_engine"
        figures.append(Figure(goal="", name=name, value=ratio(ours, mosec), unit="ratio"))
        figures.append(Figure(goal="", name=f"mosec_{workload.name}", value=mosec.rate, unit=workload.unit))
    return figures


def best(contestants: Mapping[str, Contestant], names: Mapping[str, object]) -> Contestant:
    return max((contestants[name] for name in names), key=lambda contestant: contestant.rate)


def ratio(ours: Contestant, peer: Contestant) -> float:
    """The median of the ratios of each round."""
    return statistics.median(a / b for a, b in zip(ours.rates, peer.rates, strict=True))


def main() -> None:
    """Runs the benchmark and adds its figures to ``build/bench.json``."""
    console = Console()
    with tempfile.TemporaryDirectory() as scratch:
        for workload in (image_workload(), text_workload(Path(scratch))):
            repository = Path(scratch) / workload.name
            publish(repository, workload)
            write(compete(repository, workload, console))


if __name__ == "__main__":
    main()
