"""When a client asks again, whom, and after how long: the same for both clients."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from models.errors import (
    BodyTooLarge,
    DeadlineExceeded,
    GraftworkError,
    NotReady,
    Overloaded,
    RateLimited,
    Unavailable,
)
from service.api.patience import HEADER
from service.client import AsyncClient, Client
from service.client.caller import TIMEOUT_HEADER
from service.client.replicas import PAUSE_SECONDS
from tests.service.client.service import URL, Service, refusal

Ask = Callable[..., Any]
A, B = "http://a:1", "http://b:1"
UNREACHABLE, BROKEN, LATE = httpx2.ConnectError("refused"), httpx2.RemoteProtocolError("gone"), httpx2.ReadTimeout("")


@pytest.fixture(params=["ask_once", "ask_async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    def ask(service: Service, method: str | None = None, *arguments: Any, url: Any = URL, **options: Any) -> Any:
        asked = ("predict", "m", ["a"]) if method is None else (method, *arguments)
        return getattr(service, request.param)(url, *asked, **options)

    return ask


@pytest.mark.parametrize("answer", [*map(refusal, (408, 429, 502, 503)), UNREACHABLE, BROKEN])
def test_what_does_no_harm_is_asked_again(ask: Ask, answer: httpx2.Response | Exception) -> None:
    service = Service(answer, answer)
    assert ask(service).predictions[0].label == "a"
    assert len(service.seen) == 3
    first, second = service.pauses
    assert 0.125 <= first <= 0.25 <= second <= 0.5


@pytest.mark.parametrize("answer", [refusal(504, "deadline_exceeded"), LATE, httpx2.PoolTimeout("")])
def test_who_was_too_late_is_not_asked_again(ask: Ask, answer: httpx2.Response | Exception) -> None:
    for url, script, hosts in (
        (A, [answer], ["a"]),
        ([A, B], [answer, answer], ["a", "b"]),
        ([A, B], [answer, refusal(503), answer], ["a", "b", "b"]),
    ):
        service = Service(*script)
        with pytest.raises(DeadlineExceeded):
            ask(service, url=url)
        assert service.hosts == hosts
    service = Service(answer, UNREACHABLE)
    assert ask(service, url=[A, B]).predictions[0].label == "a"
    assert service.hosts == ["a", "b", "b"]


def test_after_the_last_retry_the_error_is_raised(ask: Ask) -> None:
    service = Service(*[refusal(503, Retry_After="7")] * 4)
    with pytest.raises(Overloaded, match="because") as raised:
        ask(service, retries=3)
    assert len(service.seen) == 4
    assert raised.value.retry_after_seconds == 7
    assert service.pauses == [7.0, 7.0, 7.0]


@pytest.mark.parametrize(
    ("status", "code"), [(413, "body_too_large"), (422, "empty_text"), (500, "internal"), (404, "x")]
)
def test_what_asking_again_cannot_help_is_asked_once(ask: Ask, status: int, code: str) -> None:
    service = Service(refusal(status, code))
    with pytest.raises(GraftworkError):
        ask(service)
    assert len(service.seen) == 1


@pytest.mark.parametrize(
    ("answer", "kind"), [(refusal(503), Unavailable), (refusal(429, "rate_limited"), RateLimited), (BROKEN, NotReady)]
)
def test_a_change_is_never_made_twice(ask: Ask, answer: httpx2.Response | Exception, kind: type[Exception]) -> None:
    service = Service(answer)
    with pytest.raises(kind):
        ask(service, "post", "/v1/models/m/labels/a:rollback", {})
    assert len(service.seen) == 1


def test_a_change_that_nobody_has_taken_is_asked_again(ask: Ask) -> None:
    service = Service(UNREACHABLE, httpx2.Response(200, json={"alias": "a"}))
    assert ask(service, "post", "/v1/models/m/labels/a:rollback", {}) == {"alias": "a"}


def test_another_replica_is_asked_at_once(ask: Ask) -> None:
    for answer in (refusal(502), refusal(503, Retry_After="20"), refusal(504), UNREACHABLE, BROKEN, LATE):
        service = Service(answer)
        ask(service, url=[A, B])
        assert service.hosts == ["a", "b"]
        assert service.pauses == []


def test_a_replica_that_failed_is_left_alone_for_a_while_and_then_asked_again() -> None:
    service = Service(UNREACHABLE)
    with service.client([A, B]) as client:
        client.predict("m", ["a"])
        client.predict("m", ["a"])
        service.now += PAUSE_SECONDS
        client.predict("m", ["a"])
    assert service.hosts == ["a", "b", "b", "a"]


def test_where_all_replicas_fail_the_shortest_wait_counts(ask: Ask) -> None:
    service = Service(refusal(503, Retry_After="20"), refusal(503, Retry_After="10"))
    ask(service, url=[A, B])
    assert service.hosts == ["a", "b", "b"]  # who is back sooner
    assert service.pauses == [10.0]


def test_a_key_that_asks_too_often_waits_and_goes_to_no_other_replica(ask: Ask) -> None:
    service = Service(refusal(429, "rate_limited", Retry_After="2"))
    ask(service, url=[A, B])
    assert service.hosts == ["a", "a"]
    assert service.pauses == [2.0]


def test_the_server_is_told_how_long_its_answer_is_waited_for(ask: Ask) -> None:
    assert TIMEOUT_HEADER.lower() == HEADER
    service = Service(refusal(503), seconds=4.0)
    ask(service, timeout=8.0, deadline=10.0)
    first, second = (float(request.headers[HEADER]) for request in service.seen)
    assert (first, second) == (8.0, pytest.approx(6.0 - service.pauses[0], abs=0.001))


def test_a_server_is_never_told_that_no_time_is_left(ask: Ask) -> None:
    service = Service()
    ask(service, deadline=0.0003)
    assert service.seen[0].headers[HEADER] == "0.001"


def test_nothing_is_waited_for_beyond_the_deadline(ask: Ask) -> None:
    service = Service(refusal(503, Retry_After="9"), seconds=2.0)
    with pytest.raises(Overloaded):
        ask(service, deadline=10.0)
    assert service.pauses == []


def test_a_deadline_counts_for_all_requests_of_a_method(ask: Ask) -> None:
    service = Service(seconds=3.0)
    with pytest.raises(DeadlineExceeded):
        ask(service, "predict", "m", [str(number) for number in range(100)], deadline=7.0)
    assert len(service.seen) == 3


def test_a_time_that_is_over_is_said(ask: Ask) -> None:
    with pytest.raises(DeadlineExceeded, match=r"did not answer within 1\.5 s"):
        ask(Service(LATE), timeout=1.5, retries=0)


def test_readiness_is_asked_once_and_never_an_error(ask: Ask) -> None:
    ready, full = httpx2.Response(200), refusal(503, "not_ready")
    for script, url, wanted in (
        ((ready,), URL, True),
        ((full,), URL, False),
        ((UNREACHABLE,), URL, False),
        ((full, ready), [A, B], True),
    ):
        service = Service(*script)
        assert ask(service, "is_ready", url=url) is wanted
        assert len(service.seen) == len(script)
        assert service.pauses == []


def test_an_answer_that_drips_is_given_up() -> None:
    service = Service()

    def drip() -> Any:
        for _ in range(100):
            service.now += 1.0
            yield b" "

    service._script.append(httpx2.Response(200, content=drip()))
    with service.client(timeout=5.0, retries=0) as client, pytest.raises(DeadlineExceeded):
        client.get("/v1/models")


def test_one_that_says_413_in_the_form_of_openai_is_what_its_code_says(ask: Ask) -> None:
    document = {
        "error": {"message": "too large", "type": "invalid_request_error", "param": None, "code": "body_too_large"}
    }
    with pytest.raises(BodyTooLarge, match="too large"):
        ask(Service(httpx2.Response(413, json=document)))


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> dict[str, list[tuple[str, Any]]]:
        return {
            name: [(each.name, each.default) for each in inspect.signature(method).parameters.values()]
            for name, method in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    plain, awaited = methods(Client), methods(AsyncClient)
    assert plain.pop("close") == awaited.pop("aclose")
    assert plain == awaited
    assert len(plain) == 9
