from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api import quarantine as quarantine_module
from service.api.quarantine import Quarantine

rows = st.lists(st.binary(max_size=3), max_size=6)


def test_a_new_one_knows_nobody() -> None:
    assert Quarantine().culprit("m", 1, [b"a", b""]) is None
    assert not Quarantine().has_suspect("m", 1, [b"a", b""])


@given(rows, rows)
def test_the_first_culprit_of_a_request_is_found(convicted: list[bytes], asked: list[bytes]) -> None:
    quarantine = Quarantine()
    for item in convicted:
        quarantine.convict("m", 1, item)
    known = [index for index, item in enumerate(asked) if item in convicted]
    assert quarantine.culprit("m", 1, asked) == (known[0] if known else None)


def test_a_row_is_a_culprit_for_one_version_only() -> None:
    quarantine = Quarantine()
    quarantine.convict("m", 1, b"row")
    assert quarantine.culprit("m", 1, [b"row"]) == 0
    for name, number in [("m", 2), ("n", 1), ("m:1", 1), ("m", 11)]:
        assert quarantine.culprit(name, number, [b"row"]) is None


def test_few_are_remembered_the_last_ones() -> None:
    quarantine = Quarantine()
    most = quarantine_module.MOST_REMEMBERED
    for number in range(most + 10):
        quarantine.convict("m", 1, b"%d" % number)
    assert len(quarantine._culprits) == most
    assert quarantine.culprit("m", 1, [b"9"]) is None
    assert quarantine.culprit("m", 1, [b"10"]) == 0
    assert quarantine.culprit("m", 1, [b"%d" % (most + 9)]) == 0


@given(rows, rows, rows)
def test_a_suspect_is_one_until_it_is_cleared(suspected: list[bytes], cleared: list[bytes], asked: list[bytes]) -> None:
    quarantine = Quarantine()
    quarantine.suspect("m", 1, suspected)
    quarantine.clear("m", 1, cleared)
    assert quarantine.has_suspect("m", 1, asked) is bool((set(suspected) - set(cleared)) & set(asked))
    assert not quarantine.has_suspect("m", 2, asked)
    assert quarantine.culprit("m", 1, asked) is None


def test_a_suspicion_that_is_old_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("service.api.quarantine.time.monotonic", lambda: now)
    quarantine = Quarantine()
    quarantine.suspect("m", 1, [b"first", b"again"])
    now = quarantine_module.SUSPECT_SECONDS
    assert quarantine.has_suspect("m", 1, [b"first"])
    quarantine.suspect("m", 1, [b"again"])
    now += 1
    assert not quarantine.has_suspect("m", 1, [b"first"])
    assert quarantine.has_suspect("m", 1, [b"again"])
    assert len(quarantine._suspects) == 1
    now += quarantine_module.SUSPECT_SECONDS
    assert not quarantine.has_suspect("m", 1, [b"again"])


def test_few_suspects_are_remembered_the_last_ones() -> None:
    quarantine = Quarantine()
    most = quarantine_module.MOST_REMEMBERED
    quarantine.suspect("m", 1, [b"%d" % number for number in range(most)])
    quarantine.suspect("m", 1, [b"0"])
    quarantine.suspect("m", 1, [b"new"])
    assert len(quarantine._suspects) == most
    assert not quarantine.has_suspect("m", 1, [b"1"])
    assert quarantine.has_suspect("m", 1, [b"0"])
    assert quarantine.has_suspect("m", 1, [b"new"])


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
