from __future__ import annotations

import pytest

from service.restart import Restart


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("service.restart.time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_worker_that_keeps_dying_young_waits_longer_each_time(clock: Clock) -> None:
    restart = Restart()
    pauses = []
    for _ in range(10):
        restart.died()
        assert restart.pending
        pauses.append(restart.seconds_left())
        clock.now += pauses[-1]
        assert restart.seconds_left() == 0
        restart.started()
        assert not restart.pending
        clock.now += 1
    assert pauses[:3] == pytest.approx([0.1, 0.2, 0.4])
    assert pauses == sorted(pauses)
    assert pauses[-1] == Restart.MOST_SECONDS


def test_a_worker_that_had_lived_long_starts_again_soon(clock: Clock) -> None:
    restart = Restart()
    for _ in range(5):
        restart.died()
        restart.started()
    clock.now += Restart.OLD_SECONDS + 1
    restart.died()
    assert restart.seconds_left() == pytest.approx(Restart.FIRST_SECONDS)


def test_a_worker_that_had_answered_starts_again_soon_however_young_it_died(clock: Clock) -> None:
    restart = Restart()
    for _ in range(5):
        restart.died()
        restart.started()
    restart.died(has_answered=True)
    assert restart.seconds_left() == pytest.approx(Restart.FIRST_SECONDS)
    assert restart.deaths == 1


def test_the_clock_runs_on_while_a_restart_is_due(clock: Clock) -> None:
    restart = Restart()
    restart.died()
    clock.now += 5
    assert restart.seconds_left() == 0
