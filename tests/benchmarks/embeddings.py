"""Embeddings a second over HTTP, beside infinity-emb and sentence-transformers behind FastAPI.

    python -m tests.benchmarks.embeddings      # five minutes, once the peers are installed

All serve all-MiniLM-L6-v2 and answer the same requests in OpenAI's form, with vectors in base64. They run at the same time,
but all except the one that is measured are stopped (SIGSTOP), and they take turns. What each gives is compared with what
sentence-transformers gives, so that speed is of the same thing. The better of the peers counts. Where other programs want the
cores, too, whoever has more threads gets more of them: then only texts by a second of CPU time can be compared.

The peers compute with torch in fp32 on all cores, and get the environment that we give to our workers, with which their
allocator is faster:

- infinity-emb 0.0.78 with its own defaults for a CPU: batches of 32 over requests, sorted by length, warmed up. Without
  BetterTransformer, which needs a transformers before 4.49; attention is torch's fused one without it, too.
- sentence-transformers 6.2.0, which sorts a request's texts by length and computes 32 at a time: in a plain route, which
  FastAPI runs in many threads; and with one request computed at a time.

They are no dependencies of ours: each gets a virtual environment below ``build/peers``, the first of them with a torch of its
own (which brings the libraries of CUDA, some GB, where the index has none for CPUs alone), the second one on the packages of
this one. What cannot be installed is left out.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import statistics
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from models.embedded import require_embedded_directory
from service.cli import WORKER_ENVIRONMENT
from tests.benchmarks.clients import Clients
from tests.benchmarks.cpu_time import cpu_seconds
from tests.benchmarks.peer import Peer, awake, stop
from tests.benchmarks.peer_environment import peer_python
from tests.benchmarks.report import write
from tests.benchmarks.workload import BACKBONES, Workload, publish, sentences, text_workload
from tests.faults.figure import Figure
from tests.server_process import ServerProcess

if TYPE_CHECKING:
    import numpy as np

MODEL, PATH = "all-MiniLM-L6-v2", "/v1/embeddings"
ROUNDS = 3
SECONDS = float(os.environ.get("GRAFTWORK_BENCH_SECONDS", "4"))
BAR = 3.0  # times the texts a second of the better peer

OPTIONS = ("--engine", "auto")  # what a user gets, and not what tests start quickest with

OURS, OURS_FP32 = "graftwork", "graftwork --precision fp32"
INFINITY = "infinity-emb"
PLAIN, QUEUED = "sentence-transformers", "sentence-transformers, one request at a time"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What clients ask: how many of them, for how many texts at a time."""

    clients: int
    texts: int

    def __str__(self) -> str:
        texts = "1 text" if self.texts == 1 else f"{self.texts} texts"
        return f"{self.clients} clients, {texts} a request"


SHAPES = (Shape(clients=32, texts=1), Shape(clients=4, texts=64), Shape(clients=4, texts=256))


@dataclass(kw_only=True)
class Turns:
    """What came of a server's rounds.

    Attributes:
        rates: texts a second of each round.
        costs: texts a second of CPU time of each.
        latencies: of every request, in seconds.
    """

    rates: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    def milliseconds(self, percentile: int) -> float:
        return 1000 * statistics.quantiles(self.latencies, n=100, method="inclusive")[percentile - 1]


def mixed_texts(directory: Path) -> list[str]:
    """As long as what is searched, and searched for: the first words of a sentence, a sentence, or a paragraph of four.

    Args:
        directory: for the files that the sentences come from.
    """
    each = [text.decode() for text in sentences(directory)]
    queries = [" ".join(text.split()[:5]) for text in each]
    paragraphs = [" ".join(each[start : start + 4]) for start in range(len(each) - 3)]
    return [text for mixed in zip(queries, each, paragraphs, reversed(each), strict=False) for text in mixed]


def body(texts: Sequence[str]) -> bytes:
    return json.dumps({"model": MODEL, "input": list(texts), "encoding_format": "base64"}).encode()


def workload(texts: Sequence[str], shape: Shape) -> Workload:
    """Bodies that hold every text equally often."""
    turn = itertools.cycle(texts)
    count = len(texts) // shape.texts
    bodies = [body(list(itertools.islice(turn, shape.texts))) for _ in range(count)]
    items = [text.encode() for text in texts]
    return Workload(name="embeddings", items=items, bodies=bodies, content_type="application/json")


def vectors(server: ServerProcess, texts: Sequence[str]) -> np.ndarray:
    """What a server gives, of length 1: ``(B, D)``."""
    import numpy as np

    reply = server.request("POST", PATH, body(texts), {"Content-Type": "application/json"}, timeout=60.0)
    assert reply.status == 200, reply.body[:500]
    data = sorted(reply.json()["data"], key=lambda entry: int(entry["index"]))
    vectors_BD = np.stack([np.frombuffer(base64.b64decode(entry["embedding"]), "<f4") for entry in data])
    norms_B1: np.ndarray = np.linalg.norm(vectors_BD, axis=1, keepdims=True)
    return vectors_BD / norms_B1


