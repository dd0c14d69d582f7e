"""The README's commands, run in order as a newcomer would."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from service.client import Client
from service.demo import free_port

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```(console|python)\n(.*?)```", README.read_text(), re.DOTALL)


def steps() -> Iterator[str]:
    """Commands and programs, in their order."""
    for kind, block in BLOCKS:
        if kind == "python":
            yield shlex.join([sys.executable, "-c", block])
        else:
            yield from (line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ "))


def test_every_task_of_the_readme_works_as_written(tmp_path: Path) -> None:
    port, grpc_port = free_port(), free_port()
    binaries = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "GRAFTWORK_CACHE_DIR": str(tmp_path / "cache"),
        "GRAFTWORK_ENGINE": "auto",  # as a user, who says nothing
        "GRAFTWORK_URL": f"http://127.0.0.1:{port}",
    }
    server: subprocess.Popen[bytes] | None = None
    try:
        for command in steps():
            words = shlex.split(command.replace("127.0.0.1:8000", f"127.0.0.1:{port}").replace("8001", str(grpc_port)))
            if words[:2] == ["graftwork", "serve"]:
                if server is not None:
                    server.terminate()
                    assert server.wait(60) == 0
                server = subprocess.Popen(
                    [*words, "--port", str(port)], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL
                )
                _wait_until_ready(port, server)
                continue
            if words[0] == "curl" and shutil.which("curl") is None:
                continue
            if "tritonclient.http" in command and find_spec("geventhttpclient") is None:
                continue
            asks_here = "huggingface_hub" in command  # offline, that would refuse this machine as well
            done = subprocess.run(
                words,
                cwd=tmp_path,
                env={**environment, "HF_HUB_OFFLINE": "0"} if asks_here else environment,
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            if asks_here:
                assert "dates" in done.stdout
                assert "(2, 384)" in done.stdout
            elif "from openai" in command:
                assert "all-MiniLM-L6-v2 2 384 " in done.stdout
            elif words[:2] == ["graftwork", "predict"] and "--output" in words:
                answers = (tmp_path / words[-1]).read_text()
                assert ("flower.jpg,daisy," in answers) == words[-1].endswith(".csv")
                assert '"prediction": {"label": ' in answers or words[-1].endswith(".csv")
            elif words[:2] == ["graftwork", "predict"] or ":predict" in command or words[1] == "-c":
                assert "daisy" in done.stdout
            elif words[-1].endswith("/metrics"):
                assert "graftwork_requests_total" in done.stdout
            elif words[-1].endswith("/config"):
                assert '"name":"imagenet"' in done.stdout
            elif words[-1].endswith("/infer"):
                assert b'"model_name":"imagenet"' in (tmp_path / "answer.bin").read_bytes()
    finally:
        if server is not None:
            server.terminate()
            assert server.wait(60) == 0


def _wait_until_ready(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    with Client(f"http://127.0.0.1:{port}") as client:
        while not client.is_ready():
            assert server.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server was not ready in 90 s"
            time.sleep(0.1)


def test_the_readme_names_every_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "graftwork", "--help"], capture_output=True, text=True, check=True, env=_wide()
    )
    commands = re.findall(r"^│ ([a-z]+) ", done.stdout, re.MULTILINE)
    assert {"finetune", "serve", "predict", "models"} <= set(commands)
    text = README.read_text()
    missing = [name for name in commands if f"graftwork {name}" not in text]
    assert missing in ([], ["demo"])  # `make demo` is what the README says instead


def _wide() -> dict[str, str]:
    return {**os.environ, "COLUMNS": "200"}


@pytest.mark.parametrize("target", ["demo", "test", "check", "bench", "bench-finetune", "serve", "lock"])
def test_the_makefile_has_what_the_readme_promises(target: str) -> None:
    makefile = (README.parent / "Makefile").read_text()
    assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE)
