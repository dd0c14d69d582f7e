"""A real server, as a process of its own."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.processes import children, command_line, free_port, process_group, running, wait_for


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An HTTP response, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Of the error that it is, in any dialect."""
        document = self.json()
        code: str = document["code"] if "code" in document else document["error"].partition(":")[0]
        return code


def json_body(instances: object) -> bytes:
    return json.dumps({"instances": instances}).encode()


def samples(exposition: bytes, name: str) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(exposition.decode())
    found = [sample for family in families for sample in family.samples if sample.name == name]
    return {tuple(sample.labels.values()): sample.value for sample in found}


@dataclass(kw_only=True)
class ServerProcess:
    """``graftwork serve`` as users run it, in a process group and with a TMPDIR of its own."""

    repository: Path
    options: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)  # beside that of the tests
    port: int = field(default_factory=lambda: free_port())

    def __post_init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="gw-test-"))  # short: the path of a local socket has 108 bytes
        (self.directory / "tmp").mkdir()
        self.log = self.directory / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command(),
                env={**os.environ, "TMPDIR": str(self.directory / "tmp"), **self.environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def command(self) -> Sequence[str]:
        """What is run."""
        serve = [sys.executable, "-m", "graftwork", "serve", "--port", str(self.port), "--device", "cpu"]
        return [*serve, "--repository", str(self.repository), *self.options]

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float = 30.0,
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Reply(
                status=response.status,
                headers={name.lower(): value for name, value in response.getheaders()},
                body=response.read(),
            )
        finally:
            connection.close()

    def predict(self, model: str, instances: object, query: str = "", **headers: str) -> Reply:
        path = f"/v1/models/{model}:predict{query}"
        return self.request("POST", path, json_body(instances), {"content-type": "application/json", **headers})

    def metric(self, name: str) -> dict[tuple[str, ...], float]:
        """The values of a metric by those of its labels, in the order of the labels' names."""
        return samples(self.request("GET", "/metrics").body, name)

    def raw(self, data: bytes, *, timeout: float = 10.0) -> bytes:
        """Sends bytes as they are and reads until the server has nothing more to say."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            connection.sendall(data)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
            return answer

    def status_of(self, path: str) -> int:
        """The status, or 0 where nothing listens."""
        try:
            return self.request("GET", path).status
        except (OSError, http.client.HTTPException):
            return 0

    def wait_until_ready(self, seconds: float = 90.0) -> None:
        wait_for(lambda: self.status_of("/health/ready") == 200 or self.process.poll() is not None, seconds, self.text)
        assert self.process.poll() is None, self.text()

    def text(self) -> str:
        """The log so far, without the requests."""
        return "\n".join(line for line in self.log.read_text().splitlines() if "graftwork.access" not in line)

    def records(self) -> list[dict[str, Any]]:
        """The log so far: every line is a JSON object."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def workers(self) -> list[int]:
        """The pids of the workers, by the command line of a spawned process."""
        return [pid for pid in children(self.process.pid) if b"spawn_main" in command_line(pid)]

    def api(self) -> int:
        """The pid of the API process: a fork, so that its command line is that of its parent."""
        mine = command_line(self.process.pid)
        (pid,) = (pid for pid in children(self.process.pid) if command_line(pid) == mine)
        return pid

    def runtime_files(self) -> list[str]:
        return os.listdir(self.directory / "tmp")

    def survivors(self) -> list[int]:
        """Processes of the server's group that still run."""
        return [pid for pid in running() if process_group(pid) == self.process.pid]

    def destroy(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.directory)


@contextmanager
def ready_server(repository: Path, *options: str, **environment: str) -> Iterator[ServerProcess]:
    """A server that answers, until the end of the block."""
    server = ServerProcess(repository=repository, options=options, environment=environment)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.destroy()
