"""A Triton that comes back at another address, of the same name."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from service.triton.fleet import TritonFleet
from tests.processes import wait_for
from tests.service.triton.fake_triton import FakeTriton

_RECORD = struct.Struct(">HHHIH4s")  # name, type, class, seconds, length, address
_A = 1
_HEADER = 12


class NameServer:
    """Knows one address, whatever it is asked.

    Attributes:
        address: it.
        socket: UDP, where it is asked.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))

    def answer(self) -> None:
        """Until it is asked nothing, which has no header."""
        while len(query := (received := self.socket.recvfrom(2048))[0]) >= _HEADER:
            end = query.index(0, _HEADER) + 5
            is_a = query[end - 4 : end - 2] == struct.pack(">H", _A)
            record = _RECORD.pack(0xC000 | _HEADER, _A, 1, 1, 4, socket.inet_aton(self.address)) if is_a else b""
            head = query[:2] + struct.pack(">5H", 0x8180, 1, int(is_a), 0, 0)
            self.socket.sendto(head + query[_HEADER:end] + record, received[1])


@contextmanager
def name_server(address: str) -> Iterator[NameServer]:
    server = NameServer(address)
    thread = threading.Thread(target=server.answer)
    thread.start()
    try:
        yield server
    finally:
        server.socket.sendto(b"", server.socket.getsockname())
        thread.join()
        server.socket.close()


def test_a_server_that_moves_is_found_again_soon() -> None:
    server = FakeTriton()
    server.start()
    with name_server("127.0.0.1") as names:
        fleet = TritonFleet([f"dns://127.0.0.1:{names.socket.getsockname()[1]}/triton.test:{server.port}"])
        try:
            assert fleet.wait_until_up(10)
            server.stop()
            wait_for(lambda: not fleet.wait_until_up(0), 10)
            names.address = "127.0.0.2"
            server.url = f"127.0.0.2:{server.port}"
            server.start()
            assert fleet.wait_until_up(15)  # gRPC by itself asks for names every 30 s
        finally:
            fleet.close()
            server.stop()
