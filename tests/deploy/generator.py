"""``deploy/load/generate.py`` as a program."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "deploy" / "load"


def run(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs it to its end, without the environment of the tests."""
    command = [sys.executable, str(FOLDER / "generate.py"), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def load(port: int | Sequence[int], data: Path, *options: str, code: int = 0) -> dict[str, Any]:
    """The figures of a load on servers of this machine.

    Args:
        code: the exit code that there must be.
    """
    ports = [port] if isinstance(port, int) else port
    urls = [f"--url=http://127.0.0.1:{each}" for each in ports]
    done = run(*urls, f"--data={data}", "--json", "--latencies", *options)
    assert done.returncode == code, f"{done.returncode} {done.stdout[:2000]} {done.stderr}"
    summary: dict[str, Any] = json.loads(done.stdout)
    assert summary["sent"] == sum(summary["statuses"].values()) + sum(summary["lost"].values())
    assert summary["statuses"].get("200", 0) == summary["right"] + summary["wrong"]
    return summary
