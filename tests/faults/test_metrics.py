from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.metrics import OUTCOMES, metrics, outcomes, settled_outcomes, total
from tests.faults.scripted_server import ScriptedServer


def page(*, received: int = 8, in_flight: int = 0, **counts: int) -> str:
    counted = {"ok": 5, "shed": 2, "disconnected": 1, **counts}
    lines = [
        "# TYPE graftwork_in_flight_requests gauge",
        f"graftwork_in_flight_requests {in_flight}",
        "# TYPE graftwork_received_requests_total counter",
        f"graftwork_received_requests_total {received}",
        "# TYPE graftwork_requests_total counter",
        *(
            f'graftwork_requests_total{{model="echo",outcome="{outcome}",version="1"}} {count}'
            for outcome, count in counted.items()
        ),
        'graftwork_requests_total{model="_unknown",outcome="ok",version="_unknown"} 0',
    ]
    return "\n".join(lines) + "\n"


def settled(pages: Callable[[], str], seconds: float = 0.0) -> dict[str, float]:
    with ScriptedServer(page=pages) as server:
        return settled_outcomes(server.port, seconds=seconds)


def test_samples_are_found_by_name_and_labels() -> None:
    with ScriptedServer(page=page) as server:
        found = metrics(server.port)
    assert found["graftwork_in_flight_requests"] == {(): 0}
    assert found["graftwork_requests_total"][("model", "echo"), ("outcome", "shed"), ("version", "1")] == 2
    assert total(found, "graftwork_requests_total", model="echo") == 8
    assert total(found, "graftwork_requests_total", model="echo", outcome="ok") == 5
    assert total(found, "no_such_metric") == 0
    assert outcomes(found) == {**dict.fromkeys(OUTCOMES, 0), "received": 8, "ok": 5, "shed": 2, "disconnected": 1}


def test_every_request_that_was_received_has_an_outcome() -> None:
    assert settled(page)["received"] == 8


@pytest.mark.parametrize(
    "wrong",
    [
        {"received": 9},
        {"received": 7},
        {"timeout": 1},
        {"ok": 4, "something_else": 1},
        {"something_else": 1},
        {"in_flight": 1},
        {"in_flight": 1, "received": 9},
    ],
)
def test_what_does_not_add_up_is_seen(wrong: dict[str, int]) -> None:
    with pytest.raises(AssertionError, match="in flight"):
        settled(lambda: page(**wrong))


def test_what_is_in_flight_is_waited_for() -> None:
    pages = iter([page(in_flight=2, received=10), page(received=10, ok=6), page(received=10, ok=7)])
    assert settled(lambda: next(pages), seconds=10)["ok"] == 7


def test_the_wait_is_bounded() -> None:
    with pytest.raises(AssertionError, match="1 in flight"):
        settled(lambda: page(in_flight=1), seconds=0.1)
