from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from finetune.findings import Finding, print_findings, printable, raise_errors, shortlist
from models.errors import DatasetInvalid

WARNING = Finding(severity="warning", code="imbalance", message="Judge by macro F1.", count=2)
ERROR = Finding(
    severity="error", code="class_too_small", message="Too few.", count=1, examples=("a.csv:2", "[red]\x1b")
)


def printed(*findings: Finding) -> str:
    stream = io.StringIO()
    print_findings(findings, Console(file=stream, width=100))
    return stream.getvalue()


def test_five_examples_are_kept() -> None:
    finding = Finding(severity="info", code="c", message="m", count=9, examples=tuple("abcdefghi"))
    assert finding.examples == tuple("abcde")


def test_a_finding_is_json() -> None:
    assert json.loads(json.dumps(ERROR.to_dict())) == {
        "severity": "error",
        "code": "class_too_small",
        "message": "Too few.",
        "count": 1,
        "examples": ["a.csv:2", "[red]\x1b"],
    }


def test_errors_are_printed_first_and_nothing_is_taken_for_markup() -> None:
    text = printed(WARNING, ERROR)
    assert text.index("class_too_small") < text.index("imbalance")
    assert "[red]\\x1b" in text
    assert "Judge by macro F1." in text


def test_no_findings_are_good_news() -> None:
    assert "Nothing to report" in printed()


def test_the_first_error_is_raised() -> None:
    raise_errors([WARNING])
    with pytest.raises(DatasetInvalid) as caught:
        raise_errors([WARNING, ERROR])
    assert caught.value.message == "Too few. (look at a.csv:2, [red]\\x1b)"


def test_names_are_shortened_for_a_message() -> None:
    assert shortlist(["a"]) == "'a'"
    assert shortlist("abcdefg") == "'a', 'b', 'c', 'd', 'e' and 2 more"
    assert shortlist(["x" * 100]) == f"'{'x' * 57}...'"
    assert printable("a\nb\udc80é") == "a\\nb\\udc80é"
