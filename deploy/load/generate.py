#!/usr/bin/env python3
"""A load on a Graftwork server, every answer of which is checked.

    python deploy/load/generate.py --url http://127.0.0.1:8000 --model flowers --data photos/ --rate 200 --seconds 30
    python deploy/load/generate.py --url http://127.0.0.1:8000 --model flowers --data photos/ --clients 32 --seconds 30

Needs Python 3.11 and nothing else; with uvloop it does twice as much. The exit code is 1 where an answer was wrong or lost, or
none was right.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from answers import TOLERANCE, Answers, read_expected
from connection import Target
from items import read_items
from load import Load
from loops import closed_loop, open_loop
from tally import Tally

BAR_COLUMNS = 30
REFRESH_SECONDS = 0.2


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(
        prog="generate.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("--url", action="append", metavar="URL", help="of a server; several take turns")
    found.add_argument("--data", type=Path, required=True, help="images, texts or requests: see README.md")
    found.add_argument("--model", action="append", default=[], help="asked; several take turns")
    found.add_argument("--ask", choices=["predict", "embeddings"], default="predict")
    found.add_argument("--text-column", default="text", help="of a CSV, TSV or JSONL file (default: text)")
    found.add_argument("--api-key", default=os.environ.get("GRAFTWORK_API_KEY"), help="or GRAFTWORK_API_KEY")
    found.add_argument("--header", action="append", default=[], metavar="'NAME: VALUE'")
    way = found.add_mutually_exclusive_group()
    way.add_argument("--rate", type=float, help="requests a second of an open loop")
    way.add_argument("--clients", type=int, help="of a closed loop (default: 32)")
    found.add_argument("--seconds", type=float, help="for which it asks (default: 10)")
    found.add_argument("--requests", type=int, help="of a closed loop, in place of --seconds")
    found.add_argument("--arrivals", choices=["poisson", "constant"], default="poisson", help="of an open loop")
    found.add_argument("--connections", type=int, default=512, help="of an open loop to each server, at most")
    found.add_argument("--seed", type=int, default=0, help="of the arrivals")
    found.add_argument("--timeout", type=float, default=60.0, help="seconds until a request is lost (default: 60)")
    found.add_argument("--expected", type=Path, metavar="JSONL", help="from: graftwork predict DATA --output JSONL")
    found.add_argument("--version", type=int, help="that has to answer")
    found.add_argument("--tolerance", type=float, default=TOLERANCE, help=f"of numbers (default: {TOLERANCE:g})")
    found.add_argument("--no-check", action="store_true", help="look at the status of answers only")
    found.add_argument("--json", action="store_true", help="one JSON object in place of the table")
    found.add_argument("--latencies", action="store_true", help="with --json: also the seconds of each right answer")
    return found


def target_of(url: str) -> Target:
    """The server that a URL means."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url}: a URL begins with http:// or https:// and names a host")
    is_tls = parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    return Target(host=parts.hostname, port=port, is_tls=is_tls, path=parts.path.rstrip("/"))


def load_of(options: argparse.Namespace) -> Load:
    """What the options describe.

    Raises:
        ValueError, OSError: they do not go together, or cannot be read.
    """
    items = read_items(options.data, models=options.model, ask=options.ask, text_column=options.text_column)
    expected = None if options.expected is None else read_expected(options.expected)
    if expected is not None and len(expected) != len(items):
        raise ValueError(f"{options.expected} has {len(expected)} rows, but {options.data} makes {len(items)} requests")
    headers = dict(header.split(": ", 1) for header in options.header)
    if options.api_key:
        headers["Authorization"] = f"Bearer {options.api_key}"
    answers = Answers(items, expected=expected, version=options.version, tolerance=options.tolerance)
    urls = options.url or [os.environ.get("GRAFTWORK_URL", "http://127.0.0.1:8000")]
    targets = [target_of(url) for url in urls]
    return Load(targets, items, None if options.no_check else answers, headers=headers, timeout=options.timeout)


