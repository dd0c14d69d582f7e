from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from tests.faults import __main__ as faults
from tests.faults.figure import Figure

HOLDS = Figure(goal="G0", name="lost", value=0, unit="requests", bar=0)
MISSES = Figure(goal="G0", name="p99", value=3.5, unit="ms", relation="<=", bar=2)
REPORTED = Figure(goal="G0", name="peak", value=1e4, unit="requests/s")


def play(figures: list[Figure]) -> list[Figure]:
    if not figures:
        raise AssertionError("no end")
    return figures


def run(monkeypatch: pytest.MonkeyPatch, directory: Path, *arguments: str, **scenarios: list[Figure]) -> int:
    monkeypatch.chdir(directory)
    monkeypatch.setattr("sys.argv", ["faults", *arguments])
    monkeypatch.setattr(faults, "scenarios", lambda: {name: partial(play, f) for name, f in scenarios.items()})
    return faults.main()


def test_every_scenario_is_there() -> None:
    assert len(faults.scenarios()) > 30


def test_a_figure_that_misses_its_bar_is_said_and_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    assert run(monkeypatch, tmp_path, good=[HOLDS, REPORTED]) == 0
    assert "MISSED" not in capsys.readouterr().out
    assert run(monkeypatch, tmp_path, good=[HOLDS], bad=[HOLDS, MISSES]) == 1
    assert capsys.readouterr().out.count("MISSED") == 1
    written = json.loads((tmp_path / "build" / "faults.json").read_text())
    assert written["bad"][1] == {"goal": "G0", "name": "p99", "value": 3.5, "unit": "ms", "bar": "<= 2"}


def test_a_scenario_without_an_end_does_not_hide_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, tmp_path, endless=[], good=[HOLDS]) == 1
    assert set(json.loads((tmp_path / "build" / "faults.json").read_text())) == {"endless", "good"}
    assert "AssertionError: no end" in capsys.readouterr().err


def test_only_some(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert run(monkeypatch, tmp_path, "--only", "goo", "fine", good=[HOLDS], bad=[MISSES], fine=[HOLDS]) == 0
    assert run(monkeypatch, tmp_path, "--only", "bad", good=[HOLDS], bad=[MISSES], fine=[HOLDS]) == 1
    assert set(json.loads((tmp_path / "build" / "faults.json").read_text())) == {"good", "bad", "fine"}
    assert run(monkeypatch, tmp_path, "--only", "none such", good=[HOLDS]) == 2
