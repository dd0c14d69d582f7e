"""A real nginx with the shipped configuration, and what it is asked."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.processes import children, free_port, resident_bytes, wait_for
from tests.server_process import Reply

GRPC = "\n# gRPC, "  # where what is commented out for it begins
SHIPPED = Path(__file__).parents[2] / "deploy" / "nginx" / "graftwork.conf"
PREDICT = "/v1/models/letters:predict"
JSON = {"content-type": "application/json"}

# What is not in the shipped file: where this nginx may write, and as whom (Debian's default user may not, there).
SURROUNDINGS = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log info;
{user}
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/graftwork.conf;
}}
"""


@dataclass(kw_only=True)
class Proxy:
    """nginx with the shipped file, of which only ports and paths differ.

    Args:
        program: nginx.
        upstreams: the ports of one or two servers.
        tls: listens with the line that is commented out for it.
        changes: further texts of the file, each there once, and what stands there instead.
        grpc_upstream: the port of a server over gRPC, which is served with the lines that are commented out for it, without TLS.
    """

    program: str
    upstreams: Sequence[int]
    tls: bool = False
    changes: Mapping[str, str] = field(default_factory=dict)
    grpc_upstream: int | None = None
    port: int = field(default_factory=free_port)
    grpc_port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="gw-test-"))
        text, _, grpc = SHIPPED.read_text().partition(GRPC)
        text = _replaced(text, {**self._addresses(), **self.changes})
        if self.grpc_upstream is not None:
            _, *lines = (line.removeprefix("# ") for line in grpc.splitlines()[1:])
            text += _replaced("\n".join(lines), self._grpc_addresses())
        user = "user root;" if os.geteuid() == 0 else ""
        (self.directory / "graftwork.conf").write_text(text)
        (self.directory / "nginx.conf").write_text(SURROUNDINGS.format(directory=self.directory, user=user))
        at = str(self.directory)
        command = [self.program, "-p", at, "-c", f"{at}/nginx.conf", "-e", f"{at}/error.log"]
        checked = subprocess.run([*command, "-t"], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
        assert "[warn]" not in checked.stderr, checked.stderr
        self.process = subprocess.Popen(command)
        wait_for(lambda: self._listens() or self.process.poll() is not None, 30, self.trouble)
        assert self.process.poll() is None, self.trouble()

    def _addresses(self) -> dict[str, str]:
        first, *second = self.upstreams
        here = f"    listen 127.0.0.1:{self.port} "
        found = {
            "    server 127.0.0.1:8000 ": f"    server 127.0.0.1:{first} ",
            "/var/log/nginx/access.log": str(self.directory / "access.log"),
        }
        if second:
            found["    # server 127.0.0.1:8001 "] = f"    server 127.0.0.1:{second[0]} "
        if self.tls:
            return found | {"    listen 80 ": "    # ", "    # listen 443 ssl ": f"{here}ssl "}
        return found | {"    listen 80 ": here}

    def _grpc_addresses(self) -> dict[str, str]:
        said = subprocess.run([self.program, "-v"], capture_output=True, text=True).stderr
        version = tuple(map(int, said.rpartition("/")[2].split()[0].split(".")))
        here = f"listen 127.0.0.1:{self.grpc_port}"
        return {
            "listen 8443 ssl http2;": f"{here}; http2 on;" if version >= (1, 25, 1) else f"{here} http2;",
            "127.0.0.1:8001 ": f"127.0.0.1:{self.grpc_upstream} ",
            "/var/log/nginx/grpc.log": str(self.directory / "grpc.log"),
        }

    def _listens(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        source: str = "127.0.0.1",
    ) -> Reply:
        """One request by the book, from any address of this machine."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60, source_address=(source, 0))
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Reply(status=response.status, headers=names, body=response.read())
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def exchange(self, *pieces: bytes) -> list[Reply]:
        """Sends bytes as they are, and gives every answer that comes until nginx closes the connection."""
        with self.connect() as connection:
            with suppress(ConnectionError):  # refused, and closed, while we were still sending
                for piece in pieces:
                    connection.sendall(piece)
            return list(read_answers(connection))

    def memory(self) -> int:
        """Resident bytes of the processes that serve."""
        return sum(resident_bytes(pid) for pid in children(self.process.pid))

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.directory / "access.log").read_text().splitlines()]

    def trouble(self) -> str:
        """The error log."""
        return (self.directory / "error.log").read_text(errors="replace")

    def destroy(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        shutil.rmtree(self.directory)


def _replaced(text: str, changes: Mapping[str, str]) -> str:
    for old, new in changes.items():
        assert text.count(old) == 1, f"{old!r} is not there once"
        text = text.replace(old, new)
    return text


def read_answers(connection: socket.socket) -> Iterator[Reply]:
    """Every answer on a connection, until its end."""
    with connection.makefile("rb") as stream, suppress(ConnectionResetError):
        while line := stream.readline():
            headers = {name.lower(): value for name, value in http.client.parse_headers(stream).items()}
            body = stream.read(int(headers.get("content-length", "0")))
            yield Reply(status=int(line.split()[1]), headers=headers, body=body)
            if int(line.split()[1]) >= 400 and headers.get("connection") == "close":
                with suppress(
                    OSError
                ):  # nginx has said all, but waits 5 s for what is still on its way (lingering_close)
                    connection.shutdown(socket.SHUT_WR)


def check_refusal(reply: Reply, status: int, code: str) -> None:
    """nginx's own answers have the shape of the server's."""
    assert (reply.status, reply.json().get("code")) == (status, code), reply.body
    assert reply.headers["content-type"] == "application/problem+json"
    assert set(reply.json()) == {"type", "title", "status", "code", "detail", "request_id"}
    assert reply.json()["status"] == status
    assert reply.json()["request_id"] == reply.headers["x-request-id"]
    assert ("retry-after" in reply.headers) == (status in (429, 503))
    assert reply.headers["server"] == "nginx"  # without its version
