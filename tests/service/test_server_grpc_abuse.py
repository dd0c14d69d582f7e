"""A real server over gRPC: what is hostile, and what surrounds every call."""

from __future__ import annotations

import asyncio
import random
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.processes import free_port, wait_for
from tests.server_process import ServerProcess
from tests.service.api.oip.grpc_asking import Answered, ask, channel, text_request
from tests.service.spoken import Spoken, words

pytestmark = pytest.mark.usefixtures("nothing_dies_over_grpc")


# What is hostile


def test_whatever_is_sent_is_refused_and_harms_nobody(spoken: Spoken) -> None:
    chance = random.Random(5)
    whole = text_request(b"abc", outputs=["label"]).SerializeToString()
    hostile = [
        b"",
        *(chance.randbytes(size) for size in (1, 10, 1000, 100_000)),
        *(whole[:end] for end in range(1, len(whole), 7)),
        b"\x2a\x00" * 1_000_000,
        text_request(b"abc", model="\x00").SerializeToString(),
        text_request(b"\xff\xfe").SerializeToString(),
        text_request(b"").SerializeToString(),
        text_request(*[b"a"] * 65).SerializeToString(),
        text_request(b"a" * (3 << 20)).SerializeToString(),
    ]
    for shape in ([0], [-1], [1 << 62, 1 << 62], [2], [1, 2], [1] * 9):
        request = text_request(b"abc")
        request.inputs[0].shape[:] = shape
        hostile.append(request.SerializeToString())
    for datatype in ("bytes", "FP32", "INT64", ""):
        request = text_request(b"abc")
        request.inputs[0].datatype = datatype
        hostile.append(request.SerializeToString())
    nan = np.full((1, 3, 64, 64), np.nan, dtype=np.float32).tobytes()
    request = text_request(b"", model="colours")
    request.inputs[0].name, request.inputs[0].datatype = "pixel_values", "FP32"
    request.inputs[0].shape[:] = [1, 3, 64, 64]
    request.raw_input_contents[0] = nan
    hostile.append(request.SerializeToString())

    async def send_all() -> list[Answered]:
        async with channel(spoken.port) as made:
            return [await ask(made, message) for message in hostile]

    for message, answered in zip(hostile, asyncio.run(send_all()), strict=True):
        assert answered.status in ("INVALID_ARGUMENT", "NOT_FOUND"), (message[:50], answered.details)
        assert answered.trailers["x-request-id"]
        for secret in ("/tmp", "Traceback", "Error(", ".py", "object at"):
            assert secret not in answered.details


def test_what_is_no_http2_is_closed(spoken: Spoken) -> None:
    for data in (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", random.Random(1).randbytes(4096)):
        with socket.create_connection(("127.0.0.1", spoken.port), timeout=10) as connection:
            connection.sendall(data)
            try:
                while connection.recv(65536):
                    pass
            except ConnectionResetError:
                pass


# What surrounds it


def test_all_that_arrived_has_one_outcome(spoken: Spoken) -> None:
    def one(number: int) -> None:
        if number % 3:
            spoken.infer("letters", {"text": words(f"{number}")})
        else:
            spoken.server.predict("letters", [f"{number}"])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(one, range(60)))
    received = sum(spoken.server.metric("graftwork_received_requests_total").values())
    assert received == sum(spoken.server.metric("graftwork_requests_total").values())
    for gauge in ("requests", "rows", "bytes"):
        assert spoken.server.metric(f"graftwork_in_flight_{gauge}") == {(): 0}


def test_the_log_stays_one_object_a_line(spoken: Spoken) -> None:
    spoken.infer("letters", {"text": words("a")}, headers={"x-request-id": "in-the-log"})
    wait_for(lambda: any(each.get("request_id") == "in-the-log" for each in spoken.server.records()), 10)
    (line,) = [each for each in spoken.server.records() if each.get("request_id") == "in-the-log"]
    assert (line["method"], line["path"]) == ("gRPC", "/inference.GRPCInferenceService/ModelInfer")
    assert (line["status"], line["model"], line["version"]) == (200, "letters", "1")


def test_a_port_in_use_is_told_before_anything_starts(spoken: Spoken, tmp_path: Path) -> None:
    options = ["--repository", str(tmp_path), "--port", str(free_port())]
    for taken in (spoken.port, spoken.server.port):
        done = subprocess.run(
            [sys.executable, "-m", "graftwork", "serve", *options, "--grpc-port", str(taken)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1
        assert f"cannot listen on 127.0.0.1:{taken}: Address already in use; try another --grpc-port" in done.stderr


def test_only_the_api_process_has_grpc_in_it(spoken: Spoken, server: ServerProcess) -> None:
    """And that only where it serves it: nothing of it may be in a process that forks."""
    assert has_grpc(spoken.server.api())
    for pid in (
        spoken.server.process.pid,
        *spoken.server.workers(),
        server.process.pid,
        server.api(),
        *server.workers(),
    ):
        assert not has_grpc(pid)
    for pid in (spoken.server.process.pid, server.process.pid, server.api()):
        assert "_multiarray_umath" not in mapped(pid)  # numpy


def has_grpc(pid: int) -> bool:
    return "grpc/_cython/cygrpc" in mapped(pid)


def mapped(pid: int) -> str:
    """The files that a process has mapped into memory, libraries among them."""
    return Path(f"/proc/{pid}/maps").read_text()
