"""One ONNX graph, with labels, tokenizer and a card that says how to run it."""

from __future__ import annotations

from pathlib import Path

from models import storage
from models.backbone import Modality
from service.export.card import onnx_card
from service.export.labels import LABELS, label_lines
from service.export.onnx_graph import GRAPH
from service.export.report import ExportReport
from service.export.subject import Subject
from service.export.version_graph import VersionGraph


class OnnxFormat:
    """A `service.export.directory_export.DirectoryFormat`: the files by name are

    model.onnx, labels.txt, preprocessor.json, tokenizer.json (texts), manifest.json, README.md
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._graph = VersionGraph(subject)

    def write(self, directory: Path) -> None:
        manifest = self._subject.version.manifest
        self._graph.write(directory / GRAPH)
        storage.write_file(directory / "preprocessor.json", manifest.preprocessor.model_dump_json(indent=1).encode())
        if manifest.labels:
            storage.write_file(directory / LABELS, label_lines(manifest.labels))
        if manifest.modality is Modality.TEXT:
            tokenizer = storage.read_file(self._subject.stored.directory / "tokenizer.json")
            storage.write_file(directory / "tokenizer.json", tokenizer)
        storage.write_file(directory / "README.md", onnx_card(self._subject, self._graph.outline).encode())

    def check(self, directory: Path) -> ExportReport:
        return self._graph.check(directory / GRAPH, form="onnx", place=".")
