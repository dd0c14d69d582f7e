"""What a ready server costs while nobody asks: CPU time of all its processes, in cores (1 is a whole one).

It serves an image and a text model, and was asked before.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from tests.benchmarks.cpu_time import cpu_seconds
from tests.benchmarks.report import write
from tests.benchmarks.workload import image_workload, publish, text_workload
from tests.faults.figure import Figure
from tests.processes import process_group, running
from tests.server_process import ServerProcess

SECONDS = max(20.0, float(os.environ.get("GRAFTWORK_BENCH_SECONDS", "0")))
SETTLE_SECONDS = 3.0  # after the last request


def idle_cpu(server: ServerProcess) -> dict[str, float]:
    """Cores that each part of a server keeps busy."""
    everything = [pid for pid in running() if process_group(pid) == server.process.pid]
    parts: dict[str, Sequence[int]] = {"API process": [server.api()], "worker": server.workers()}
    parts["parent"] = [pid for pid in everything if not any(pid in pids for pids in parts.values())]
    started = time.monotonic()
    before = {part: cpu_seconds(pids) for part, pids in parts.items()}
    time.sleep(SECONDS)
    seconds = time.monotonic() - started
    return {part: (cpu_seconds(pids) - before[part]) / seconds for part, pids in parts.items()}


def main() -> None:
    """Runs the benchmark and adds its figure to ``build/bench.json``."""
    with tempfile.TemporaryDirectory() as scratch:
        texts = text_workload(Path(scratch))
        for workload in (image_workload(), texts):
            publish(Path(scratch) / "repository", workload)
        server = ServerProcess(repository=Path(scratch) / "repository")
        try:
            server.wait_until_ready()
            for text in texts.items[:32]:
                assert server.predict("texts", [text.decode()]).status == 200
            time.sleep(SETTLE_SECONDS)
            cores = idle_cpu(server)
        finally:
            server.destroy()
    table = Table("process", "cores", title=f"An idle server, over {SECONDS:.0f} s", box=box.SIMPLE_HEAD, min_width=60)
    for part, value in cores.items():
        table.add_row(part, f"{value:.4f}")
    Console().print(table)
    total = sum(cores.values())
    write([Figure(goal="", name="idle_cpu_cores", value=total, unit="cores", relation="<=", bar=0.01)])


if __name__ == "__main__":
    main()
