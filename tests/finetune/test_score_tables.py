from __future__ import annotations

import re

from finetune.score_tables import class_tables
from tests.finetune.cards import scores_of


def test_of_many_classes_the_worst_come_first() -> None:
    labels = [f"label {i}" for i in range(77)]
    evaluation = scores_of(labels, rows=770, wrong=0.3)
    worst, others = "\n\n".join(class_tables(evaluation["per_class"])).split("<details>")

    def rows(table: str) -> list[tuple[int, float]]:
        found = re.findall(r"^\| (\d+) \| label \1 \| [^|]+ \| [^|]+ \| ([\d.]+) [^|]+\|", table, re.MULTILINE)
        return [(int(number), float(f1)) for number, f1 in found]

    assert len(rows(worst)) == 20
    assert {number for number, _ in rows(worst) + rows(others)} == set(range(77))
    assert max(f1 for _, f1 in rows(worst)) <= min(f1 for _, f1 in rows(others))
