"""What was exported, and how it was checked: ``export-report.json``, and a table for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as library_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models import storage
from service.export.comparison import TOLERANCE, Answering, Comparison, check, compare

if TYPE_CHECKING:
    from service.export.subject import Subject

REPORT = "export-report.json"
_LIBRARIES = ("graftwork", "torch", "timm", "transformers", "onnx", "onnxruntime", "tritonclient", "numpy")
_REASON = "of 1 for probabilities, of the largest value for the others: float32 in another order of sums"


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """One exported thing.

    Attributes:
        what: such as ``flowers:3``.
        form: such as ``onnx``.
        place: its directory within the one that was asked for; the report lists the files there.
        checked_with: the library that answered, such as ``onnxruntime``.
        inputs: how many golden inputs were answered.
        tensors: names, types and shapes, where it is a graph.
    """

    what: str
    form: str
    digest: str
    place: str
    checked_with: str
    inputs: int
    batches: int
    comparisons: Sequence[Comparison]
    tensors: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        subject: Subject,
        expected: Answering,
        found: Answering,
        *,
        form: str,
        checked_with: str,
        what: str = "",
        place: str = ".",
        tensors: Mapping[str, Any] | None = None,
    ) -> ExportReport:
        """The report of what was exported of a subject, once it was compared with it.

        Args:
            expected, found: see `compare`.
            what: the subject's version by default.
            form, checked_with, place, tensors: see the attributes.

        Raises:
            ExportFailed: it answers in another way.
        """
        batches = subject.batches()
        comparisons = compare(batches, expected, found)
        check(comparisons)
        return cls(
            what=what or str(subject.version),
            form=form,
            digest=subject.stored.digest,
            place=place,
            checked_with=checked_with,
            inputs=len(subject.golden_rows),
            batches=len(batches),
            comparisons=comparisons,
            tensors=tensors or {},
        )

    def write(self, root: Path) -> None:
        """Writes the report beside the files that it is about, whose sums it holds."""
        folder = root / self.place
        document = {
            "exported": self.what,
            "format": self.form,
            "backbone": self.digest,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "libraries": _libraries(),
            "tensors": self.tensors,
            "check": {
                "with": self.checked_with,
                "golden_inputs": self.inputs,
                "batches": self.batches,
                "tolerance": TOLERANCE,
                "tolerance_is": _REASON,
                "outputs": [asdict(each) for each in self.comparisons],
            },
            "files": {name: storage.sha256_file(folder / name) for name in sorted(storage.files_below(folder))},
        }
        storage.write_file(folder / REPORT, json.dumps(document, indent=1).encode())

    def lines(self) -> Sequence[Sequence[str]]:
        """A line for each output: `HEADER`."""
        return [
            [self.what, each.output, str(each.vectors), f"{each.difference:.1e}", f"{each.tolerance:.1e}"]
            for each in self.comparisons
        ]

    def summary(self, root: Path) -> dict[str, Any]:
        """For programs."""
        return {
            "exported": self.what,
            "format": self.form,
            "path": str(root / self.place),
            "outputs": [asdict(each) for each in self.comparisons],
        }


HEADER = ["exported", "output", "vectors", "largest difference", "tolerated"]


def _libraries() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = library_version(name)
        except PackageNotFoundError:
            continue
    return found
