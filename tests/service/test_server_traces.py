"""Traces of a real server, as a collector gets them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from typer.testing import CliRunner

from graftwork import app
from service import cli
from tests.faults.echo_server import EchoServer
from tests.processes import free_port, wait_for
from tests.server_process import ServerProcess, ready_server
from tests.service.api.oip.grpc_asking import ask, channel, text_request

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = {"traceparent": f"00-{TRACE}-{SPAN}-01"}


class Collector:
    """What takes spans over HTTP, as OTLP has them.

    Attributes:
        endpoint: for ``OTEL_EXPORTER_OTLP_ENDPOINT``.
        requests: that came.
        gate: closed, none is answered.
    """

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.endpoint = f"http://127.0.0.1:{server.server_port}"
        self.requests: list[Any] = []
        self.gate = threading.Event()
        self.gate.set()

    def spans(self) -> list[Any]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@contextmanager
def collecting() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.requests.append(ExportTraceServiceRequest.FromString(body))
            collector.gate.wait(60)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        collector = Collector(server)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            collector.gate.set()
            server.shutdown()
            thread.join()


@contextmanager
def tracing(endpoint: str, **environment: str) -> Iterator[EchoServer]:
    """A server of echoes, which is ready within a second or two."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **environment}
    server = EchoServer(settings={"traces": True}, environment=variables)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.destroy()


def attributes(holder: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in holder.attributes}


def stop(server: ServerProcess) -> float:
    """Ends it as an orchestrator does; returns the seconds that it took."""
    started = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(30) == 0
    return time.monotonic() - started


def test_a_collector_gets_requests_and_their_stages_as_parts_of_their_callers_traces(models_on_disk: Path) -> None:
    port = free_port()

    async def over_grpc() -> None:
        async with channel(port) as made:
            assert (await ask(made, text_request(b"abc"), metadata=PARENT)).status == "OK"

    options = ("--traces", "--grpc-port", str(port))
    with (
        collecting() as collector,
        ready_server(models_on_disk, *options, OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint) as server,
    ):
        before = time.time_ns()
        assert server.predict("letters", ["abc", "cab"], **PARENT).status == 200
        after = time.time_ns()
        assert server.request("GET", "/v1/models/a%FF%00b%C2%85", headers=PARENT).status == 404
        asyncio.run(over_grpc())
        stop(server)  # spans that are on their way are not lost
        spans = collector.spans()
        (resource,) = {tuple(sorted(attributes(r.resource_spans[0].resource).items())) for r in collector.requests}
        lines = [record for record in server.records() if record.get("trace_id") == TRACE]
    assert dict(resource)["service.name"] == "graftwork"
    assert "service.version" in dict(resource)
    requests = [span for span in spans if span.parent_span_id.hex() == SPAN]
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    assert [span.name for span in requests] == [
        "POST /v1/models/{name}:predict",
        "GET /v1/models/{id}",
        "inference.GRPCInferenceService/ModelInfer",
    ]
    assert [line["span_id"] for line in lines] == [span.span_id.hex() for span in requests]
    first = requests[0]
    assert (
        before <= first.start_time_unix_nano <= after
    )  # its end is after the last byte was sent, when its client has it already
    assert attributes(first)["graftwork.rows"] == 2
    for request in (first, requests[2]):
        stages = sorted(
            (span for span in spans if span.parent_span_id == request.span_id), key=lambda s: s.start_time_unix_nano
        )
        assert [stage.name for stage in stages] == ["decode", "queue", "compute"]
        assert stages[0].start_time_unix_nano >= request.start_time_unix_nano
        assert stages[-1].end_time_unix_nano <= request.end_time_unix_nano


def test_a_collector_that_is_gone_costs_a_line_in_the_log() -> None:
    with tracing(f"http://127.0.0.1:{free_port()}", OTEL_BSP_SCHEDULE_DELAY="10") as server:
        for _ in range(50):
            assert server.predict("echo", ["abc"]).status == 200
        wait_for(lambda: "exporting spans" in server.text(), 20)
        for _ in range(50):
            assert server.predict("echo", ["abc"]).status == 200
        assert stop(server) < 10
        said = [line for line in server.records() if line["logger"].startswith("opentelemetry")]
        assert len(said) == 1, said
        assert said[0]["level"] == "warning"
        assert "Connection refused" in said[0]["message"]


def test_a_collector_that_hangs_holds_up_neither_requests_nor_the_end() -> None:
    with collecting() as collector:
        collector.gate.clear()
        with tracing(collector.endpoint, OTEL_BSP_SCHEDULE_DELAY="10") as server:
            assert server.predict("echo", ["abc"]).status == 200
            wait_for(lambda: bool(collector.requests), 20)
            for _ in range(50):
                assert server.predict("echo", ["abc"]).status == 200
            assert stop(server) < 10
            assert "the last traces could not be exported in time" in server.text()


def test_the_sampler_is_that_of_the_environment() -> None:
    sampler = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}
    with collecting() as collector, tracing(collector.endpoint, **sampler) as server:
        assert server.predict("echo", ["abc"]).status == 200
        assert server.predict("echo", ["abc"], **PARENT).status == 200
        stop(server)
        assert {span.trace_id.hex() for span in collector.spans()} == {TRACE}


@pytest.mark.parametrize(
    ("name", "value"), [("OTEL_BSP_MAX_QUEUE_SIZE", "-1"), ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "few")]
)
def test_a_variable_that_is_wrong_is_told(name: str, value: str) -> None:
    server = EchoServer(settings={"traces": True}, environment={name: value})
    try:
        assert server.process.wait(60) == 1
        assert "the server cannot start: traces cannot be exported: " in server.text()
        assert "look at the variables OTEL_..." in server.text()
    finally:
        server.destroy()


def test_a_server_whose_traces_are_disabled_has_none() -> None:
    with collecting() as collector, tracing(collector.endpoint, OTEL_SDK_DISABLED="true") as server:
        assert server.predict("echo", ["abc"]).status == 200
        stop(server)
        assert not collector.requests
        assert not [line for line in server.records() if "trace_id" in line]


def test_without_traces_neither_the_sdk_nor_the_exporter_is_imported(models_on_disk: Path, tmp_path: Path) -> None:
    """In their place lie packages that leave a mark; the variables alone turn nothing on. (FastAPI imports the API.)"""
    mark = tmp_path / "imported"
    for name in ("sdk", "exporter"):
        package = tmp_path / "opentelemetry" / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(f"import pathlib; pathlib.Path({str(mark)!r}).touch()")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with ready_server(models_on_disk, PYTHONPATH=path, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as server:
            assert server.predict("letters", ["abc"], **PARENT).status == 200
            stop(server)
            assert not mark.exists()
            (line,) = [line for line in server.records() if line.get("trace_id")]
            assert line["trace_id"] == TRACE
    subprocess.run(
        [sys.executable, "-c", "import opentelemetry.sdk"], env={**os.environ, "PYTHONPATH": path}, check=True
    )
    assert mark.exists()  # had it been imported


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cli, "_is_installed", lambda distribution: False)
    result = CliRunner().invoke(app, ["serve", "--traces", "--repository", str(tmp_path)])
    assert result.exit_code == 2
    assert "pip install 'graftwork[otel]'" in " ".join(result.output.replace("\u2502", " ").split())
    monkeypatch.undo()
    assert cli._is_installed("pytest")
    assert not cli._is_installed("no-such-distribution")
