"""A load on ``POST /v1/models/{model}:predict`` of a server on this machine, every answer of which is checked.

In this process:

    tally = run_load(port, connections=32, seconds=5)              # closed loop
    tally = run_load(port, rate=500, seconds=5, connections=256)   # open loop

or in a child, so that the load and what a test does meanwhile do not share an interpreter:

    with LoadProcess(port, rate=500, seconds=5) as load:
        ...
        tally = load.tally()

    python -m tests.faults.load --port 8000 --connections 32 --seconds 5
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvloop

from tests.faults.loops import PATIENCE_SECONDS, Spacing, closed_loop, never, open_loop
from tests.faults.request import MODEL, EchoRequests, Make
from tests.faults.tally import Tally


def run_load(
    port: int,
    *,
    connections: int | None = None,
    rate: float | None = None,
    seconds: float | None = None,
    requests: int | None = None,
    spacing: Spacing = "poisson",
    seed: int = 0,
    patience: float = PATIENCE_SECONDS,
    make: Make | None = None,
    stopped: Callable[[], bool] = never,
    **of_requests: Any,
) -> Tally:
    """Runs a load in this thread to its end: an open loop where a rate is given, else a closed one.

    Args:
        make: gives the requests; None makes ``EchoRequests`` of whatever else is given.
    """
    make = make or EchoRequests(seed=seed, **of_requests)
    if rate is None:
        return uvloop.run(
            closed_loop(
                port,
                connections=connections or 32,
                make=make,
                seconds=seconds,
                requests=requests,
                patience=patience,
                stopped=stopped,
            )
        )
    if seconds is None or requests is not None:
        raise ValueError("an open loop ends after seconds, not after a number of requests")
    return uvloop.run(
        open_loop(
            port,
            rate=rate,
            seconds=seconds,
            make=make,
            connections=connections or 512,
            spacing=spacing,
            seed=seed,
            patience=patience,
            stopped=stopped,
        )
    )


class LoadProcess:
    """A load in a child process, which runs when the constructor returns.

    Args:
        port: of the server.
        options: those of ``run_load``, but for its callables.
    """

    def __init__(self, port: int, **options: Any) -> None:
        headers = options.pop("headers", {})
        flags = [f"--header={name}: {value}" for name, value in headers.items()]
        for name, value in options.items():
            flag = name.replace("_", "-")
            if value is False:
                flags.append(f"--no-{flag}")
            elif value is not None and value is not True:
                flags.append(f"--{flag}={value}")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.load", f"--port={port}", "--json", *flags],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            bufsize=0,  # so that readline() takes no more than a line: communicate() reads on from the pipe itself
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"started\n":
            self._process.communicate()
            raise RuntimeError(f"the load did not start: it ended with {self._process.returncode}")

    def stop(self) -> None:
        """Ends the load early; what is in flight is still waited for."""
        self._process.send_signal(signal.SIGTERM)

    def tally(self, timeout: float | None = None) -> Tally:
        """Waits for the end and gives what became of the requests."""
        output, _ = self._process.communicate(timeout=timeout)
        if self._process.returncode:
            raise RuntimeError(f"the load failed with {self._process.returncode}")
        return Tally.from_json(json.loads(output))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with self._process:  # which waits for it
            self._process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.load", description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, help="how many ask; with --rate, at most (default: 32; 512)")
    parser.add_argument("--rate", type=float, help="requests per second of an open loop (default: a closed loop)")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--requests", type=int)
    parser.add_argument("--spacing", choices=["poisson", "even"], default="poisson")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patience", type=float, default=PATIENCE_SECONDS, help="seconds until a request is lost")
    parser.add_argument("--rows", type=int, default=1, help="texts per request")
    parser.add_argument("--size", type=int, default=100, help="bytes per text")
    parser.add_argument("--start", default="text ", help="what each text starts with")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--path", help="instead of the model's path")
    parser.add_argument("--request-timeout", type=float, help="sent as X-Request-Timeout")
    parser.add_argument("--header", action="append", default=[], metavar="'NAME: VALUE'")
    parser.add_argument("--hang-up-after", type=float, metavar="SECONDS", help="from sending; 0 is at once")
    parser.add_argument("--no-check-id", dest="check_id", action="store_false", help="X-Request-Id is not carried back")
    parser.add_argument("--json", action="store_true", help="everything there is to say, for LoadProcess")
    options = vars(parser.parse_args())
    options["headers"] = dict(header.split(": ", 1) for header in options.pop("header"))
    as_json = options.pop("json")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    if as_json:
        print("started", flush=True)
    tally = run_load(**options, stopped=stop.is_set)
    # Not sys.stdout: after uvloop, the kernel may take only a part of a write to a pipe, and with PYTHONUNBUFFERED set it is
    # not asked again for the rest.
    with open(sys.stdout.fileno(), "w", closefd=False) as output:
        print(json.dumps(tally.to_json() if as_json else tally.summary(), indent=None if as_json else 1), file=output)


if __name__ == "__main__":
    main()
