"""Where the CPU time of a no-op request goes in the API process, by stage.

    python -m tests.benchmarks.stages

It is a profile of samples, for reading and not for comparing: it is no part of ``make bench``. A stage has the time of its
functions and of what they call, unless that is of another stage; time in the kernel is its caller's.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from tests.benchmarks.cpu_time import cpu_seconds
from tests.benchmarks.noop import Asking
from tests.faults.echo_server import EchoServer

SECONDS = 20
MOST_FUNCTIONS = 4  # that are named of a stage

STAGES = {  # what the innermost function that is found here belongs to
    "event loop, and the kernel's part of reading": r"^Runner\.run ",
    "reading the request": r"^(RequestReader|ClientConnection|HttpToolsProtocol|RequestResponseCycle\.__init__)\b",
    "reading the body": r"/service/api/body\.py$|^(Exchange|RequestResponseCycle)\.receive ",
    "id, route, key, model, deadline, admission": r"/service/(substrate|auth/\w+|api/(application|gate|v1|catalog|patience|admission))\.py$"
    r"|^(RequestResponseCycle\.run_asgi|Telemetry\.__call__|_request_id) ",
    "to the worker and back": r"/service/(messages|api/(workers|worker_connection|quarantine))\.py$",
    "writing the answer": r"^Exchange\.(send|_write)\b",
    "metrics": r"/service/api/(metrics|request_counts)\.py$",
    "the line in the log": r"/service/log\.py$|^Telemetry\._end ",
}


@dataclass(kw_only=True)
class SampledServer(EchoServer):
    """The echo server, with a profiler in its API process."""

    stacks: Path

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "tests.benchmarks.sampled_echo", str(self.stacks), f"--port={self.port}"]


def stage_of(stack: Sequence[str]) -> str:
    """The stage of a stack of functions, from the outermost on."""
    for function in reversed(stack):
        for stage, pattern in STAGES.items():
            if re.search(pattern, function):
                return stage
    return "other"


def main() -> None:
    """Prints a table."""
    with tempfile.TemporaryDirectory() as directory:
        server = SampledServer(stacks=Path(directory) / "stacks.json")
        try:
            server.wait_until_ready()
            before = cpu_seconds([server.api()])
            count, _ = Asking().run(server.port, "/v1/models/echo:predict", SECONDS)
            microseconds = (cpu_seconds([server.api()]) - before) / count * 1e6
            samples = json.loads(server.stacks.read_text())
        finally:
            server.destroy()
    stages: Counter[str] = Counter()
    functions: dict[str, Counter[str]] = {}
    for stack, number in samples:
        stage = stage_of(stack)
        stages[stage] += number
        functions.setdefault(stage, Counter())[stack[-1].split()[0]] += number
    each = microseconds / stages.total()
    table = Table("stage", "us", "most of it in", title="CPU time of the API process a request", box=box.SIMPLE_HEAD)
    for stage, number in stages.most_common():
        most = [f"{name} {times * each:.1f}" for name, times in functions[stage].most_common(MOST_FUNCTIONS)]
        table.add_row(stage, f"{number * each:.1f}", ", ".join(most))
    table.add_row("together", f"{microseconds:.1f}", f"{stages.total():,} samples")
    Console().print(table)


if __name__ == "__main__":
    main()
