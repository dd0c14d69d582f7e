"""Closed-loop clients on keep-alive connections: each sends its next request when the last one is answered.

They are ``deploy/load/generate.py``, a process of its own, so that what is measured is the server, and not who asks.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.workload import Workload

GENERATOR = Path(__file__).parents[2] / "deploy" / "load" / "generate.py"
TIMEOUT_SECONDS = 60.0


class Clients:
    """What asks a server.

    Args:
        port: of the server, on the loopback address.
        workload: what is sent, one body after the other.
        paths: asked in turn.
        headers: of every request, beside the usual ones.
        check: that the answer to a body at a path is always the same, and not only that there is one.
    """

    def __init__(
        self,
        port: int,
        workload: Workload,
        paths: Sequence[str],
        headers: Mapping[str, str] | None = None,
        *,
        check: bool = True,
    ) -> None:
        self._directory = tempfile.TemporaryDirectory()
        folder = Path(self._directory.name)
        for index, body in enumerate(workload.bodies):
            (folder / str(index)).write_bytes(body)
        self._count = max(len(workload.bodies), len(paths))
        lines = (
            {
                "path": paths[index % len(paths)],
                "file": str(index % len(workload.bodies)),
                "content_type": workload.content_type,
            }
            for index in range(self._count)
        )
        data = folder / "requests.jsonl"
        data.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        self._command = [sys.executable, str(GENERATOR), f"--url=http://127.0.0.1:{port}", f"--data={data}"]
        self._command += [f"--header={name}: {value}" for name, value in (headers or {}).items()]
        self._command += ["--json", "--latencies", f"--timeout={TIMEOUT_SECONDS:g}", *([] if check else ["--no-check"])]

    def run(self, concurrency: int, seconds: float) -> tuple[float, list[float]]:
        """Requests a second, and every request's latency in seconds; those that are under way at the end are waited for.

        Args:
            concurrency: how many clients.
            seconds: for which they ask.

        Raises:
            RuntimeError: an answer other than 200, or one that was not the same as before.
        """
        summary = self._run(f"--clients={concurrency}", f"--seconds={seconds}")
        return summary["right_per_second"], summary["latencies"]

    def ask_each(self, concurrency: int) -> None:
        """Every request once; raises as `run`."""
        self._run(f"--clients={concurrency}", f"--requests={self._count}")

    def _run(self, *options: str) -> dict[str, Any]:
        done = subprocess.run([*self._command, *options], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr or done.stdout[:2000])
        summary: dict[str, Any] = json.loads(done.stdout)
        if summary["right"] != summary["sent"]:
            raise RuntimeError(f"{summary['statuses']} {summary['errors']}")
        return summary

    def close(self) -> None:
        self._directory.cleanup()
