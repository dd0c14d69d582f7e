"""Where figures go: into ``build/bench.json``, an object from name to value, unit and bar."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tests.faults.figure import Figure

OUTPUT = Path("build/bench.json")


def write(figures: Sequence[Figure]) -> None:
    """Adds figures to those of other benchmarks, and says which of them miss their bars."""
    document = json.loads(OUTPUT.read_text()) if OUTPUT.exists() else {}
    for figure in figures:
        bar = None if figure.bar is None else f"{figure.relation} {figure.bar:g}"
        document[figure.name] = {"value": float(f"{figure.value:.4g}"), "unit": figure.unit, "bar": bar}
        if not figure.holds:
            print(f"MISSED: {figure}")
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps(document, indent=1) + "\n")
