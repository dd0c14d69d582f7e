"""The ONNX graph of a whole version, and its check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from models.batch import Row
from models.task import Task
from service.export.onnx_graph import OnnxSession, write_graph
from service.export.outline import Outline
from service.export.report import ExportReport
from service.export.subject import Subject
from service.export.version_module import VersionModule


class VersionGraph:
    """From what the preprocessor makes of an item to calibrated answers."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self.outline = Outline.of_version(subject.version.manifest, subject.stored.config)

    @property
    def label_output(self) -> str | None:
        """The output ``(B, C)`` whose columns are the labels; of tokens, values and embeddings none is."""
        is_classes = self._subject.predictor.task in (Task.SINGLE_LABEL, Task.MULTI_LABEL)
        return "probabilities" if is_classes else None

    def write(self, file: Path) -> None:
        """Raises as `write_graph`."""
        subject = self._subject
        examples = [subject.example] * (2 if subject.is_separate else 1)
        write_graph(VersionModule(subject), subject.backbone, examples, self.outline, file)

    def check(self, file: Path, *, form: str, place: str) -> ExportReport:
        """Compares a graph with what the version answers.

        Args:
            form, place: for the report.

        Raises:
            ExportFailed: it answers in another way.
        """
        subject = self._subject
        session = OnnxSession(file, self.outline)

        def found(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
            answers = session.run(subject.tensors(rows))
            return {name: subject.vectors(values, rows) for name, values in answers.items()}

        return ExportReport.of(
            subject,
            subject.expected,
            found,
            form=form,
            place=place,
            checked_with="onnxruntime",
            tensors=self.outline.document(),
        )
