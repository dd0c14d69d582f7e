"""All benchmarks, a table each; their figures are written to build/bench.json: ``make bench``.

python -m tests.benchmarks             # about twenty minutes on two cores
python -m tests.benchmarks noop hop    # these only; the other figures stay as they are
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.benchmarks.report import OUTPUT, PLOT, plot

BENCHMARKS = (
    "noop",
    "dialects",
    "grpc_beside_http",
    "idle",
    "hop",
    "preprocessing",
    "batching",
    "serving",
    "peers",
    "embeddings",
    "heads",
    "training",
)


def main() -> int:
    """Each is a process of its own, so that none finds the threads and the memory of another; returns the exit code."""
    chosen = sys.argv[1:] or BENCHMARKS
    if unknown := set(chosen) - set(BENCHMARKS):
        print(f"no benchmark: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
        return 2
    if not sys.argv[1:]:
        OUTPUT.unlink(missing_ok=True)
    environment = {**os.environ, "GRAFTWORK_ENGINE": "auto"}  # what a user gets, not what tests start quickest with
    failed = [
        name
        for name in chosen
        if subprocess.run([sys.executable, "-m", f"tests.benchmarks.{name}"], env=environment).returncode
    ]
    for name in failed:
        print(f"failed: {name}")
    if OUTPUT.exists():
        plot()
        print(f"written: {OUTPUT}, {PLOT}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
