"""The echo server, with a profiler in its API process; see `tests.benchmarks.stages`.

    python -m tests.benchmarks.sampled_echo FILE --port 8000

Each sample is taken after some milliseconds of CPU time, not of any time, so that waiting does not count. FILE has a line for
each stack that was found, as often as it was: a JSON object of functions from the outermost on, and their number.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

SECONDS = 0.001  # of CPU time; the kernel's own timer may be coarser
SAMPLES_A_WRITE = 500


class Sampler:
    """Counts the stacks of this process's main thread.

    Args:
        file: where they are written to, again and again.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stacks: Counter[tuple[str, ...]] = Counter()

    def start(self) -> None:
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, SECONDS, SECONDS)

    def _sample(self, _signal: int, frame: FrameType | None) -> None:
        stack = []
        while frame is not None:
            code = frame.f_code
            stack.append(f"{code.co_qualname} {code.co_filename}")
            frame = frame.f_back
        self._stacks[tuple(reversed(stack))] += 1
        if self._stacks.total() % SAMPLES_A_WRITE == 0:
            part = self._file.with_suffix(".part")
            part.write_text(json.dumps([[stack, count] for stack, count in self._stacks.items()]))
            part.replace(self._file)


def main() -> None:
    """Serves until a signal."""
    sampler = Sampler(Path(sys.argv.pop(1)))
    os.register_at_fork(after_in_child=sampler.start)  # workers are spawned: the only fork is the API process
    from tests.faults.echo import main as serve

    serve()


if __name__ == "__main__":
    main()
