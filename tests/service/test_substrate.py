from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from models.errors import InvalidParameter
from service.flight_record import FlightRecord
from service.messages import Died, FrameReader
from service.restart import Restart
from service.settings import ServerSettings
from service.substrate import SOCKET_NAME, GraftworkServer


def test_the_api_process_has_nothing_heavy_to_fork() -> None:
    code = (
        "import sys, service.substrate\n"
        "heavy = {'torch', 'numpy', 'grpc', 'tritonclient', 'timm', 'transformers', 'PIL', 'sklearn'}\n"
        "heavy |= {'opentelemetry.sdk', 'opentelemetry.exporter'}\n"  # FastAPI imports the API alone
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_port_in_use_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = ServerSettings(repository=tmp_path, port=taken.getsockname()[1])
        with pytest.raises(InvalidParameter, match="Address already in use; try another --port"):
            GraftworkServer(settings, "0")


def test_the_signal_handler_of_the_parent_ends_a_process_that_is_not_it(tmp_path: Path) -> None:
    server = GraftworkServer.__new__(GraftworkServer)
    server._parent_pid = os.getpid() + 1
    for cut_off, code in [(0, 0), (3, 1)]:
        server._application = SimpleNamespace(cut_off=cut_off)  # type: ignore[assignment]
        with pytest.raises(SystemExit) as caught:
            server._on_signal()
        assert caught.value.code == code


def parent_of(directory: Path) -> GraftworkServer:
    """As much of a server's parent process as notices the death of a worker."""
    server = GraftworkServer.__new__(GraftworkServer)
    server._runtime_dir = directory
    server._records = {}
    server.lit_api = SimpleNamespace(socket_path=str(directory / SOCKET_NAME))
    return server


def test_a_death_is_told_to_the_api_process_with_what_is_known_of_it() -> None:
    with tempfile.TemporaryDirectory(prefix="gw-test-") as name, socket.socket(socket.AF_UNIX) as listening:
        directory = Path(name)
        listening.bind(str(directory / SOCKET_NAME))
        listening.listen()
        listening.settimeout(30)
        server, restart = parent_of(directory), Restart()
        for pid, has_answered, exit_code, deaths in [(11, False, 1, 1), (12, False, 1, 2), (13, True, -9, 1)]:
            record = FlightRecord(directory / f"flight-{pid}", decode_threads=1, compute_threads=1, max_batch_rows=1)
            if has_answered:
                record.computing([(0, 0)])
                record.computed()
            server.inference_workers = [SimpleNamespace(pid=pid, exitcode=exit_code, join=lambda: None)]
            server._on_death(0, restart)
            connection, _ = listening.accept()
            with connection:
                ((died, _),) = FrameReader().feed(connection.recv(65536))
                assert isinstance(died, Died)
                assert (died.worker, died.exit_code, died.deaths) == (0, exit_code, deaths)
                assert died.pause_seconds == pytest.approx(Restart.FIRST_SECONDS * 2 ** (deaths - 1), abs=0.05)
            # The API process may be about to read the last record; the ones before have been read.
            assert [path.name for path in directory.glob("flight-*")] == [f"flight-{pid}"]
            restart.started()


def test_a_death_while_the_api_process_is_gone_is_no_error(tmp_path: Path) -> None:
    server, restart = parent_of(tmp_path), Restart()
    server.inference_workers = [SimpleNamespace(pid=11, exitcode=-9, join=lambda: None)]
    server._on_death(0, restart)
    assert restart.pending


def test_l18_a_worker_that_cannot_be_started_is_tried_again_later(caplog: pytest.LogCaptureFixture) -> None:
    server, restart = GraftworkServer.__new__(GraftworkServer), Restart()
    server.lit_api = SimpleNamespace()
    dead, new = SimpleNamespace(pid=11), SimpleNamespace(pid=12)
    server.inference_workers = [dead]
    outcomes: list[object] = [OSError(errno.EAGAIN, "no more processes"), OSError(errno.ENOMEM, "no memory"), new]

    def launch(lit_api: object, index: int) -> object:
        outcome = outcomes.pop(0)
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    server.launch_single_inference_worker = launch  # type: ignore[method-assign]
    pauses = []
    for _ in range(2):
        server._start_again(0, restart)
        assert restart.pending
        assert server.inference_workers == [dead]
        pauses.append(restart.seconds_left())
    assert pauses == pytest.approx([Restart.FIRST_SECONDS, 2 * Restart.FIRST_SECONDS], abs=0.05)
    assert "worker 0 cannot be started: no more processes" in caplog.text
    server._start_again(0, restart)
    assert not restart.pending
    assert server.inference_workers == [new]
