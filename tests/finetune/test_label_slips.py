from __future__ import annotations

import pytest

from finetune.example import Example, text_example
from finetune.findings import Finding
from finetune.label_slips import find_label_slips, one_edit_apart


def labelled(**counts: int) -> list[Example]:
    return [
        text_example(f"{label} {index}", label=label, source=f"{label}:{index}")
        for label, count in counts.items()
        for index in range(count)
    ]


def slips(**counts: int) -> dict[str, Finding]:
    return {finding.code: finding for finding in find_label_slips(labelled(**counts))}


@pytest.mark.parametrize("typo", ["postive", "positivee", "positivo", "psoitive"])
def test_a_rare_label_one_edit_from_a_frequent_one_is_a_probable_typo(typo: str) -> None:
    found = slips(positive=20, negative=20, **{typo: 1})
    assert set(found) == {"label_typo"}
    assert f"'{typo}' beside 'positive'" in found["label_typo"].message
    assert found["label_typo"].examples == (f"{typo}:0",)


@pytest.mark.parametrize(
    "counts",
    [
        {"positive": 20, "positiv": 3},  # not rare
        {"positive": 19, "positiv": 2},  # not ten times rarer
        {"positive": 20, "passive": 1},
        {"class_1": 20, "class_2": 1},
        {"on": 20, "of": 1},
    ],
)
def test_other_pairs_are_no_typos(counts: dict[str, int]) -> None:
    assert slips(**counts) == {}


def test_case_and_spaces_and_unicode_twins() -> None:
    found = slips(**{"cat": 5, "Cat": 1, "dog": 5, "dog ": 1, "étude": 5, "e\u0301tude": 1, "bird": 5})
    assert {code: finding.examples for code, finding in found.items()} == {
        "label_case": ("Cat:0",),
        "label_whitespace": ("dog :0",),
        "label_unicode": ("e\u0301tude:0",),
    }
    assert all(finding.severity == "warning" for finding in found.values())


def test_many_slips_are_counted_and_five_shown() -> None:
    (finding,) = find_label_slips(labelled(**{f"label {letter} ": 2 for letter in "abcdefg"}))
    assert finding.count == 7
    assert "and 2 more" in finding.message
    assert len(finding.examples) == 5


def test_equal_labels_are_no_edit_apart() -> None:
    assert not one_edit_apart("same", "same")
    assert one_edit_apart("", "a")
