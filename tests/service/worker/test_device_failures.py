"""Row L06: a device that has too little memory, or fails."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from service.flight_record import FlightRecord
from service.messages import Form, Predict, pack
from service.worker.servable import Prepared
from tests.faults.echo import FAT, OBESE
from tests.service.worker.batches import Batches


def test_l06_a_batch_that_is_too_large_is_split_until_it_fits(echoes: Batches) -> None:
    rows = [FAT, *(b"good %d" % index for index in range(7))]
    outcomes = echoes.together(rows, decodable=8)
    assert [predictions[0]["label"] for predictions in outcomes] == [hashlib.sha256(row).hexdigest() for row in rows]
    assert echoes.sizes[1:8] == [8, 4, 2, 1, 1, 2, 4]


def test_l06_two_rows_that_are_too_large_together_are_computed_one_by_one(echoes: Batches) -> None:
    outcomes = echoes.together([FAT + b"1", FAT + b"2"], decodable=2)
    assert [predictions[0]["label"] for predictions in outcomes] == [
        hashlib.sha256(FAT + tail).hexdigest() for tail in (b"1", b"2")
    ]


def test_l06_a_row_that_is_too_large_alone_is_unavailable(echoes: Batches) -> None:
    assert echoes.alone(OBESE) == "out_of_memory"
    assert isinstance(echoes.alone(b"good"), list)


def test_l06_too_little_memory_to_decode_fails_that_request_only(echoes: Batches) -> None:
    def prepare(item: bytes, form: Form = "item", *, truncate: bool = False) -> Prepared:
        if item == b"huge":
            raise MemoryError
        return Prepared(item, "echo")

    echoes.conversation.worker._servables.get("echo", 1).prepare = prepare  # type: ignore[method-assign]
    assert echoes.alone(b"huge") == "out_of_memory"
    assert isinstance(echoes.alone(b"good"), list)


DEVICE_FAILS = """
import socket, sys
from pathlib import Path

from models.errors import DeviceFailed
from service.log import configure_logging
from service.messages import Form, Hello
from service.worker.worker import serve_socket
from tests.faults.echo import Echo, Echoes

class Failing(Echo):
    def compute(self, batch):
        raise DeviceFailed("the device failed")

configure_logging()
servables = Echoes(Failing(backbone="echo", batch_seconds=0.0, row_seconds=0.0))
serve_socket(Path(sys.argv[1]), Hello(worker=0, pid=7, device="cpu"), servables, threads=1, max_batch_rows=4)
"""


def test_l06_a_failed_device_ends_the_process_at_once(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="gw-test-") as directory, socket.socket(socket.AF_UNIX) as listening:
        path = Path(directory, "workers.sock")
        listening.bind(str(path))
        listening.listen()
        process = subprocess.Popen(
            [sys.executable, "-c", DEVICE_FAILS, str(path)],
            cwd=Path(__file__).parents[3],
            stderr=subprocess.PIPE,
            text=True,
        )
        connection, _ = listening.accept()
        with connection:
            connection.settimeout(30)
            predict = Predict(id=0, name="echo", number=1, sizes=[1, 1], deadline=time.monotonic() + 60)
            connection.sendall(pack(predict, 2) + b"ab")
            while connection.recv(65536):  # its hello, and no answer
                pass
        _, log = process.communicate(timeout=30)
        assert process.returncode == 1
        assert "the device failed; this worker ends" in json.loads(log.splitlines()[-1])["message"]
        assert FlightRecord.read(path.with_name("flight-7")) >= {(0, 0)}
