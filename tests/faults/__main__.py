"""All fault scenarios in their long form, as one table: ``make faults``.

    python -m tests.faults                    # minutes on two cores
    python -m tests.faults --only overload    # those with this word in their name
    python -m tests.faults --list

It ends with exit code 1 where a figure misses its bar. All figures are written to build/faults.json too, beside those of
scenarios that were not chosen.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import get_args

from rich import box
from rich.console import Console
from rich.table import Table

from tests.faults.figure import Figure

OUTPUT = Path("build/faults.json")

Scenario = Callable[[], Sequence[Figure]]


def scenarios() -> Mapping[str, Scenario]:
    """What is run, in this order, by name."""
    from tests.faults import (
        admission,
        crash_loop,
        deadlines,
        disconnects,
        fairness,
        fuzz,
        hangs,
        hot_swaps,
        isolation,
        log_sinks,
        memory,
        overload,
        poison,
        scarcity,
        shutdown,
        slow_clients,
        sudden_end,
        worker_kills,
    )
    from tests.faults.pids_group import PidsGroup

    as_first_process: Mapping[str, Scenario] = {  # these want rights that not every user has
        "SIGTERM under load, as PID 1": partial(shutdown.sigterm_under_load, as_first_process=True),
        "SIGTERM at the start, as PID 1": partial(shutdown.sigterm_early, as_first_process=True),
    }
    few_processes: Mapping[str, Scenario] = {
        "few processes": scarcity.few_processes,
        "no more processes": scarcity.no_more_processes,
    }
    return {
        "one of two workers is killed": worker_kills.kill_one_of_two,
        "the only worker is killed": worker_kills.kill_the_only_worker,
        "poison, two workers": partial(poison.poison, workers=2),
        "poison, one worker": partial(poison.poison, workers=1),
        "poison, three workers": partial(poison.poison, workers=3),
        "too little memory": poison.too_little_memory,
        "a worker is stopped": hangs.stopped_worker,
        "a row is computed for ever": hangs.endless_row,
        "a worker cannot start": crash_loop.worker_that_cannot_start,
        "SIGTERM under load": shutdown.sigterm_under_load,
        "SIGTERM at the start": shutdown.sigterm_early,
        **{
            f"SIGTERM, and {trouble}": partial(shutdown.troubled_end, trouble) for trouble in get_args(shutdown.Trouble)
        },
        **(as_first_process if shutdown.may_be_first_process() else {}),
        "the API process is killed": partial(sudden_end.killed, "API process"),
        "the parent is killed": partial(sudden_end.killed, "parent"),
        "logs that cannot be written": log_sinks.unwritable_logs,
        "hot swaps": hot_swaps.hot_swaps,
        "load and unload": hot_swaps.churn,
        "overload": partial(overload.excess, seconds=15.0, after_seconds=5.0, strict=True),
        "overload of the API process": overload.excess_of_the_api_process,
        "a key floods": partial(fairness.key_floods, seconds=20.0, strict=True),
        "Retry-After": admission.retry_after,
        "large and tiny requests": partial(admission.large_and_tiny, seconds=20.0, strict=True),
        "bytes in flight": admission.bytes_in_flight,
        "short deadlines": deadlines.short_deadlines,
        "deadline of a body": deadlines.deadline_of_a_body,
        "hang-ups": partial(disconnects.hang_ups, clients=10_000),
        "batch isolation": isolation.batch_patterns,
        "mixed lists": partial(isolation.mixed_lists, rounds=100),
        "few open files": scarcity.few_open_files,
        "little memory": scarcity.little_memory,
        **(few_processes if PidsGroup.is_available() else {}),
        "slow heads and bodies": partial(slow_clients.slow_senders, clients=500, seconds=60.0, limits={}, strict=True),
        "idle connections": partial(slow_clients.idle_connections, idle=10_000, most=1024),
        "clients that never read": slow_clients.slow_readers,
        "memory, mixed requests": partial(memory.mixed_requests, requests=1_000_000),
        "memory, chunks": memory.chunks,
        "memory, malformed requests": memory.malformed_requests,
        "bombs": memory.bombs,
        "image bomb": memory.image_bomb,
        "any request": partial(fuzz.any_request, cases=10_000),
    }


def main() -> int:
    """Runs the scenarios; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=[""], nargs="+", help="scenarios with one of these words in their name")
    parser.add_argument("--list", action="store_true", help="their names")
    arguments = parser.parse_args()
    chosen = {name: scenario for name, scenario in scenarios().items() if any(word in name for word in arguments.only)}
    if arguments.list or not chosen:
        print("\n".join(scenarios()))
        return 0 if arguments.list else 2

    console = Console()
    table = Table("scenario", "goal", "figure", "value", "unit", "must be", "", box=box.SIMPLE_HEAD)
    figures: dict[str, list[Figure]] = {}
    for name, scenario in chosen.items():
        started = time.monotonic()
        with console.status(f"{name} ..."):
            figures[name] = figures_of(scenario)
        missed = sum(not figure.holds for figure in figures[name])
        said = f"[red]{missed} missed[/]" if missed else "all hold"
        console.print(f"{name}: {len(figures[name])} figures, {said} ({time.monotonic() - started:.0f} s)", style="dim")
        sys.stdout.flush()
        for number, figure in enumerate(figures[name]):
            table.add_row("" if number else name, *row(figure))
        table.add_section()
    console.print(table)
    OUTPUT.parent.mkdir(exist_ok=True)
    before = json.loads(OUTPUT.read_text()) if len(chosen) < len(scenarios()) and OUTPUT.exists() else {}
    written = before | {name: list(map(document, some)) for name, some in figures.items()}
    OUTPUT.write_text(json.dumps(written, indent=1) + "\n")
    print(f"written: {OUTPUT}")
    return 0 if all(figure.holds for some in figures.values() for figure in some) else 1


def figures_of(scenario: Scenario) -> Sequence[Figure]:
    """A scenario's figures; a single one, which misses its bar, where it did not come to an end."""
    try:
        return list(scenario())
    except Exception:
        traceback.print_exc()
        return [Figure(goal="-", name="did not come to an end: see above", value=1, bar=0)]


def row(figure: Figure) -> Sequence[str]:
    bar = "" if figure.bar is None else f"{figure.relation} {figure.bar:g}"
    verdict = "" if figure.bar is None else "holds" if figure.holds else "[red]MISSED"
    return figure.goal, figure.name, f"{figure.value:.6g}", figure.unit, bar, verdict


def document(figure: Figure) -> Mapping[str, object]:
    bar = None if figure.bar is None else f"{figure.relation} {figure.bar:g}"
    return {"goal": figure.goal, "name": figure.name, "value": figure.value, "unit": figure.unit, "bar": bar}


if __name__ == "__main__":
    sys.exit(main())
