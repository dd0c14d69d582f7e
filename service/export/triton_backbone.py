"""A backbone as a model of Triton: written once, for all versions that stand on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from models import storage
from models.batch import Row
from models.errors import Conflict, ExportFailed
from models.graph import torch_graph
from service.export.onnx_graph import GRAPH, OnnxSession, write_graph
from service.export.outline import Outline
from service.export.python_backend import MODEL_FILE
from service.export.report import ExportReport
from service.export.subject import Subject
from service.export.triton_config import Backend, TritonModel, read_config
from service.triton.backbone_model import DIGEST_PARAMETER, FEATURES, VERSION, BackboneModel


class BackboneExport:
    """The backbone of a version.

    Args:
        subject: whose golden inputs the backbone is checked on.
        backend: of Triton.
    """

    def __init__(self, subject: Subject, backend: Backend) -> None:
        model = BackboneModel.of(subject.stored.digest, subject.stored.config, subject.kind)
        self._subject = subject
        self._outline = Outline.of_backbone(model)
        self._model = TritonModel(
            name=model.name,
            outline=self._outline,
            backend=backend,
            delay_microseconds=0,  # who asks for features alone has made batches already
            parameters={DIGEST_PARAMETER: model.digest},
        )
        self.name = model.name

    def is_there(self, repository: Path) -> bool:
        """Whether a model repository has it.

        Raises:
            Conflict: it has it for the other backend, or something else of that name.
        """
        found = read_config(repository / self.name)
        if found is None:
            return False
        if found.parameters[DIGEST_PARAMETER].string_value != self._subject.stored.digest:
            raise Conflict(f"{self.name} is another model there; name another directory")
        if found.backend != self._model.backend:
            raise Conflict(f"{self.name} is there for the backend {found.backend}; name that, or another directory")
        return True

    def write(self, root: Path) -> None:
        """Writes the model's directory below another one."""
        self._model.write(root / self.name)
        folder = root / self.name / VERSION
        storage.make_directory(folder)
        subject = self._subject
        module = torch_graph(subject.backbone, subject.example, subject.kind)
        write_graph(module, subject.backbone, [subject.example], self._outline, folder / GRAPH)
        if self._model.backend == "python":
            storage.write_file(folder / "model.py", MODEL_FILE.read_bytes())

    def check_again(self, repository: Path) -> ExportReport:
        """As `check`, of what was written before."""
        try:
            return self.check(repository)
        except ExportFailed as error:
            raise ExportFailed(
                f"{self.name} is damaged there; delete it, and export again ({error.message})"
            ) from error

    def check(self, root: Path) -> ExportReport:
        """Compares the graph that was written below a directory with torch.

        Raises:
            ExportFailed: it gives other features.
        """
        subject = self._subject
        session = OnnxSession(root / self.name / VERSION / GRAPH, self._outline)
        collate = subject.predictor.preprocessor.collate

        def expected(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
            features = subject.predictor.engine.features(collate(rows), subject.kind)
            return {FEATURES: subject.vectors(features.values, rows)}

        def found(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
            return {name: subject.vectors(each, rows) for name, each in session.run([collate(rows)]).items()}

        return ExportReport.of(
            subject,
            expected,
            found,
            what=self.name,
            form=f"triton ({self._model.backend})",
            place=f"{self.name}/{VERSION}",
            checked_with="onnxruntime",
            tensors=self._outline.document(),
        )
