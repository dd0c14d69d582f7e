"""What clients over HTTP notice of others over gRPC, which the same event loop serves; and how many of those it can serve.

    python -m tests.benchmarks.grpc_beside_http

One server, whose engine is an echo, with one worker. Eight clients over HTTP (V1, a text of 100 bytes) ask again as soon as they are
answered: alone, and beside eight over gRPC that do the same; these also alone. They take turns. Every answer is verified.
All share the cores of the machine: what HTTP loses is what the server has to do besides, and what its new clients take.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from hashlib import sha256
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from tests.benchmarks.cpu_time import cpu_seconds
from tests.benchmarks.report import write
from tests.faults.echo_server import echo_server
from tests.faults.figure import Figure
from tests.faults.load import LoadProcess
from tests.faults.tally import Tally
from tests.processes import free_port

CLIENTS = 8
ROUNDS = 5
SECONDS = max(1, round(float(os.environ.get("GRAFTWORK_BENCH_SECONDS", "4"))))
WARM_UP_SECONDS = 1
PATH = "/inference.GRPCInferenceService/ModelInfer"


def ask_over_grpc(port: int, seconds: float) -> tuple[float, list[float]]:
    """Requests a second of clients in a closed loop, each on a connection of its own, and every latency in seconds."""
    return asyncio.run(_ask(port, seconds))


async def _ask(port: int, seconds: float) -> tuple[float, list[float]]:
    from grpc.aio import insecure_channel
    from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelInferResponse

    latencies: list[float] = []

    def request(text: bytes) -> Any:
        return ModelInferRequest(
            model_name="echo",
            inputs=[ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1])],
            outputs=[ModelInferRequest.InferRequestedOutputTensor(name="label")],
            raw_input_contents=[len(text).to_bytes(4, "little") + text],
        )

    async def client(number: int, until: float) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            infer = channel.unary_unary(PATH, ModelInferRequest.SerializeToString, ModelInferResponse.FromString)
            asked = 0
            while (started := time.perf_counter()) < until:
                text = (b"text %d of %d" % (asked, number)).ljust(100, b".")
                answer = await infer(request(text))
                latencies.append(time.perf_counter() - started)
                if answer.raw_output_contents[0][4:] != sha256(text).hexdigest().encode():
                    raise RuntimeError(f"a wrong answer: {answer}")
                asked += 1

    started = time.perf_counter()
    await asyncio.gather(*(client(number, started + seconds) for number in range(CLIENTS)))
    return len(latencies) / (time.perf_counter() - started), latencies


def p99_ms(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98] * 1000


def ask_over_http(port: int, seconds: float) -> Tally:
    with LoadProcess(port, connections=CLIENTS, seconds=seconds) as load:
        tally = load.tally(timeout=seconds + 60)
    if tally.ok != tally.sent:
        raise RuntimeError(str(tally.summary()))
    return tally


def main() -> None:
    """Runs the benchmark and adds its figures to ``build/bench.json``."""
    grpc_port, console = free_port(), Console()
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    spawn = multiprocessing.get_context("spawn")
    with echo_server(grpc_port=grpc_port) as server, ProcessPoolExecutor(1, mp_context=spawn) as pool:
        api = [server.api()]
        ask_over_http(server.port, WARM_UP_SECONDS)
        pool.submit(ask_over_grpc, grpc_port, WARM_UP_SECONDS).result()
        for number in range(ROUNDS):
            with console.status(f"HTTP beside gRPC, round {number + 1} of {ROUNDS}"):
                before = cpu_seconds(api)
                tally = ask_over_http(server.port, SECONDS)
                note("HTTP, us of the API process a request", (cpu_seconds(api) - before) / tally.ok * 1e6)
                note("HTTP alone, requests/s", tally.rate())
                note("HTTP alone, p99 in ms", tally.p(0.99) * 1000)
                before = cpu_seconds(api)
                rate, latencies = pool.submit(ask_over_grpc, grpc_port, SECONDS).result()
                note("gRPC, us of the API process a request", (cpu_seconds(api) - before) / len(latencies) * 1e6)
                note("gRPC alone, requests/s", rate)
                note("gRPC alone, p99 in ms", p99_ms(latencies))
                asking = pool.submit(ask_over_grpc, grpc_port, SECONDS)
                tally = ask_over_http(server.port, SECONDS)
                note("HTTP beside gRPC, requests/s", tally.rate())
                note("HTTP beside gRPC, p99 in ms", tally.p(0.99) * 1000)
                note("gRPC beside HTTP, requests/s", asking.result()[0])
    title = f"{CLIENTS} clients over HTTP, {CLIENTS} over gRPC, one server; medians of {ROUNDS} rounds"
    table = Table("what", "median", "rounds", title=title, box=box.SIMPLE_HEAD)
    for name, values in found.items():
        table.add_row(name, f"{statistics.median(values):,.1f}", ", ".join(f"{value:,.1f}" for value in values))
    console.print(table)
    beside, alone = found["HTTP beside gRPC, p99 in ms"], found["HTTP alone, p99 in ms"]
    ratio = statistics.median(a / b for a, b in zip(beside, alone, strict=True))
    rate = statistics.median(found["gRPC alone, requests/s"])
    write(
        [
            Figure(goal="", name="grpc_http_p99_over_alone", value=ratio, unit="ratio"),
            Figure(goal="", name="grpc_requests", value=rate, unit="requests/s"),
        ]
    )


if __name__ == "__main__":
    main()
