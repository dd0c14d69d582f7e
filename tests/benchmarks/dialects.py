"""Requests a second in each dialect: the same inputs to the same server, asked for in other words.

    python -m tests.benchmarks.dialects

The engine is an echo, so that what is measured is the way of a request. The inputs are texts of 100 bytes, and photographs of
about 70 kB: what it costs to carry a payload, and to unpack it. Dialects take turns, many times, and are compared with the
fastest one by the medians of the ratios of each round. The CPU time of the API process is shown too: it says the same on a
machine that others use, where rates do not.

What asks sends bytes that were made before (`tests.benchmarks.clients`). Triton's own client needs more time for a request
than the server does: with it, what is measured would be the client.
"""

from __future__ import annotations

import base64
import json
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from models.backbone import Modality
from models.signature import IMAGE, LABEL, PROBABILITIES, TEXT
from service.messages import pack_element
from tests.benchmarks.clients import Clients
from tests.benchmarks.cpu_time import cpu_seconds
from tests.benchmarks.report import write
from tests.benchmarks.workload import Workload, photographs
from tests.faults.echo import TENSORS
from tests.faults.echo_server import EchoServer
from tests.faults.figure import Figure

CONNECTIONS = 32
ROUNDS = 9
SECONDS = float(os.environ.get("GRAFTWORK_BENCH_SECONDS", "0.5"))
BAR = 0.9
V1 = "/v1/models/echo:predict"
V2 = "/v2/models/echo/infer"


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What every dialect asks for.

    Attributes:
        name: of these inputs in the table and in the figures.
        items: texts or photographs, one a request.
        tensor: the name of the input in V2.
        content_type: of an item alone.
    """

    name: str
    modality: Modality
    items: Sequence[bytes]
    tensor: str
    content_type: str


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One way to ask.

    Attributes:
        bodies: of the requests, one an item.
        headers: beside the content type.
        expected: a part of the answer to an item.
        bar: it must be as fast as the fastest, or nearly so.
    """

    name: str
    path: str
    content_type: str
    bodies: Sequence[bytes]
    headers: Mapping[str, str] = field(default_factory=dict)
    expected: Callable[[bytes], bytes] = lambda item: sha256(item).hexdigest().encode()
    bar: bool = False

    def workload(self, items: Sequence[bytes]) -> Workload:
        return Workload(name=self.name, items=items, bodies=self.bodies, content_type=self.content_type)


@dataclass(kw_only=True)
class Contestant:
    """A dialect, and what was measured of it in each round.

    Attributes:
        rates: requests a second.
        costs: microseconds of CPU time of the API process, a request.
    """

    dialect: Dialect
    clients: Clients
    rates: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def cost(self) -> float:
        return statistics.median(self.costs)

    def over(self, other: Contestant) -> float:
        """Its rate as a multiple of another one's: the median of the ratios of each round."""
        return statistics.median(a / b for a, b in zip(self.rates, other.rates, strict=True))


def inputs() -> Sequence[Inputs]:
    texts = [f"text {number} of a hundred bytes".ljust(100, ".").encode() for number in range(16)]
    return [
        Inputs(name="texts", modality=Modality.TEXT, items=texts, tensor=TEXT, content_type="text/plain"),
        Inputs(
            name="photos", modality=Modality.IMAGE, items=photographs()[:16], tensor=IMAGE, content_type="image/jpeg"
        ),
    ]


def dialects(asked: Inputs) -> Sequence[Dialect]:
    """All of them."""
    is_image, as_json, items = asked.modality is Modality.IMAGE, "application/json", asked.items
    in_json = [base64.b64encode(item).decode() if is_image else item.decode() for item in items]
    instances = [{"b64": item} if is_image else item for item in in_json]
    whole = {"name": asked.tensor, "shape": [1], "datatype": "BYTES"}
    probabilities = {"name": PROBABILITIES, "parameters": {"binary_data": True}}
    return [
        Dialect(
            name="V1 JSON", path=V1, content_type=as_json, bodies=[_dump({"instances": [each]}) for each in instances]
        ),
        Dialect(name="V1 raw", path=V1, content_type=asked.content_type, bodies=items),
        Dialect(
            name="V2 JSON",
            path=V2,
            content_type=as_json,
            bodies=[_dump({"inputs": [{**whole, "data": [each]}], "outputs": [{"name": LABEL}]}) for each in in_json],
        ),
        _binary("V2 binary", items, whole, expected=lambda _: TENSORS[PROBABILITIES], outputs=[probabilities]),
        _binary("V2 binary, all outputs", items, whole, parameters={"binary_data_output": True}),
        Dialect(
            name="V2 raw",
            path=V2,
            content_type="application/octet-stream",
            bodies=items,
            headers={"Inference-Header-Content-Length": "0"},
            bar=True,
        ),
    ]


