from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping

import pytest

from tests.faults.load import LoadProcess, run_load
from tests.faults.request import EchoRequests, Request
from tests.faults.request import request as ask_for
from tests.faults.scripted_server import Act, Asked, ScriptedServer, reset
from tests.faults.tally import HUNG_UP


def saying(**changes: object) -> Act:
    """An answer that is right but for these changes."""

    async def act(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(asked.answer(**changes))  # type: ignore[arg-type]

    return act


def cut_to(share: float) -> Act:
    async def act(asked: Asked, writer: asyncio.StreamWriter) -> None:
        answer = asked.answer()
        writer.write(answer[: int(len(answer) * share)])
        writer.close()

    return act


async def name_another_in_the_body(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(asked.answer(id="another", headers={"X-REQUEST-id": asked.id}))


async def reset_it(asked: Asked, writer: asyncio.StreamWriter) -> None:
    reset(writer)


async def close_it(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def be_silent(asked: Asked, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def in_pieces(asked: Asked, writer: asyncio.StreamWriter) -> None:
    for byte in asked.answer():
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)


async def twice(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(asked.answer() * 2)


async def no_http(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(b"250 ok\r\n\r\n")


MISBEHAVIOURS: list[tuple[str, Act, dict[str, object]]] = [
    ("a label of another text", saying(labels=["0" * 64]), {"wrong": 1}),
    ("a label too many", saying(labels=["0" * 64] * 2), {"wrong": 1}),
    ("no prediction", saying(labels=[]), {"wrong": 1}),
    ("another id", saying(id="another"), {"wrong": 1}),
    ("another id in the header only", saying(headers={"X-REQUEST-id": "another"}), {"wrong": 1}),
    ("another id in the body only", name_another_in_the_body, {"wrong": 1}),
    ("a prediction without an id", saying(headers={"X-REQUEST-id": None}), {"wrong": 1}),
    ("no json", saying(body=b"fine!"), {"wrong": 1}),
    ("json of another form", saying(body=b'[{"predictions": 1}]'), {"wrong": 1}),
    ("an error with another id", saying(status=503, id="another"), {"wrong": 1, "shed": 0}),
    ("an error without an id", saying(status=422, headers={"X-REQUEST-id": None}), {"without_request_id": 1}),
    ("cut short in the body", cut_to(0.9), {"lost": 1, "losses": {"cut short": 1}}),
    ("cut short in the head", cut_to(0.1), {"lost": 1, "losses": {"cut short": 1}}),
    ("reset", reset_it, {"lost": 1, "losses": {"reset": 1}}),
    ("closed", close_it, {"lost": 1, "losses": {"reset": 1}}),
    ("silence", be_silent, {"lost": 1, "losses": {"unanswered": 1}}),
    ("no length", saying(headers={"content-Length": None}), {"lost": 1, "losses": {"not understood": 1}}),
    ("no http", no_http, {"lost": 1, "losses": {"not understood": 1}}),
    ("answered twice", twice, {"ok": 5, "unasked": 1}),
    ("bad request", saying(status=422), {"client_errors": 1, "by_status": {200: 4, 422: 1}, "codes": {"code_422": 1}}),
    ("full", saying(status=503, headers={"retry-after": "12"}), {"shed": 1, "without_retry_after": 0}),
    ("full, no Retry-After", saying(status=503), {"shed": 1, "without_retry_after": 1}),
    ("full, Retry-After: 0", saying(status=503, headers={"retry-after": "0"}), {"shed": 1, "without_retry_after": 1}),
    ("full, fraction", saying(status=503, headers={"retry-after": "1.5"}), {"shed": 1, "without_retry_after": 1}),
    ("full, a date", saying(status=503, headers={"retry-after": "Fri"}), {"shed": 1, "without_retry_after": 1}),
    ("over its rate", saying(status=429, headers={"retry-after": "1"}), {"client_errors": 1, "without_retry_after": 0}),
    ("over its rate, no Retry-After", saying(status=429), {"client_errors": 1, "without_retry_after": 1}),
    ("too late", saying(status=504), {"timeouts": 1, "by_status": {200: 4, 504: 1}}),
    ("a bug", saying(status=500), {"failed": 1, "by_status": {200: 4, 500: 1}}),
    ("a redirect", saying(status=307), {"failed": 1}),
    ("a status that has no body", saying(status=500, body=b""), {"failed": 1, "codes": {}}),
    ("in pieces", in_pieces, {"ok": 5}),
    ("closing after the answer", saying(headers={"Connection": "Close"}), {"ok": 5}),
]


@pytest.mark.parametrize(
    ("act", "expected"), [case[1:] for case in MISBEHAVIOURS], ids=[case[0] for case in MISBEHAVIOURS]
)
def test_each_misbehaviour_is_seen_and_counted(act: Act, expected: Mapping[str, object]) -> None:
    with ScriptedServer(script={2: act}) as server:
        tally = run_load(server.port, connections=1, requests=5, patience=1 if act is be_silent else 30)
    seen = {name: getattr(tally, name) for name in expected}
    assert seen == expected
    assert tally.sent == 5 == len(server.asked)
    if "ok" not in expected:
        assert tally.ok == 4  # and the load went on after it
        quiet = ["wrong", "lost", "shed", "client_errors", "timeouts", "failed", "unasked", "hung_up"]
        assert sum(getattr(tally, name) for name in quiet) == 1
    tally.check_conservation()
    if tally.wrong or tally.lost:
        (incident,) = tally.incidents
        assert incident.request_id == server.asked[2].id
        assert tally.first <= incident.at <= tally.last


@pytest.mark.parametrize("whole", [True, False])
def test_answers_that_cross_are_seen(whole: bool) -> None:
    """Two requests get each other's labels, with the right ids or the others' ids as well."""
    both: list[Asked] = []

    async def cross(asked: Asked, writer: asyncio.StreamWriter) -> None:
        both.append(asked)
        while len(both) < 2:
            await asyncio.sleep(0.001)
        other = both[0] if asked is both[1] else both[1]
        writer.write(other.answer() if whole else asked.answer(labels=other.labels))

    with ScriptedServer(script={4: cross, 5: cross}) as server:
        tally = run_load(server.port, connections=2, requests=20)
    assert (tally.ok, tally.wrong) == (18, 2)
    assert {incident.request_id for incident in tally.incidents} == {asked.id for asked in both}
    tally.check_conservation()


def test_every_row_is_checked_in_order() -> None:
    async def swap(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(asked.answer(labels=asked.labels[::-1]))

    with ScriptedServer(script={1: swap}) as server:
        tally = run_load(server.port, connections=1, requests=3, rows=8, size=1000)
    assert (tally.ok, tally.wrong) == (2, 1)
    assert len(json.loads(server.asked[0].body)["instances"]) == 8


def test_bytes_that_nobody_asked_for_end_the_connection() -> None:
    async def answer_and_add(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(asked.answer())
        await asyncio.sleep(0.05)
        writer.write(b"HTTP/1.1 408 Too late\r\nContent-Length: 0\r\n\r\n")

    with ScriptedServer(default=answer_and_add) as server:
        tally = run_load(server.port, rate=2, seconds=1, spacing="even")
    assert (tally.ok, tally.unasked) == (2, 1)  # the second time, the load was over
    assert server.connections == 2


def test_nobody_listens() -> None:
    with ScriptedServer() as server:
        port = server.port
    closed = run_load(port, connections=2, requests=10, patience=0.2)
    assert (closed.sent, closed.lost) == (0, 0)
    assert set(closed.unsent) == {"refused"}
    opened = run_load(port, rate=100, seconds=0.2, spacing="even")
    assert (opened.sent, opened.unsent) == (0, {"refused": 20})
    opened.check_conservation()


def test_a_closed_loop_goes_on_when_the_server_is_back() -> None:
    with ScriptedServer() as first:
        port = first.port
    found = []
    thread = threading.Thread(target=lambda: found.append(run_load(port, connections=2, requests=10)))
    thread.start()
    with ScriptedServer(port=port):
        thread.join(30)
    (tally,) = found
    assert (tally.sent, tally.ok, tally.lost) == (10, 10, 0)


@pytest.mark.parametrize("hang_up_after", [0, 0.02])
def test_it_hangs_up_when_the_request_is_sent(hang_up_after: float) -> None:
    ends, size = [], 8_000_000  # more than the kernel takes at once

    async def wait_for_the_end(asked: Asked, writer: asyncio.StreamWriter) -> None:
        ends.append((len(asked.body), await asked.reader.read()))

    with ScriptedServer(default=wait_for_the_end) as server:
        tally = run_load(server.port, connections=2, requests=4, size=size, hang_up_after=hang_up_after)
        deadline = time.monotonic() + 30
        while len(ends) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert (tally.sent, tally.hung_up, tally.lost) == (4, 4, 0)
    tally.check_conservation()
    assert ends == [(size + len('{"instances":[""]}'), b"")] * 4  # each was sent whole, and then nothing more
    assert tally.p(0.01, HUNG_UP) > hang_up_after - 0.002  # timers count in milliseconds


def test_an_answer_that_is_there_first_counts() -> None:
    with ScriptedServer() as server:
        tally = run_load(server.port, connections=1, requests=3, hang_up_after=30)
    assert (tally.ok, tally.hung_up) == (3, 0)


def test_a_test_may_make_the_requests() -> None:
    others = EchoRequests(model="other", request_timeout=0.5, headers={"X-More": "50%"})

    def make(number: int) -> Request:
        return (
            ask_for(["bad", "gr\u00fcn \U0001f33f\n"], headers={"X-Number": str(number)}) if number else others(number)
        )

    with ScriptedServer() as server:
        tally = run_load(server.port, connections=1, requests=2, make=make)
    assert tally.ok == 2
    first, second = server.asked
    assert first.path == "/v1/models/other:predict"
    assert (first.headers["x-request-timeout"], first.headers["x-more"]) == ("0.5", "50%")
    assert second.headers["x-number"] == "1"
    assert second.headers["content-type"] == "application/json"


def test_a_server_that_carries_no_id_back() -> None:
    with ScriptedServer(
        default=saying(id="", headers={"X-REQUEST-id": None}), script={1: saying(labels=["0"])}
    ) as server:
        tally = run_load(server.port, connections=1, requests=4, check_id=False, path="/predict")
    assert (tally.ok, tally.wrong) == (3, 1)
    assert {asked.path for asked in server.asked} == {"/predict"}


def test_a_load_must_end() -> None:
    with pytest.raises(ValueError, match="seconds or requests"):
        run_load(1)
    with pytest.raises(ValueError, match="ends after seconds"):
        run_load(1, rate=5, requests=5)


def test_a_child_process_gives_the_same_tally() -> None:
    script = {3: saying(status=503), 5: saying(labels=["0"]), 7: reset_it}
    with ScriptedServer(script=script) as server:
        options = {"connections": 1, "requests": 12, "rows": 2, "headers": {"X-More": "a: b"}, "check_id": True}
        with LoadProcess(server.port, **options) as load:
            tally = load.tally()
    assert (tally.sent, tally.ok, tally.shed, tally.wrong, tally.losses) == (12, 9, 1, 1, {"reset": 1})
    assert [incident.what for incident in tally.incidents] == ["wrong", "reset"]
    assert {asked.headers["x-more"] for asked in server.asked} == {"a: b"}
    assert tally.first > time.monotonic() - 30  # one clock for all processes
    tally.check_conservation()


def test_a_child_process_can_be_stopped() -> None:
    with ScriptedServer() as server, LoadProcess(server.port, rate=200, seconds=300, check_id=False) as load:
        while len(server.asked) < 20:
            time.sleep(0.005)
        load.stop()
        tally = load.tally(30)
    assert tally.ok == tally.sent == len(server.asked) >= 20


def test_a_child_process_that_does_not_start_says_so() -> None:
    with pytest.raises(RuntimeError, match="did not start"):
        LoadProcess(1, no_such_option=1)


def test_the_command_prints_what_one_wants_to_see() -> None:
    with ScriptedServer(script={1: saying(status=404)}) as server:
        command = [
            sys.executable,
            "-m",
            "tests.faults.load",
            f"--port={server.port}",
            "--requests=5",
            "--connections=1",
        ]
        summary = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert summary["by_status"] == {"200": 4, "404": 1}
    assert summary["p99_ms"] > 0


def test_a_request_costs_the_generator_little() -> None:
    """15,000 requests/s from one core: the CPU time of this thread, at its best of a few tries."""
    requests, best = 1500, float("inf")
    with ScriptedServer() as server:
        for _ in range(5):
            started = time.thread_time()
            assert run_load(server.port, connections=32, requests=requests).ok == requests
            best = min(best, time.thread_time() - started)
            if best < requests / 15_000:
                break
    assert best < requests / 15_000
