from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from models.errors import InvalidParameter
from service.settings import ServerSettings
from service.substrate import GraftworkServer
from tests.service.conftest import process_state, wait_for


def test_the_api_process_has_nothing_heavy_to_fork() -> None:
    code = (
        "import sys, service.substrate\n"
        "heavy = {'torch', 'numpy', 'grpc', 'tritonclient', 'timm', 'transformers', 'PIL', 'sklearn'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_port_in_use_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = ServerSettings(repository=tmp_path, port=taken.getsockname()[1])
        with pytest.raises(InvalidParameter, match="Address already in use; try another --port"):
            GraftworkServer(settings, "0")


ORPHAN = """
import multiprocessing, os, signal, sys, time
from service.substrate import die_with_parent

def child(early):
    if early:
        os.kill(os.getppid(), signal.SIGKILL)
        while multiprocessing.parent_process().is_alive():
            time.sleep(0.01)
    die_with_parent(signal.SIGKILL)
    print(os.getpid(), flush=True)
    time.sleep(60)

process = multiprocessing.get_context("fork").Process(target=child, args=(len(sys.argv) > 1,))
process.start()
process.join()
"""


def test_a_child_dies_with_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    wait_for(lambda: process_state(child) in "ZX", 10)
    parent.stdout.close()


def test_a_child_whose_parent_is_dead_already_dies_too() -> None:
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN, "early"], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.read() == ""  # it ends without a word, and not after a minute
    assert parent.wait() == -signal.SIGKILL
    parent.stdout.close()


def test_the_signal_handler_of_the_parent_ends_a_process_that_is_not_it(tmp_path: Path) -> None:
    server = GraftworkServer.__new__(GraftworkServer)
    server._parent_pid = os.getpid() + 1
    for cut_off, code in [(0, 0), (3, 1)]:
        server._application = SimpleNamespace(cut_off=cut_off)  # type: ignore[assignment]
        with pytest.raises(SystemExit) as caught:
            server._on_signal()
        assert caught.value.code == code
