"""Rows O03 and L18: more connections than there is room for."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import replace

from service.http.limits import RESERVED_FILES
from tests.processes import wait_for
from tests.service.wire import PATIENT, check_refusal, get, is_echo, only, replies, running


def test_o03_connections_beyond_the_limit_are_told_and_closed() -> None:
    with running(replace(PATIENT, max_connections=8)) as site:
        idle = [site.connect() for _ in range(8)]
        wait_for(lambda: site.connections() == 8, 5)
        for _ in range(100):
            reply = site.ask(get(b"/echo"))
            check_refusal(reply, 503, "too_many_connections")
            assert int(reply.headers["retry-after"]) >= 1
        assert [line["status"] for line in site.log] == [503] * 100
        idle[0].sendall(get(b"/echo"))  # who came first is served all the while
        assert is_echo(only(replies(idle[0].recv(1 << 16))))
        idle.pop().close()
        wait_for(site.answers, 5)
        for connection in idle:
            connection.close()


def test_o03_a_flood_of_connections_keeps_nobody_out_for_long() -> None:
    with running(replace(PATIENT, max_connections=8, linger_seconds=60.0)) as site, ExitStack() as stack:
        flood = [stack.enter_context(site.connect()) for _ in range(500)]
        wait_for(lambda: len(site.log) > 400, 10)
        wait_for(lambda: site.connections() <= 8 + 32, 10)  # no other goes by itself for a minute
        for connection in flood:
            connection.close()
        wait_for(lambda: site.connections() == 0, 10)
        assert site.answers()


FEW_FILES = """
import resource, socket
from functools import partial
import uvicorn
from service.http.connection import ClientConnection
from service.http.limits import ConnectionLimits, fit_to_open_files
from service.api.metrics import Metrics
from service.http.sweep import Sweep
from service.api.telemetry import Telemetry

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 256))
http = partial(ClientConnection, limits=fit_to_open_files(ConnectionLimits()), sweep=Sweep(0.5))
app = Telemetry(app, Metrics("0"), print)
config = uvicorn.Config(app, http=http, loop="uvloop", lifespan="off", interface="asgi3", log_config=None, access_log=False)
listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
print(listening.getsockname()[1], flush=True)
uvicorn.Server(config).run(sockets=[listening])
"""


def test_l18_more_clients_than_open_files() -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", FEW_FILES], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        try:
            clients = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(600)]
            statuses: Counter[bytes] = Counter()
            for client in clients:
                with suppress(ConnectionError):
                    client.sendall(get(b"/echo"))
            for client in clients:
                with suppress(ConnectionError):
                    statuses[client.recv(1 << 16)[9:12]] += 1
            for client in clients:
                client.close()
            assert set(statuses) <= {b"200", b"503", b""}  # nothing: there was not even a file to say so
            assert statuses[b"200"] == 256 - RESERVED_FILES
            assert statuses[b"503"] > 0
            wait_for(lambda: status_at(port) == 200, 10)
            process.terminate()
            _, log = process.communicate(timeout=20)
            assert process.returncode == -signal.SIGTERM
            assert log == b""
        finally:
            process.kill()


def status_at(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/echo")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
