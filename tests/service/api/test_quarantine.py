from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api import quarantine as quarantine_module
from service.api.quarantine import Quarantine, Verdict, row_key

rows = st.lists(st.binary(max_size=3), max_size=6)


def keys(items: list[bytes]) -> list[bytes]:
    return [row_key("m", 1, item) for item in items]


def test_a_new_one_knows_nobody() -> None:
    assert Quarantine().judge("m", 1, [b"a", b""]) == Verdict()


@given(rows, rows, rows, rows)
def test_the_first_culprit_of_a_request_is_found_and_else_whether_one_is_suspected(
    suspected: list[bytes], cleared: list[bytes], convicted: list[bytes], asked: list[bytes]
) -> None:
    quarantine = Quarantine()
    quarantine.suspect(keys(suspected))
    quarantine.clear(keys(cleared))
    for item in convicted:
        quarantine.convict(row_key("m", 1, item))
    quarantine.suspect(keys(convicted))  # makes nobody less guilty
    known = [index for index, item in enumerate(asked) if item in convicted]
    if known:
        assert quarantine.judge("m", 1, asked).culprit == known[0]
    else:
        is_suspected = bool((set(suspected) - set(cleared)) & set(asked))
        assert quarantine.judge("m", 1, asked) == Verdict(suspected=is_suspected)


def test_a_row_is_a_culprit_for_one_version_only() -> None:
    quarantine = Quarantine()
    quarantine.convict(row_key("m", 1, b"row"))
    assert quarantine.judge("m", 1, [b"row"]) == Verdict(culprit=0)
    for name, number in [("m", 2), ("n", 1), ("m:1", 1), ("m", 11)]:
        assert quarantine.judge(name, number, [b"row"]) == Verdict()


def test_few_are_remembered_the_last_ones() -> None:
    quarantine = Quarantine()
    most = quarantine_module.MOST_REMEMBERED
    for number in range(most):
        quarantine.convict(row_key("m", 1, b"%d" % number))
    quarantine.convict(row_key("m", 1, b"0"))
    quarantine.convict(row_key("m", 1, b"new"))
    assert len(quarantine._known) == most
    assert quarantine.judge("m", 1, [b"1"]) == Verdict()
    assert quarantine.judge("m", 1, [b"0"]) == quarantine.judge("m", 1, [b"new"]) == Verdict(culprit=0)


@pytest.mark.parametrize("guilty", [False, True])
def test_what_is_old_is_forgotten(monkeypatch: pytest.MonkeyPatch, guilty: bool) -> None:
    now = 0.0
    monkeypatch.setattr("service.api.quarantine.time.monotonic", lambda: now)
    quarantine = Quarantine()
    seconds = quarantine_module.GUILTY_SECONDS if guilty else quarantine_module.SUSPECT_SECONDS
    wanted = Verdict(culprit=0) if guilty else Verdict(suspected=True)

    def remember(item: bytes) -> None:
        if guilty:
            quarantine.convict(row_key("m", 1, item))
        else:
            quarantine.suspect(keys([item]))

    remember(b"first")
    remember(b"again")
    now = seconds
    assert quarantine.judge("m", 1, [b"first"]) == wanted
    remember(b"again")
    now += 1
    assert quarantine.judge("m", 1, [b"first"]) == Verdict()
    assert quarantine.judge("m", 1, [b"again"]) == wanted
    now += seconds
    assert quarantine.judge("m", 1, [b"again"]) == Verdict()
    remember(b"new")
    assert len(quarantine._known) == 1


def test_one_is_tried_at_a_time() -> None:
    async def story() -> None:
        quarantine, tried, open_trials = Quarantine(), 0, 0

        async def try_one() -> None:
            nonlocal tried, open_trials
            async with quarantine.trial:
                open_trials += 1
                assert open_trials == 1
                await asyncio.sleep(0)
                open_trials -= 1
                tried += 1

        await asyncio.gather(*(try_one() for _ in range(20)))
        assert tried == 20

    asyncio.run(story())
