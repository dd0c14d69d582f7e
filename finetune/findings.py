"""What was noticed about a dataset, as values: printed by ``doctor``, kept in the report, raised when fatal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from models.errors import DatasetInvalid

Severity = Literal["error", "warning", "info"]

MOST_EXAMPLES = 5
_STYLES: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "info": "cyan"}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that a user should know about their data.

    Attributes:
        severity: ``error`` stops a run, ``warning`` may spoil the result, ``info`` is only said.
        code: stable short name that scripts may match on, such as ``duplicates_across_splits``.
        message: one sentence or two, naming the cure.
        count: how many examples, contents, classes or files the message speaks of.
        examples: where to look, as ``Example.source`` writes it; the first five are kept.
    """

    severity: Severity
    code: str
    message: str
    count: int
    examples: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "examples", tuple(self.examples[:MOST_EXAMPLES]))

    def to_dict(self) -> dict[str, str | int | list[str]]:
        """The finding as JSON types."""
        return {
            "severity": self.severity,
            "code": self.code,
            "message": self.message,
            "count": self.count,
            "examples": list(self.examples),
        }


def raise_errors(findings: Sequence[Finding]) -> None:
    """Raises the first finding that is an error.

    Raises:
        DatasetInvalid: there is one; the message says how many more there are.
    """
    errors = [finding for finding in findings if finding.severity == "error"]
    if not errors:
        return
    where = f" (look at {', '.join(map(printable, errors[0].examples))})" if errors[0].examples else ""
    more = f"; {len(errors) - 1} more: 'graftwork doctor' lists them" if len(errors) > 1 else ""
    raise DatasetInvalid(errors[0].message + where + more)


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """Prints one row per finding, errors first; says so when there is none."""
    if not findings:
        console.print("Nothing to report.", style="green")
        return
    table = Table("", "count", "finding", "for example")
    table.columns[1].justify = "right"
    order = list(_STYLES)
    for finding in sorted(findings, key=lambda finding: order.index(finding.severity)):
        table.add_row(
            Text(finding.severity, style=_STYLES[finding.severity]),
            str(finding.count or ""),
            Text.assemble((finding.code, "bold"), "\n", printable(finding.message)),
            Text("\n".join(map(printable, finding.examples))),
        )
    console.print(table)


def printable(text: str) -> str:
    """The text with control characters escaped: a file name may hold a newline or a terminal's escape sequence."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shortlist(names: Iterable[str], *, most: int = MOST_EXAMPLES) -> str:
    """Names in quotes for the middle of a message: ``'a', 'b' and 3 more``."""
    every = [f"'{printable(name if len(name) <= 60 else name[:57] + '...')}'" for name in names]
    shown = ", ".join(every[:most])
    return f"{shown} and {len(every) - most} more" if len(every) > most else shown
