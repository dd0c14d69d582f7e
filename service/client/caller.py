"""Brings a call to its answer: which replica is asked, how often, and when."""

from __future__ import annotations

import random
from collections.abc import Callable
from urllib.parse import urljoin, urlsplit

from models.errors import DeadlineExceeded
from service.client.call import Call, Failure, Outcome, Pause, Reply, Send, Steps
from service.client.problem import error_of
from service.client.replicas import Replicas
from service.client.retry_after import retry_after_seconds

TIMEOUT_HEADER = "X-Request-Timeout"
ELSEWHERE = (502, 503, 504)  # another replica may do better
LATE = 504
LATER = (408, 429)  # this one will do, in a while
REDIRECTS = (301, 302, 303, 307, 308)
MOST_REDIRECTS = 5
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 30.0


class Caller:
    """Knows no sockets: it says what to send and how long to wait, and is told what came of it.

    Args:
        replicas: of the service.
        api_key: goes to them, and to nobody that they redirect to.
        timeout: seconds until a request is given up.
        retries: how often all replicas are asked again, where that does no harm.
        clock: in seconds.
    """

    def __init__(
        self, replicas: Replicas, *, api_key: str | None, timeout: float, retries: int, clock: Callable[[], float]
    ) -> None:
        self._replicas = replicas
        self._api_key = api_key
        self._timeout = timeout
        self._retries = retries
        self._clock = clock

    def ask(self, call: Call, until: float) -> Steps[Reply]:
        """Asks until there is an answer. A replica that was too late is not asked again: it would compute all of it once more.

        Args:
            until: the deadline, by the clock.

        Raises:
            GraftworkError: what the last server said, or that none could be reached.
        """
        late: set[str] = set()
        for attempt in range(self._retries + 1):
            asked_to_wait = []
            for url in self._replicas.in_order():
                if url in late:
                    continue
                seconds = min(self._timeout, until - self._clock())
                if seconds <= 0:
                    raise DeadlineExceeded(f"{url} was not asked any more: the deadline has passed")
                outcome = yield from self._send(call, url, seconds)
                if isinstance(outcome, Reply) and 200 <= outcome.status < 300:
                    self._replicas.worked(url)
                    return outcome
                error = error_of(outcome, url, seconds, with_key=self._api_key is not None)
                if not _may_be_repeated(call, outcome):
                    raise error
                wait = 0.0 if isinstance(outcome, Failure) else retry_after_seconds(outcome.headers)
                asked_to_wait.append(wait)
                if isinstance(outcome, Reply) and outcome.status in LATER:
                    break
                self._replicas.failed(url, wait)
                if _is_late(outcome):
                    late.add(url)
            pause = max(min(asked_to_wait), _backoff(attempt))
            if attempt == self._retries or late.issuperset(self._replicas.urls) or self._clock() + pause >= until:
                raise error
            yield Pause(seconds=pause)
        raise AssertionError("the last attempt returns or raises")

    def _send(self, call: Call, url: str, seconds: float) -> Steps[Outcome]:
        headers = {TIMEOUT_HEADER: f"{max(seconds, 0.001):.3f}"}
        if call.content_type is not None:
            headers["Content-Type"] = call.content_type
        key = {} if self._api_key is None else {"Authorization": f"Bearer {self._api_key}"}
        target = url + call.path
        outcome = yield Send(method=call.method, url=target, headers=headers | key, body=call.body, seconds=seconds)
        for _ in range(MOST_REDIRECTS):
            place = _place(call, outcome, target)
            if place is None:
                break
            target = place
            outcome = yield Send(method="GET", url=target, headers=headers, body=None, seconds=seconds)
        assert outcome is not None
        return outcome


def _place(call: Call, outcome: Outcome | None, url: str) -> str | None:
    """Where a redirect leads to; only what is read follows one."""
    if call.method != "GET" or not isinstance(outcome, Reply) or outcome.status not in REDIRECTS:
        return None
    place = urljoin(url, outcome.headers.get("location", ""))
    return place if urlsplit(place).scheme in ("http", "https") else None


def _may_be_repeated(call: Call, outcome: Outcome) -> bool:
    if isinstance(outcome, Failure):
        return call.repeatable or outcome.kind == "unreachable"  # then nobody has taken it
    return call.repeatable and outcome.status in (*ELSEWHERE, *LATER)


def _is_late(outcome: Outcome) -> bool:
    return outcome.kind == "timed out" if isinstance(outcome, Failure) else outcome.status == LATE


def _backoff(attempt: int) -> float:
    """Twice as long each time, and not for all clients alike."""
    return min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * float(2**attempt)) * random.uniform(0.5, 1.0)