def _dump(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _binary(name: str, items: Sequence[bytes], tensor: Mapping[str, Any], **members: Any) -> Dialect:
    """Each input as bytes behind a head in JSON."""
    fields = {"expected": members.pop("expected")} if "expected" in members else {}
    packed = [pack_element(item) for item in items]
    heads = [
        _dump({"inputs": [{**tensor, "parameters": {"binary_data_size": len(each)}}], **members}) for each in packed
    ]
    (size,) = {len(head) for head in heads}  # one header for all of them
    return Dialect(
        name=name,
        path=V2,
        content_type="application/octet-stream",
        bodies=[head + each for head, each in zip(heads, packed, strict=True)],
        headers={"Inference-Header-Content-Length": str(size)},
        bar=True,
        **fields,
    )


def verify(server: EchoServer, dialect: Dialect, items: Sequence[bytes]) -> None:
    """Each item's own answer."""
    headers = {"Content-Type": dialect.content_type, **dialect.headers}
    for item, body in zip(items, dialect.bodies, strict=True):
        reply = server.request("POST", dialect.path, body, headers)
        if reply.status != 200 or dialect.expected(item) not in reply.body:
            raise RuntimeError(f"{dialect.name}: {reply.status} {reply.body[:500]!r}")


def measure(asked: Inputs, console: Console) -> Sequence[Contestant]:
    """All rounds of one kind of inputs."""
    server = EchoServer(modality=asked.modality)
    contestants: list[Contestant] = []
    try:
        server.wait_until_ready()
        for dialect in dialects(asked):
            verify(server, dialect, asked.items)
            clients = Clients(server.port, dialect.workload(asked.items), [dialect.path], dialect.headers)
            contestants.append(Contestant(dialect=dialect, clients=clients))
            clients.run(CONNECTIONS, SECONDS)
        for number in range(ROUNDS):
            with console.status(f"{asked.name}, round {number + 1} of {ROUNDS}"):
                for contestant in contestants:
                    before = cpu_seconds([server.api()])
                    rate, latencies = contestant.clients.run(CONNECTIONS, SECONDS)
                    contestant.rates.append(rate)
                    contestant.costs.append((cpu_seconds([server.api()]) - before) / len(latencies) * 1e6)
    finally:
        for contestant in contestants:
            contestant.clients.close()
        server.destroy()
    return contestants


def figures(asked: Inputs, contestants: Sequence[Contestant]) -> list[Figure]:
    fastest = max(contestants, key=lambda contestant: contestant.rate)
    found = []
    for each in contestants:
        name = f"dialect_{asked.name}_{each.dialect.name.lower().replace(',', '').replace(' ', '_')}"
        found.append(Figure(goal="", name=name, value=each.rate, unit="requests/s"))
        found.append(Figure(goal="", name=f"{name}_api_cpu", value=each.cost, unit="us/request"))
        bar = BAR if each.dialect.bar else None
        found.append(
            Figure(goal="", name=f"{name}_over_fastest", value=each.over(fastest), unit="ratio", relation=">=", bar=bar)
        )
    return found


def main() -> None:
    """Runs the benchmark and adds its figures to ``build/bench.json``."""
    console = Console()
    for asked in inputs():
        contestants = measure(asked, console)
        fastest = max(contestants, key=lambda contestant: contestant.rate)
        table = Table(
            "dialect",
            "requests/s",
            "of the fastest",
            "API process, CPU us a request",
            title=f"The same {asked.name} in each dialect, {CONNECTIONS} clients",
            box=box.SIMPLE_HEAD,
        )
        for each in contestants:
            table.add_row(each.dialect.name, f"{each.rate:,.0f}", f"{each.over(fastest):.2f}", f"{each.cost:.0f}")
        console.print(table)
        write(figures(asked, contestants))


if __name__ == "__main__":
    main()
