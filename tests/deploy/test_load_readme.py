"""The commands of ``deploy/load/README.md``, as they are written there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.deploy.generator import FOLDER
from tests.server_process import ServerProcess

README = (FOLDER / "README.md").read_text()
COMMANDS = re.findall(r"^    ((?:python deploy/load/|locust ).*)$", README, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_works(server: ServerProcess, tmp_path: Path, command: str) -> None:
    Image.new("RGB", (70, 64), (200, 0, 0)).save(tmp_path / "red.jpg")
    changes = {
        "imagenet": "colours",
        "photos/": str(tmp_path),
        "--seconds 30": "--seconds 1",
        "30s": "4s --stop-timeout 30",
    }
    for old, new in changes.items():
        command = command.replace(old, new)
    command = command.replace("http://127.0.0.1:8000", f"http://127.0.0.1:{server.port}")
    program, *arguments = shlex.split(command)
    run = [sys.executable] if program == "python" else [sys.executable, "-m", "locust"]
    done = subprocess.run(
        [*run, *arguments],
        cwd=FOLDER.parents[1],
        env={"GRAFTWORK_URL": f"http://127.0.0.1:{server.port}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^right +[1-9]|predict colours +[1-9]", done.stdout + done.stderr, re.MULTILINE)


def test_there_are_commands() -> None:
    assert len(COMMANDS) == 3


def test_the_readme_names_only_options_that_there_are() -> None:
    said = subprocess.run(
        [sys.executable, str(FOLDER / "generate.py"), "--help"], capture_output=True, text=True
    ).stdout
    own, _, users = README.partition("## locustfile.py")
    assert set(re.findall(r"--[a-z][a-z-]+", own)) - {"--output"} <= set(re.findall(r"--[a-z][a-z-]+", said))
    program = (FOLDER / "locustfile.py").read_text()
    options = {*re.findall(r'"([a-z-]+)", "', program), "host", "headless", "users", "run-time"}
    assert {name.removeprefix("--") for name in re.findall(r"--[a-z][a-z-]+", users)} <= options
