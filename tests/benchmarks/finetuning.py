"""Learning: what each strategy makes of public data sets, beside other tools, and how long it takes.

    make bench-finetune DATA=folder-with-the-sets      # within an hour on two cores, for which some runs are left out
    python -m tests.benchmarks.finetuning DATA banking77 sign_digits      # all runs on these

Every set as it is, and with 8 and 32 examples of each class; the whole test split judges, and chooses nothing. Each run is a
program of its own, as a user would start it, with the default settings; ours with ``--precision fp32``, as no other tool does
what int8 asks for besides. Seconds are the whole program's. No run finds the features of another; which engine is the
fastest is found out by the first run on a backbone, as on any machine.

SetFit and fastai are no dependencies of ours. To compare with them, which start from the same weights:

    python -m venv /tmp/peers && /tmp/peers/bin/pip install setfit fastai timm
    PEERS_PYTHON=/tmp/peers/bin/python make bench-finetune DATA=...
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file

from models.embedded import require_embedded_directory
from models.sources import fetch_checkpoint
from tests.benchmarks.few_shot import few_shot

OUTPUT = Path("build/finetune.json")
IMAGES = ("clothing10", "grocery12", "sign_digits")
TWO_CLASSES = ("sms_spam", "movie_polarity")
CLASSES_OF_TEXTS = (*TWO_CLASSES, "banking77")
NO_CLASSES = ("stsb_en", "wnut17_ner")
SETS = (*IMAGES, *CLASSES_OF_TEXTS, *NO_CLASSES)
ALL = 0
SLOW = [(name, ALL) for name in ("movie_polarity", *NO_CLASSES)]  # a minute or two an epoch, and worth it
BEYOND_THE_HOUR = [
    ("full", "stsb_en", ALL),
    ("full", "movie_polarity", ALL),
    ("partial", "sign_digits", 32),
    ("partial", "clothing10", 8),
    ("lora", "sms_spam", 32),
    ("lora", "banking77", 32),
]
PEERS = os.environ.get("PEERS_PYTHON")

Command = Callable[[Path, Path], Sequence[str]]
"""From the folders of the data and of what may be written to a program and its arguments."""


@dataclass(frozen=True)
class Method:
    """A way to learn.

    Attributes:
        name: in the table.
        command: that runs it and prints an object with ``score`` at its end.
        suits: whether it is for a set, in a size (`ALL` or examples of each class).
    """

    name: str
    command: Command
    suits: Callable[[str, int], bool]


def strategy(name: str) -> Command:
    """Our own command line."""

    def command(data: Path, scratch: Path) -> Sequence[str]:
        options = [f"--strategy={name}", "--precision=fp32", f"--cache-dir={scratch}"]
        own = [f"--repository={scratch / 'repository'}", "--name=model", "--json", "--device=cpu"]
        return [sys.executable, "-m", "finetune", str(data), *options, *own]

    return command


def logistic(data: Path, scratch: Path) -> Sequence[str]:
    return [sys.executable, "-m", "tests.benchmarks.logistic_peer", str(data), str(scratch)]


def setfit(data: Path, _scratch: Path) -> Sequence[str]:
    encoder = require_embedded_directory("hf:all-MiniLM-L6-v2") / "model"
    return [str(PEERS), "-m", "tests.benchmarks.setfit_peer", str(data), str(encoder)]


def fastai(data: Path, scratch: Path) -> Sequence[str]:
    weights = scratch / "weights.safetensors"
    state = fetch_checkpoint("timm:tf_efficientnet_lite0").state
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, weights)
    return [str(PEERS), "-m", "tests.benchmarks.fastai_peer", str(data), str(weights)]


def _always(name: str, shots: int) -> bool:
    return shots == ALL or name not in NO_CLASSES


METHODS = (
    Method("logistic regression", logistic, _always),
    Method("probe", strategy("probe"), _always),
    Method("partial", strategy("partial"), lambda name, shots: name in IMAGES and shots != ALL),
    Method(
        "full",
        strategy("full"),
        lambda name, shots: (
            (name in IMAGES and shots == ALL) or (name in CLASSES_OF_TEXTS and shots == 8) or (name, shots) in SLOW
        ),
    ),
    Method("lora", strategy("lora"), lambda name, shots: name in CLASSES_OF_TEXTS and shots == 32),
    Method("SetFit", setfit, lambda name, shots: name in TWO_CLASSES and shots == 8),
    Method("fastai", fastai, lambda name, shots: (name, shots) == ("grocery12", ALL)),
)


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        shots: examples of each class; 0 for all that there are.
        score: on the test split: accuracy, Spearman's correlation or entity F1.
        low, high: 95 %, of our own runs.
        seconds: of the program, from its start to its end.
    """

    data: str
    shots: int
    method: str
    score: float
    seconds: float
    low: float | None = None
    high: float | None = None


