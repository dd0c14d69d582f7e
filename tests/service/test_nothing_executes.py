"""Goal G21: a server loads nothing that executes, and speaks to nobody but its clients and itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.aliases import promote
from models.repository import ModelRepository
from models.version import Reference
from tests.processes import wait_for
from tests.server_process import Reply, ServerProcess, ready_server
from tests.service.answers import send_image
from tests.service.api.form import END, MULTIPART, part
from tests.service.watch import Watch, internet_sockets, watched
from tests.tiny_models import LETTERS, TASK_MODELS, picture, publish_tasks, publish_texts, write_tiny_text


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, models_on_disk: Path, tiny_text: str) -> Path:
    """A repository with versions of every kind: images, texts, every task, and ``tuned:1`` with weights of its own."""
    directory = tmp_path_factory.mktemp("watched")
    shutil.copytree(models_on_disk, directory / "repository")
    repository = ModelRepository(directory / "repository")
    publish_tasks(repository, tiny_text)
    (directory / "tuned").mkdir()
    publish_texts(repository, write_tiny_text(directory / "tuned", seed=1), "tuned", LETTERS, seed=1)
    return repository.root


@pytest.fixture(scope="module")
def watch(root: Path) -> Watch:
    return Watch(root.parent, root)


@pytest.fixture(scope="module")
def server(root: Path, watch: Watch) -> Iterator[ServerProcess]:
    """A server that is watched from its first line on; its graphs are made while it is."""
    options = ("--admin", "--engine", "auto", "--cache-dir", str(root.parent / "cache"))
    online = {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0"}
    with ready_server(root, *options, **watch.environment, **online) as server:
        yield server


def operate(server: ServerProcess, method: str, path: str, document: object = None) -> Reply:
    body = None if document is None else json.dumps(document).encode()
    headers = {} if body is None else {"Content-Type": "application/json"}
    return server.request(method, f"/v1/models/{path}", body, headers)


def predict_everything(server: ServerProcess) -> None:
    """Every kind of model, every kind of body, and some that are wrong."""
    for name in ("letters", "moods", "tuned", *TASK_MODELS):
        instance = ["first", "second"] if name in ("follows", "likeness") else "a text"
        wait_for(lambda name=name, instance=instance: server.predict(name, [instance]).status == 200, 120, server.text)
    wait_for(lambda: send_image(server, picture(1)).status == 200, 120, server.text)
    path = "/v1/models/colours:predict"
    form = part(picture(2)) + part(picture(3, file_format="JPEG")) + END
    assert server.request("POST", path, form, {"content-type": MULTIPART}).status == 200
    plain = {"content-type": "text/plain"}
    assert server.request("POST", "/v1/models/letters:predict", b"a text", plain).status == 200
    for refused in (
        server.predict("letters", [1]),
        server.predict("letters", [""]),
        server.predict("nobody", ["a"]),
        server.request("POST", "/v1/models/letters:predict", b"\x80\x04cos\nsystem\n(S'true'\ntR.", plain),
        send_image(server, b"\x80\x04cos\nsystem\n(S'true'\ntR."),
        send_image(server, picture(4)[:-30]),
        send_image(server, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run"),
    ):
        assert 400 <= refused.status < 500, refused.body


def test_g21_a_server_executes_nothing_and_connects_to_nobody(
    server: ServerProcess, watch: Watch, root: Path, tiny_text: str
) -> None:
    repository = ModelRepository(root)
    predict_everything(server)
    for number in (1, publish_texts(repository, tiny_text, "letters", LETTERS, seed=11).number):
        assert operate(server, "PUT", "letters/labels/champion", {"version": number}).status == 200
    assert operate(server, "POST", "letters/labels/champion:rollback", {}).status == 200
    assert operate(server, "DELETE", f"letters/versions/{number}").status == 200
    promote(repository, Reference(name="moods", number=1))
    assert server.status_of("/metrics") == 200
    family = [server.process.pid, server.api(), *server.workers()]
    assert all(map(watched, family))
    assert watch.forbidden() == []
    handed_over = [note for note in watch.notes() if note.event == "pickle.find_class"]
    assert {note.pid for note in handed_over} == set(server.workers())
    assert {port for pid in family for port, _ in internet_sockets(pid)} == {server.port}


def test_nothing_is_downloaded_whatever_the_environment_says(server: ServerProcess) -> None:
    for pid in server.workers():
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert {b"HF_HUB_OFFLINE=1", b"TRANSFORMERS_OFFLINE=1"} <= set(environment)


CRIMES = {
    "pickle.find_class": "import pickle; pickle.loads(b'cbuiltins\\nlen\\n.')",
    "marshal.loads": "import marshal; marshal.loads(marshal.dumps(1))",
    "socket.connect": "import socket; socket.socket().connect_ex(('127.0.0.1', 9))",
    "socket.getaddrinfo": "import socket; socket.getaddrinfo('localhost', 9)",
    "socket.sendto": "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('127.0.0.1', 9))",
    "subprocess.Popen": "import subprocess; subprocess.run(['true'])",
    "os.system": "import os; os.system('true')",
    "os.exec": "import os; os.execv('/bin/true', ['true'])",
    "compile": "import runpy; runpy.run_path('{root}/code.py')",
    "exec": "import sys; sys.path.insert(0, '{root}'); import code_that_came_along",
    "ctypes.dlopen": "import contextlib, ctypes\nwith contextlib.suppress(OSError): ctypes.CDLL('{root}/library.so')",
}


@pytest.mark.parametrize("event", CRIMES)
def test_the_watch_sees_it_in_a_process_like_those_of_a_server(event: str, tmp_path: Path) -> None:
    """In one that multiprocessing spawns, where a pickle is allowed until it begins to work."""
    for name in ("code.py", "code_that_came_along.py", "library.so"):
        (tmp_path / name).write_text("")
    watch = Watch(tmp_path, tmp_path)
    spawn = "import multiprocessing as m; p = m.get_context('spawn').Process(target=exec, args=({crime!r},)); p.start(); p.join()"
    crime = CRIMES[event].replace("{root}", str(tmp_path))
    command = [sys.executable, "-c", spawn.format(crime=crime)]
    environment = {"PATH": "/bin:/usr/bin", **watch.environment}
    subprocess.run(command, env=environment, check=True, timeout=30)
    seen = [note for note in watch.notes() if not note.is_allowed]
    assert event in {note.event for note in seen}
    assert any(note.is_allowed for note in watch.notes())
