"""Where figures go: into ``build/bench.json``, an object from name to value, unit and bar, and into a plot beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tests.faults.figure import Figure

OUTPUT = Path("build/bench.json")
PLOT = OUTPUT.with_suffix(".png")


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


def plot() -> None:
    """Draws every figure that has a bar, as a multiple of that bar: beyond the line is good."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Plot

    document = json.loads(OUTPUT.read_text())
    names, shares, labels = [], [], []
    for name, entry in document.items():
        if entry["bar"] is not None and entry["value"] > 0:
            relation, bar = entry["bar"].split()
            share = entry["value"] / float(bar)
            names.append(name)
            shares.append(1 / share if relation == "<=" else share)
            labels.append(f"{entry['value']:g} {entry['unit']} ({relation} {bar})")
    drawn = Plot(figsize=(9, 0.8 + 0.4 * len(names)), layout="constrained")
    FigureCanvasAgg(drawn)
    axes = drawn.subplots()
    colours = ["tab:green" if share >= 1 else "tab:red" for share in shares]
    axes.bar_label(axes.barh(names, shares, color=colours), labels, padding=3)
    axes.axvline(1, color="black")
    axes.set_xlim(0, 1.6 * max(shares, default=1))
    axes.set_xlabel("times its bar")
    axes.invert_yaxis()
    drawn.savefig(PLOT)
