from __future__ import annotations

from tests.faults.disconnects import hang_ups
from tests.faults.figure import check


def test_g15_clients_that_hang_up() -> None:
    check(hang_ups())
