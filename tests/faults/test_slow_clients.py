from __future__ import annotations

from tests.faults.figure import check
from tests.faults.slow_clients import idle_connections, slow_readers, slow_senders


def test_g13_slow_heads_and_bodies_beside_a_usual_load() -> None:
    check(slow_senders(seconds=2))


def test_o03_idle_connections_beyond_the_limit() -> None:
    check(idle_connections())


def test_h02_clients_that_never_read() -> None:
    check(slow_readers())
