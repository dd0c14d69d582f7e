from __future__ import annotations

import asyncio
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.client_connection import ClientConnection
from tests.faults.request import request
from tests.faults.scripted_server import Asked
from tests.faults.tally import Tally


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


def answer_to(data: bytes) -> bytes:
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:])
    return Asked(method="POST", path="/", headers=fields, body=body, reader=asyncio.StreamReader()).answer()


def receive(*cuts_of_answers: list[int], share_of_last: float = 1.0) -> tuple[Tally, Wire, int]:
    """Asks as often as there are lists, and cuts each answer there; the connection ends after a share of the last one."""

    async def story() -> tuple[Tally, Wire, int]:
        tally, wire = Tally(), Wire()
        freed: list[ClientConnection] = []
        connection = ClientConnection(tally, freed.append, patience=60)
        connection.connection_made(wire)
        for number, cuts in enumerate(cuts_of_answers):
            connection.ask(request([f"text {number}", "another"]))
            answer = answer_to(wire.written[-1])
            if number == len(cuts_of_answers) - 1:
                answer = answer[: int(len(answer) * share_of_last)]
            for start, end in pairwise(sorted({0, len(answer), *(cut for cut in cuts if cut < len(answer))})):
                connection.data_received(answer[start:end])
        connection.connection_lost(None)
        return tally, wire, len(freed)

    return asyncio.run(story())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(1, 500), max_size=12), min_size=1, max_size=3))
def test_an_answer_may_arrive_in_any_pieces(cuts: list[list[int]]) -> None:
    tally, wire, freed = receive(*cuts)
    assert tally.ok == tally.sent == freed == len(cuts)
    assert not wire.closed
    tally.check_conservation()


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 0.999), st.lists(st.integers(1, 500), max_size=5))
def test_an_answer_that_ends_anywhere_is_lost(share: float, cuts: list[int]) -> None:
    tally, _, freed = receive([], cuts, share_of_last=share)
    assert (tally.ok, freed, tally.sent) == (1, 1, 2)
    assert set(tally.losses) <= {"cut short", "reset"}
    assert tally.lost == tally.losses.total() == 1
    tally.check_conservation()


def test_requests_are_sent_one_at_a_time() -> None:
    _, wire, _ = receive([], [], [])
    assert len(wire.written) == 3
    assert all(data.startswith(b"POST /v1/models/echo:predict HTTP/1.1\r\n") for data in wire.written)
