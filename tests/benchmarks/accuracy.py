"""Test accuracy on six public data sets against a fixed baseline: ``make accuracy DATA=folder-with-the-sets``.

The baseline is scikit-learn's logistic regression with one fixed C on the same frozen features: C = 0.01 on standardised
image features, C = 10 on sentence embeddings. The test splits choose nothing. Beside it, what int8 makes of the same data,
where this machine computes in it.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from finetune.job import run_job
from finetune.job_settings import JobSettings
from finetune.result import JobResult
from models.precision import Precision
from models.repository import ModelRepository

BASELINES = {
    "clothing10": 0.830,
    "grocery12": 0.892,
    "sign_digits": 0.923,
    "sms_spam": 0.987,
    "movie_polarity": 0.783,
    "banking77": 0.929,
}
OUTPUT = Path("build/accuracy.json")


def learn(data: Path, scratch: Path) -> JobResult:
    """Fine-tunes on one set with the defaults."""
    settings = JobSettings(data=data, name=data.name, cache_dir=scratch / "cache")
    return run_job(settings, ModelRepository(scratch / "repository"), Console(stderr=True, quiet=True))


def standard_error(accuracy: float, rows: int) -> float:
    """Of an accuracy on that many test rows."""
    return math.sqrt(accuracy * (1 - accuracy) / rows)


def precisions(result: JobResult) -> tuple[str, str, str]:
    """Cross-validated accuracy in fp32 and int8, and test accuracy in int8, with a mark where it must not serve."""
    heads = result.version.manifest.heads
    trainings = [heads[precision].training if precision in heads else None for precision in Precision]
    cv_fp32, cv_int8 = (f"{each.validation_score:.4f}" if each else "" for each in trainings)
    if Precision.INT8 not in heads:
        return cv_fp32, "", ""
    int8 = heads[Precision.INT8]
    return cv_fp32, cv_int8, f"{int8.metrics['accuracy']:.3f}" + (" refused" if int8.refused else "")


def main() -> None:
    """Runs all sets below the folder named on the command line and writes ``build/accuracy.json``."""
    data = Path(sys.argv[1])
    table = Table(
        "data",
        "classes",
        "train",
        "test",
        "accuracy",
        "95 %",
        "baseline",
        "ECE",
        "seconds",
        "cv fp32",
        "cv int8",
        "int8",
        box=box.SIMPLE_HEAD,
    )
    figures = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, baseline in BASELINES.items():
            result = learn(data / name, Path(scratch))
            e = result.evaluation
            table.add_row(
                name,
                str(len(e.classes)),
                f"{result.train_size:,}",
                f"{result.test_size:,}",
                f"{e.accuracy:.3f}",
                f"{e.accuracy_ci.low:.3f} to {e.accuracy_ci.high:.3f}",
                f"{baseline:.3f}",
                f"{e.ece:.3f}",
                f"{result.seconds:.0f}",
                *precisions(result),
            )
            figures[name] = {
                "value": e.accuracy,
                "unit": "accuracy",
                "bar": baseline - standard_error(baseline, e.rows),
            }
    mean, bar = (sum(values) / len(values) for values in ([f["value"] for f in figures.values()], BASELINES.values()))
    figures["mean"] = {"value": mean, "unit": "accuracy", "bar": bar}
    Console(width=max(Console().width, 130)).print(table)
    print(f"mean accuracy {mean:.4f}, of the baselines {bar:.4f}")
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