async def run(load: Load, options: argparse.Namespace) -> float:
    """Runs a load, and draws how far it is; returns its seconds. Ctrl-C ends it early, with the figures so far."""
    seconds = 10.0 if options.seconds is None and options.requests is None else options.seconds
    if options.rate is not None:
        if seconds is None:
            raise ValueError("an open loop lasts for --seconds")
        way = open_loop(
            load,
            rate=options.rate,
            seconds=seconds,
            spacing=options.arrivals,
            connections=options.connections,
            seed=options.seed,
        )
    else:
        way = closed_loop(load, clients=options.clients or 32, seconds=seconds, requests=options.requests)
    started = time.monotonic()
    task = asyncio.create_task(way)
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
    bar = asyncio.create_task(draw(load.tally, started, seconds, options.requests)) if sys.stderr.isatty() else None
    try:
        return await task
    except asyncio.CancelledError:
        load.tally.sent = load.tally.ended  # what is under way is nobody's
        return time.monotonic() - started
    finally:
        if bar is not None:
            bar.cancel()
            print("\r\033[K", end="", file=sys.stderr, flush=True)


async def draw(tally: Tally, started: float, seconds: float | None, requests: int | None) -> None:
    """A line on stderr, for ever."""
    while True:
        took = time.monotonic() - started
        share = min(1.0, took / seconds if seconds is not None else tally.ended / (requests or 1))
        bar = ("#" * round(share * BAR_COLUMNS)).ljust(BAR_COLUMNS, ".")
        rest = f"{tally.sent:,} sent, {tally.right:,} right, {tally.wrong:,} wrong, {tally.lost.total():,} lost"
        print(f"\r\033[K[{bar}] {took:.0f} s: {rest}", end="", file=sys.stderr, flush=True)
        await asyncio.sleep(REFRESH_SECONDS)


def table(summary: dict[str, Any]) -> str:
    """The figures, for people."""
    rows: list[tuple[str, str]] = [
        ("sent", f"{summary['sent']:,}"),
        ("right", f"{summary['right']:,}"),
        ("wrong", f"{summary['wrong']:,}"),
        ("lost", f"{sum(summary['lost'].values()):,}"),
        *((f"  {reason}", f"{count:,}") for reason, count in summary["lost"].items()),
        *((f"status {status}", f"{count:,}") for status, count in summary["statuses"].items()),
        ("seconds", f"{summary['seconds']:,.1f}"),
        ("right a second", f"{summary['right_per_second']:,.1f}"),
        ("cores of the generator", f"{summary['generator_cores']:.2f}"),
    ]
    for name, value in summary.items():
        if name.endswith("_ms") and value is not None:
            rows.append((name.removesuffix("_ms").replace("_", " "), f"{value:,.1f} ms"))
    width, digits = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = [f"{name:<{width}}  {value:>{digits}}" for name, value in rows]
    lines += [f"wrong: {text}" for text in summary["complaints"]]
    lines += [f"status {status}: {text}" for status, text in summary["errors"].items()]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        load = load_of(options)
        try:
            from uvloop import run as run_loop
        except ImportError:
            run_loop = asyncio.run
        before = time.process_time()
        seconds = run_loop(run(load, options))
        cpu_seconds = time.process_time() - before
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    tally = load.tally
    summary = tally.summary(seconds, cpu_seconds)
    if options.json:
        latencies = {"latencies": [round(each, 6) for each in tally.latencies]} if options.latencies else {}
        output = json.dumps({**summary, **latencies})
    else:
        output = table(summary)
    # Not sys.stdout: after uvloop, the kernel may take only a part of a write to a pipe.
    with open(sys.stdout.fileno(), "w", closefd=False) as stdout:
        print(output, file=stdout)
    return 1 if tally.wrong or tally.lost or not tally.right else 0


if __name__ == "__main__":
    sys.exit(main())
