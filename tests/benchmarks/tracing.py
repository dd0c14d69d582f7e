"""What traces cost: no-op requests without them, with one request in a hundred sampled, and with all of them.

    python -m tests.benchmarks.tracing

It is no part of ``make bench``. The same echo server three times, asked as in `tests.benchmarks.noop`; a collector in this process
takes the spans and forgets them. The servers take turns, and all but the one that is measured are stopped.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from rich import box
from rich.console import Console
from rich.table import Table

from tests.benchmarks.noop import ROUNDS, Asking, Contestant, measure, ratio
from tests.benchmarks.peer import stop
from tests.faults.echo_server import EchoServer

WITHOUT = "without traces"
SAMPLERS: Mapping[str, Mapping[str, str]] = {
    "one request in a hundred": {
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.01",
    },
    "every request": {},
}


class Collector(BaseHTTPRequestHandler):
    """Takes spans and forgets them."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        pass


@contextmanager
def collecting() -> Iterator[str]:
    """Where it listens."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def main() -> None:
    """Prints a table."""
    asking, console, path = Asking(), Console(), "/v1/models/echo:predict"
    with ExitStack() as stack:
        endpoint = stack.enter_context(collecting())
        contestants = {WITHOUT: Contestant(server=EchoServer(), path=path)}
        for name, sampler in SAMPLERS.items():
            environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **sampler}
            server = EchoServer(settings={"traces": True}, environment=environment)
            contestants[name] = Contestant(server=server, path=path)
        for contestant in contestants.values():
            stack.callback(contestant.server.destroy)
        for contestant in contestants.values():
            contestant.server.wait_until_ready()
            stop(contestant.server)
        for number in range(ROUNDS):
            with console.status(f"traces, round {number + 1} of {ROUNDS}"):
                for contestant in contestants.values():
                    measure(contestant, asking)
    table = Table("traces", "requests/s", "of those without", "CPU us a request, API process", box=box.SIMPLE_HEAD)
    for name, contestant in contestants.items():
        of_those = f"{ratio(contestant, contestants[WITHOUT]):.2f}"
        table.add_row(name, f"{contestant.rate:,.0f}", of_those, f"{contestant.cost('api'):.0f}")
    console.print(table)


if __name__ == "__main__":
    main()