def peers() -> Mapping[str, Peer]:
    """Those that can be installed, on their way."""
    folder = require_embedded_directory(BACKBONES["texts"]) / "model"
    probe = (PATH, body(["Are you there?"]), "application/json")
    found: dict[str, Peer] = {}
    if python := peer_python("infinity", ["infinity-emb[server,torch]==0.0.78", "torch==2.13.0"]):
        arguments = ["infinity_emb.cli", "v2", f"--model-id={folder}", f"--served-model-name={MODEL}"]
        arguments += ["--url-prefix=/v1", "--host=127.0.0.1", "--log-level=warning"]
        arguments += ["--engine=torch", "--device=cpu", "--dtype=float32", "--batch-size=32", "--no-bettertransformer"]
        environment = {**WORKER_ENVIRONMENT, "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
        found[INFINITY] = Peer(arguments=arguments, environment=environment, python=str(python), probe=probe)
    if python := peer_python("sentence-transformers", ["sentence-transformers==6.2.0"], "--no-deps"):
        libraries = os.pathsep.join([os.getcwd(), sysconfig.get_path("purelib")])
        for name, options in ((PLAIN, []), (QUEUED, ["--queue"])):
            arguments = ["tests.benchmarks.sentence_transformers_peer", f"--model={folder}", *options]
            environment = {**WORKER_ENVIRONMENT, "PYTHONPATH": libraries}
            found[name] = Peer(arguments=arguments, environment=environment, python=str(python), probe=probe)
    return found


def take_turns(servers: Mapping[str, ServerProcess], asked: Workload, shape: Shape) -> Mapping[str, Turns]:
    """Runs every server alone, again and again."""
    turns = {name: Turns() for name in servers}
    with ExitStack() as stack:
        clients = {name: Clients(server.port, asked, [PATH], check=False) for name, server in servers.items()}
        for each in clients.values():
            stack.callback(each.close)
        for _ in range(ROUNDS):
            for name, server in servers.items():
                with awake(server):
                    before = cpu_seconds(server.survivors())
                    rate, latencies = clients[name].run(shape.clients, SECONDS)
                    spent = cpu_seconds(server.survivors()) - before
                turns[name].rates.append(rate * shape.texts)
                turns[name].costs.append(len(latencies) * shape.texts / spent)
                turns[name].latencies += latencies
    return turns


def similarities(servers: Mapping[str, ServerProcess], texts: Sequence[str]) -> Mapping[str, np.ndarray]:
    """Cosines of each server's vectors with those of sentence-transformers, for each text; nothing where it is missing."""
    found = {}
    for name, server in servers.items():
        with awake(server):
            found[name] = vectors(server, texts)
    if QUEUED not in found:
        return {}
    return {name: (each_BD * found[QUEUED]).sum(axis=1) for name, each_BD in found.items()}


def figures_of(shape: Shape, turns: Mapping[str, Turns]) -> list[Figure]:
    """One shape's; the bar is held against the better of the peers."""
    tail = f"c{shape.clients}_b{shape.texts}"
    ours, theirs = turns[OURS], [turns[name] for name in (INFINITY, PLAIN, QUEUED) if name in turns]
    figures = [
        Figure(goal="", name=f"embeddings_{tail}", value=ours.rate, unit="texts/s"),
        Figure(goal="", name=f"embeddings_p99_{tail}", value=ours.milliseconds(99), unit="ms"),
    ]
    if theirs:
        best = max(theirs, key=lambda peer: peer.rate)
        name, value = f"embeddings_{tail}_over_best_peer", ratio(ours, best)
        figures.append(Figure(goal="", name=name, value=value, unit="ratio", relation=">=", bar=BAR))
        figures.append(Figure(goal="", name=f"embeddings_{tail}_best_peer", value=best.rate, unit="texts/s"))
    return figures


def ratio(ours: Turns, peer: Turns) -> float:
    """The median of the ratios of each round."""
    return statistics.median(a / b for a, b in zip(ours.rates, peer.rates, strict=True))


def cost_ratio(ours: Turns, peer: Turns) -> float:
    """The same, of texts a second of CPU time."""
    return statistics.median(a / b for a, b in zip(ours.costs, peer.costs, strict=True))


def table_of(shape: Shape, turns: Mapping[str, Turns]) -> Table:
    header = (
        "server",
        "texts/s",
        "graftwork is faster",
        "texts per CPU second",
        "graftwork does more",
        "p50 ms",
        "p99 ms",
    )
    table = Table(*header, title=str(shape), box=box.SIMPLE_HEAD)
    for name, each in turns.items():
        times = (f"{each.milliseconds(percentile):,.0f}" for percentile in (50, 99))
        rates = (f"{each.rate:,.0f}", f"{ratio(turns[OURS], each):.2f} x")
        costs = (f"{statistics.median(each.costs):,.0f}", f"{cost_ratio(turns[OURS], each):.2f} x")
        table.add_row(name, *rates, *costs, *times)
    return table


def main() -> None:
    """Runs the benchmark and adds its figures to ``build/bench.json``."""
    console, figures = Console(), []
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        directory = Path(scratch)
        texts = mixed_texts(directory / "mixed")
        repository = directory / "repository"
        publish(repository, text_workload(directory))
        servers: dict[str, ServerProcess] = {
            OURS: ServerProcess(repository=repository, options=OPTIONS),
            OURS_FP32: ServerProcess(repository=repository, options=[*OPTIONS, "--precision", "fp32"]),
            **peers(),
        }
        for server in servers.values():
            stack.callback(server.destroy)
        for server in servers.values():
            server.wait_until_ready(300.0)
        for server in servers.values():
            stop(server)
        table = Table("server", "mean", "lowest", title="cosine to sentence-transformers", box=box.SIMPLE_HEAD)
        for name, cosines_B in similarities(servers, texts[:512]).items():
            table.add_row(name, f"{cosines_B.mean():.5f}", f"{cosines_B.min():.5f}")
            if name == OURS:
                value = float(cosines_B.mean())
                figures.append(Figure(goal="", name="embeddings_cosine_to_peer", value=value, unit="cosine"))
        console.print(table)
        for shape in SHAPES:
            with console.status(str(shape)):
                turns = take_turns(servers, workload(texts, shape), shape)
            console.print(table_of(shape, turns))
            figures += figures_of(shape, turns)
    write(figures)


if __name__ == "__main__":
    main()
