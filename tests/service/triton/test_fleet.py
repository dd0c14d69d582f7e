"""Which server of a fleet is asked, what is tried again, and what is not."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException

from models.errors import DeadlineExceeded, EngineUnavailable, VersionCorrupt
from service.triton.fleet import TritonFleet
from service.triton.remote_model import RemoteModel
from tests.processes import free_port, wait_for
from tests.service.triton.fake_triton import (
    BUG,
    CONNECTION_BROKE,
    CONTRACT,
    DIGEST,
    GIVEN_UP,
    LATE,
    QUEUE_FULL,
    REFUSED,
    SAMPLE,
    UNKNOWN_MODEL,
    FakeTriton,
    Fault,
    Held,
    fake_fleet,
    tensors,
)


def ask(fleet: TritonFleet, model: RemoteModel, *first: int, seconds: float = 30.0) -> list[list[float]]:
    found: list[list[float]] = fleet.infer(model, tensors(*first), time.monotonic() + seconds).tolist()
    return found


def are_up(fleet: TritonFleet) -> list[bool]:
    return [server.is_up for server in fleet._servers]


def totals(fleet: TritonFleet) -> tuple[int, int, int]:
    """Requests, failures, retries."""
    reports = fleet.take_report()
    return (
        sum(each.requests for each in reports),
        sum(each.failures for each in reports),
        sum(each.retries for each in reports),
    )


def test_a_batch_is_answered_in_its_order_and_reaches_the_server_with_its_deadline() -> None:
    with fake_fleet() as (fleet, (server,)):
        model = fleet.open(CONTRACT, SAMPLE)
        assert ask(fleet, model, 7, 5, 6, seconds=20) == [[7, 3], [5, 3], [6, 3]]
        assert server.batches == [[7, 5, 6]]
        ((call, queue),) = server.left
        assert 15 < call < 21
        assert 15 < queue <= 20


def test_a_batch_that_is_larger_than_the_servers_take_is_asked_for_in_parts() -> None:
    with fake_fleet() as (fleet, (server,)):
        model = fleet.open(CONTRACT, SAMPLE)
        assert [row[0] for row in ask(fleet, model, *range(1, 11))] == list(range(1, 11))
        assert sorted(server.batches) == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]


def test_batches_go_to_the_server_with_the_fewest_in_flight() -> None:
    with fake_fleet(2) as (fleet, servers), ThreadPoolExecutor(8) as threads:
        model = fleet.open(CONTRACT, SAMPLE)
        servers[0].gate.clear()
        slow = [threads.submit(ask, fleet, model, number) for number in range(1, 3)]
        wait_for(lambda: sum(len(each.batches) for each in servers) == 2, 10)
        for number in range(3, 9):
            ask(fleet, model, number)
        assert len(servers[0].batches) == 1
        assert len(servers[1].batches) == 7
        servers[0].gate.set()
        assert sorted(each.result()[0][0] for each in slow) == [1, 2]


@pytest.mark.parametrize("fault", [CONNECTION_BROKE, GIVEN_UP, QUEUE_FULL, UNKNOWN_MODEL])
def test_a_server_that_cannot_have_answered_leaves_the_batch_to_another_one(fault: Fault) -> None:
    with fake_fleet(2) as (fleet, servers):
        model = fleet.open(CONTRACT, SAMPLE)
        fleet.take_report()
        servers[0].faults = [fault]
        assert [ask(fleet, model, number) for number in (8, 9)] == [[[8, 3]], [[9, 3]]]
        assert servers[0].faults == []
        assert sum(len(server.batches) for server in servers) == 3
        _, failures, retries = totals(fleet)
        assert (failures, retries) == (1, 1)


@pytest.mark.parametrize("fault", [REFUSED, BUG])
def test_what_a_server_has_answered_is_not_tried_again(fault: Fault) -> None:
    with fake_fleet(2) as (fleet, servers):
        model = fleet.open(CONTRACT, SAMPLE)
        for server in servers:
            server.faults = [fault]
        with pytest.raises(InferenceServerException, match=fault[1]):
            ask(fleet, model, 9)
        assert sum(len(server.batches) for server in servers) == 1
        assert are_up(fleet) == [True, True]


def test_tries_are_bounded() -> None:
    with fake_fleet(4) as (fleet, servers):
        model = fleet.open(CONTRACT, SAMPLE)
        for server in servers:
            server.faults = [QUEUE_FULL] * 9
        with pytest.raises(EngineUnavailable, match="3 times"):
            ask(fleet, model, 9)
        assert sum(len(server.batches) for server in servers) == 3


def test_a_full_queue_does_not_put_a_server_out() -> None:
    with fake_fleet() as (fleet, (server,)):
        model = fleet.open(CONTRACT, SAMPLE)
        server.faults = [QUEUE_FULL] * 3
        with pytest.raises(EngineUnavailable):
            ask(fleet, model, 9)
        assert are_up(fleet) == [True]


def test_a_server_that_is_late_is_not_asked_again_and_nor_is_another_one() -> None:
    with fake_fleet(2) as (fleet, servers):
        model = fleet.open(CONTRACT, SAMPLE)
        for server in servers:
            server.gate.clear()
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            ask(fleet, model, 9, seconds=0.3)
        assert time.monotonic() - started < 5
        assert sum(len(server.batches) for server in servers) == 1


def test_a_batch_that_waited_too_long_in_the_queue_of_a_server_is_late_and_the_server_is_not_out() -> None:
    with fake_fleet(2) as (fleet, servers):
        model = fleet.open(CONTRACT, SAMPLE)
        for server in servers:
            server.faults = [LATE]
        with pytest.raises(DeadlineExceeded):
            ask(fleet, model, 9)
        assert sum(len(server.batches) for server in servers) == 1
        assert are_up(fleet) == [True, True]


def test_whoever_is_late_already_asks_nobody() -> None:
    with fake_fleet() as (fleet, (server,)):
        model = fleet.open(CONTRACT, SAMPLE)
        with pytest.raises(DeadlineExceeded):
            ask(fleet, model, 9, seconds=-1)
        assert server.batches == []


def test_a_server_that_is_gone_is_an_error_at_once_and_used_again_once_it_is_back() -> None:
    with fake_fleet() as (fleet, (server,)):
        model = fleet.open(CONTRACT, SAMPLE)
        server.stop()
        started = time.monotonic()
        with pytest.raises(EngineUnavailable, match="none of 1 Triton servers is ready"):
            ask(fleet, model, 9)
        assert time.monotonic() - started < 5
        assert not fleet.wait_until_up(0)
        assert [each.up for each in fleet.take_report()] == [False]
        server.start()
        assert fleet.wait_until_up(20)
        assert ask(fleet, model, 9) == [[9, 3]]


def test_a_server_that_says_that_it_is_not_ready_is_not_asked() -> None:
    with fake_fleet(2) as (fleet, servers):
        model = fleet.open(CONTRACT, SAMPLE)
        servers[0].is_ready = False
        wait_for(lambda: are_up(fleet) == [False, True], 20)
        for number in range(1, 5):
            ask(fleet, model, number)
        assert servers[0].batches == []
        servers[0].is_ready = True
        wait_for(lambda: ask(fleet, model, 5) and servers[0].batches, 20)  # once it is up, and its model was looked at


def test_no_batch_is_lost_while_one_of_two_servers_comes_and_goes() -> None:
    with fake_fleet(2) as (fleet, servers), ThreadPoolExecutor(4) as threads:
        model = fleet.open(CONTRACT, SAMPLE)
        stopped = threading.Event()

        def keep_asking(start: int) -> int:
            count = 0
            while not stopped.is_set():
                assert ask(fleet, model, start + count) == [[start + count, 3]]
                count += 1
            return count

        asking = [threads.submit(keep_asking, 1 + 1_000_000 * number) for number in range(4)]
        for _ in range(3):
            before = len(servers[1].batches)
            servers[0].stop()
            wait_for(lambda before=before: len(servers[1].batches) > before + 20, 20)
            servers[0].start()
            before = len(servers[0].batches)
            wait_for(lambda before=before: len(servers[0].batches) > before + 20, 20)
        stopped.set()
        assert all(each.result() > 0 for each in asking)


def test_a_fleet_that_is_not_there_has_no_models_until_it_is() -> None:
    fleet = TritonFleet([f"127.0.0.1:{free_port()}"])
    try:
        assert not fleet.wait_until_up(0)
        with pytest.raises(EngineUnavailable):
            fleet.open(CONTRACT, SAMPLE)
    finally:
        fleet.close()


@pytest.mark.parametrize(
    ("held", "reason"),
    [
        (None, "there is no Triton model backbone-0123456789abcdef-pooled that is ready"),
        (Held(digest=DIGEST[:16] + "f" * 48), "is of another backbone"),
        (Held(max_batch_size=0), "takes no batches"),
        (Held(input_type=model_config_pb2.TYPE_INT32), "has other tensors"),
        (Held(empty=True), r"gives features \(0,\), not \(1, 2\)"),
    ],
)
def test_a_server_without_the_right_backbone_is_refused_with_the_cure(held: Held | None, reason: str) -> None:
    def prepare(servers: list[FakeTriton]) -> None:
        servers[0].held = held

    with fake_fleet(prepare=prepare) as (fleet, (server,)):
        if held is not None and held.max_batch_size == 0:
            server.ModelInfer = None  # it is refused before
        with pytest.raises(VersionCorrupt, match=reason) as caught:
            fleet.open(CONTRACT, SAMPLE)
        assert "graftwork models export NAME --format triton --to DIR" in caught.value.message


@pytest.mark.parametrize("held", [None, Held(digest="f" * 64), Held(shift=0.5)])
def test_a_server_that_has_something_else_than_the_others_gets_nothing(held: Held | None) -> None:
    def prepare(servers: list[FakeTriton]) -> None:
        servers[1].held = held

    with fake_fleet(2, prepare=prepare) as (fleet, servers):
        model = fleet.open(CONTRACT, SAMPLE)
        for number in range(1, 7):
            assert ask(fleet, model, number) == [[number, 3]]
        assert [len(server.batches) for server in servers] == [6, 0]


def test_a_server_that_comes_back_with_another_backbone_gets_nothing() -> None:
    with fake_fleet() as (fleet, (server,)):
        model = fleet.open(CONTRACT, SAMPLE)
        server.stop()
        wait_for(lambda: are_up(fleet) == [False], 20)
        server.held = Held(shift=0.5)
        server.start()
        assert fleet.wait_until_up(20)
        with pytest.raises(EngineUnavailable, match="other features than the rest of the fleet"):
            ask(fleet, model, 9)
        assert server.batches == []


def test_a_server_that_was_given_the_backbone_later_is_used_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.triton.remote_model.REFUSAL_SECONDS", 0.1)

    def prepare(servers: list[FakeTriton]) -> None:
        servers[1].held = None

    with fake_fleet(2, prepare=prepare) as (fleet, servers):
        model = fleet.open(CONTRACT, SAMPLE)
        ask(fleet, model, 1)
        servers[1].held = Held()
        numbers = iter(range(2, 10_000))
        wait_for(lambda: ask(fleet, model, next(numbers)) and servers[1].batches, 20)


def test_reports_count_from_one_to_the_next() -> None:
    with fake_fleet(2) as (fleet, servers):
        model = fleet.open(CONTRACT, SAMPLE)
        fleet.take_report()
        for number in range(1, 5):
            ask(fleet, model, number)
        found = fleet.take_report()
        assert [each.url for each in found] == [server.url for server in servers]
        assert Counter(each.requests for each in found) == {2: 2}
        assert totals(fleet) == (0, 0, 0)


def test_a_health_check_that_fails_in_an_unforeseen_way_is_not_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(**_options: object) -> bool:
        raise RuntimeError("not an answer")

    with fake_fleet() as (fleet, _), monkeypatch.context() as patched:
        patched.setattr(fleet._servers[0]._client, "is_server_ready", broken)
        wait_for(lambda: are_up(fleet) == [False], 30)
        patched.undo()
        wait_for(lambda: are_up(fleet) == [True], 30)
