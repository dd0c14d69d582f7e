"""Tables to be scored, and what came of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any


def write_table(path: Path, texts: list[str], **more: str) -> Path:
    """A CSV with the columns ``id``, ``text`` and others that have one value."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", *more])
        writer.writerows([number, text, *more.values()] for number, text in enumerate(texts))
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def numbered(count: int) -> list[str]:
    return [f"text {number}" for number in range(count)]
