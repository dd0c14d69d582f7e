from __future__ import annotations

from tests.faults.disconnects import hang_ups
from tests.faults.figure import check


def test_g15_clients_that_hang_up() -> None:
    check(hang_ups())


def test_g15_clients_that_hang_up_on_large_requests() -> None:
    check(hang_ups(clients=50, at_once=50, computed=8, size=500_000))
