"""What a running server says of itself at ``/metrics``, and whether it adds up."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

Labels = tuple[tuple[str, str], ...]  # pairs of name and value, by name
Metrics = dict[str, dict[Labels, float]]

OUTCOMES = ("ok", "client_error", "shed", "timeout", "failed", "disconnected")


def metrics(port: int, *, timeout: float = 10.0, headers: Mapping[str, str] | None = None) -> Metrics:
    """Every sample by its name and labels.

    Args:
        port: of a server on this machine.
        timeout: in seconds, of the connection.
        headers: of the request: a key, where the server asks for one.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", "/metrics", headers=headers or {})
        response = connection.getresponse()
        exposition = response.read().decode()
        assert response.status == 200, f"{response.status}: {exposition[:300]}"
    finally:
        connection.close()
    found: Metrics = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def total(found: Metrics, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels; 0 without any."""
    return sum(value for each, value in found.get(name, {}).items() if labels.items() <= dict(each).items())


def outcomes(found: Metrics) -> dict[str, float]:
    """The number of prediction requests ``received``, and by outcome."""
    by_outcome = {outcome: total(found, "graftwork_requests_total", outcome=outcome) for outcome in OUTCOMES}
    return {"received": total(found, "graftwork_received_requests_total"), **by_outcome}


def settled_outcomes(port: int, *, seconds: float = 10.0, headers: Mapping[str, str] | None = None) -> dict[str, float]:
    """The outcomes once nothing is in flight; every request that was received has exactly one.

    Args:
        port: of a server on this machine.
        seconds: how long the server may take until all has ended.
        headers: as in `metrics`.

    Raises:
        AssertionError: requests are still in flight, or received is not the sum of the outcomes.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = metrics(port, headers=headers)
        in_flight = sum(found["graftwork_in_flight_requests"].values())
        counted = outcomes(found)
        unknown = total(found, "graftwork_requests_total") - sum(counted[outcome] for outcome in OUTCOMES)
        missing = counted["received"] - sum(counted[outcome] for outcome in OUTCOMES)
        if in_flight == missing == unknown == 0:
            return counted
        assert time.monotonic() < deadline, (
            f"{in_flight:g} in flight, {missing:g} received without an outcome, {unknown:g} with an unknown one: {counted}"
        )
        time.sleep(0.02)