def run(method: Method, data: Path, name: str, shots: int, scratch: Path) -> Outcome | None:
    """Runs a method on a set; None, with the end of what it wrote, where it failed."""
    for kept in ("features", "repository"):
        shutil.rmtree(scratch / kept, ignore_errors=True)
    command = method.command(data, scratch)
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "GRAFTWORK_ENGINE": "auto"})
    seconds = time.monotonic() - started
    if done.returncode:
        print(f"{method.name} on {name} failed:", *done.stderr.splitlines()[-12:], sep="\n")
        return None
    found = json.loads(done.stdout.splitlines()[-1])
    if "score" in found:
        return Outcome(name, shots, method.name, found["score"], seconds)
    metric = next(metric for metric in ("accuracy", "spearman", "entity_f1") if metric in found)
    return Outcome(name, shots, method.name, found[metric], seconds, *found[f"{metric}_ci"])


def table(outcomes: Sequence[Outcome]) -> Table:
    """A row for each set and size, a column for each method: score and seconds."""
    methods = [method.name for method in METHODS if any(each.method == method.name for each in outcomes)]
    drawn = Table("data", "examples", *methods, box=box.SIMPLE_HEAD)
    for name, shots in dict.fromkeys((each.data, each.shots) for each in outcomes):
        cells = []
        for method in methods:
            own = [each for each in outcomes if (each.data, each.shots, each.method) == (name, shots, method)]
            cells.append(f"{own[0].score:.3f} {own[0].seconds:4.0f} s" if own else "")
        drawn.add_row(name, f"{shots} a class" if shots else "all", *cells)
    return drawn


def plot(outcomes: Sequence[Outcome]) -> None:
    """Draws the scores: a line for each set and size, a colour for each method, larger dots for longer runs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = list(dict.fromkeys((each.data, each.shots) for each in sorted(outcomes, key=lambda each: each.data)))
    drawn = Figure(figsize=(9, 1 + 0.35 * len(rows)), layout="constrained")
    FigureCanvasAgg(drawn)
    axes = drawn.subplots()
    for method in METHODS:
        own = [each for each in outcomes if each.method == method.name]
        heights, sizes = [rows.index((each.data, each.shots)) for each in own], [each.seconds for each in own]
        axes.scatter(
            [each.score for each in own], heights, [20 + size / 3 for size in sizes], label=method.name, alpha=0.7
        )
    axes.set_yticks(range(len(rows)), [f"{name}, {f'{shots} a class' if shots else 'all'}" for name, shots in rows])
    axes.set_xlabel("accuracy, Spearman's correlation (stsb_en) or entity F1 (wnut17_ner) of the test split")
    axes.grid(alpha=0.3)
    axes.invert_yaxis()
    drawn.legend(loc="outside upper center", ncols=4, markerscale=0.7, frameon=False)
    drawn.savefig(OUTPUT.with_suffix(".png"))


def main() -> int:
    """Runs all sets below the folder named first on the command line, or those named after it; returns the exit code."""
    data, chosen = Path(sys.argv[1]), sys.argv[2:] or SETS
    console, outcomes, failed, started = Console(width=160), [], 0, time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        for shots, name in itertools.product((ALL, 32, 8), chosen):
            methods = [method for method in METHODS if method.suits(name, shots)]
            if not sys.argv[2:]:
                methods = [method for method in methods if (method.name, name, shots) not in BEYOND_THE_HOUR]
            own, few = data / name, Path(scratch) / "few" / f"{name}-{shots}"
            if shots and methods:
                own = few_shot(own, shots, few)
            for method in methods:
                if PEERS or method.command not in (setfit, fastai):
                    outcome = run(method, own, name, shots, Path(scratch))
                    print(outcome, flush=True)
                    failed += outcome is None
                    outcomes += [outcome] if outcome else []
            OUTPUT.parent.mkdir(exist_ok=True)
            OUTPUT.write_text(json.dumps([asdict(each) for each in outcomes], indent=1) + "\n")
    console.print(table(outcomes))
    plot(outcomes)
    print(f"{(time.monotonic() - started) / 60:.0f} minutes")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
