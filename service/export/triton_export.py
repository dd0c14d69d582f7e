"""A model repository for NVIDIA Triton: whole versions, and the backbones that they stand on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from models import storage
from models.errors import Conflict, InvalidParameter
from models.repository import BACKBONES
from service.export.labels import LABELS, label_lines
from service.export.onnx_graph import GRAPH
from service.export.placing import CANNOT_WRITE, place, staged_beside
from service.export.python_backend import MODEL_FILE
from service.export.report import ExportReport
from service.export.subject import Subject
from service.export.triton_backbone import BackboneExport
from service.export.triton_config import Backend, TritonModel, interface, read_config
from service.export.version_graph import VersionGraph


def export_triton(
    subject: Subject, directory: Path, backend: Backend, say: Callable[[str], None], *, backbone_only: bool = False
) -> Sequence[ExportReport]:
    """Adds a version and its backbone to a model repository of Triton, which is made where it is not there yet.

    Args:
        directory: the model repository.
        say: told what is being done.
        backbone_only: leaves out the version.

    Raises:
        InvalidParameter: the directory is something else, or its model has other tensors or labels than this version.
        Conflict: the version is there already, or the backbone for another backend.
        ExportFailed: there is no such graph, or it does not answer as the version does; nothing was written.
        StorageFailed: the disk is full or read-only.
    """
    _check_repository(directory)
    backbone = BackboneExport(subject, backend)
    version = None if backbone_only else _VersionExport(subject, backend)
    is_there = backbone.is_there(directory)
    is_new = version is not None and version.check_room(directory)
    reports = []
    with storage.reporting(CANNOT_WRITE), staged_beside(directory) as staged:
        if is_there:
            say(f"checking {backbone.name}, which is there")
            reports.append(backbone.check_again(directory))
        else:
            say(f"writing {backbone.name}")
            backbone.write(staged)
            reports.append(backbone.check(staged))
        if version is not None:
            say(f"writing {subject.version}")
            version.write(staged, with_config=is_new)
            reports.append(version.check(staged))
        for report in reports[1 if is_there else 0 :]:
            report.write(staged)
        if not is_there:
            place(staged / backbone.name, directory / backbone.name)
        if version is not None:
            new = version.name if is_new else f"{version.name}/{version.number}"
            place(staged / new, directory / new)
    return reports


class _VersionExport:
    def __init__(self, subject: Subject, backend: Backend) -> None:
        self._subject = subject
        self._graph = VersionGraph(subject)
        self.name = subject.version.name
        self.number = str(subject.version.number)
        labels = subject.version.manifest.labels
        self._model = TritonModel(
            name=self.name,
            outline=self._graph.outline,
            backend=backend,
            label_output=self._graph.label_output,
        )
        self._labels = label_lines(labels)

    def check_room(self, repository: Path) -> bool:
        """Whether a repository lacks the model altogether; raises unless this version can come to stand in it."""
        directory = repository / self.name
        found = read_config(directory)
        if found is None:
            if directory.exists():
                raise InvalidParameter(f"{self.name} has no config.pbtxt there; name another directory")
            return True
        if (directory / self.number).exists():
            raise Conflict(f"{self._subject.version} is there already; delete it to export it again")
        if found.backend != self._model.backend:
            raise Conflict(f"{self.name} is there for the backend {found.backend}; name that, or another directory")
        if interface(found) != interface(self._model.config()):
            raise InvalidParameter(
                f"{self._subject.version} has other tensors than the versions of {self.name} that are there, and Triton has one "
                "configuration for all of them; name another directory"
            )
        if _read(directory / LABELS) != self._labels:
            raise InvalidParameter(
                f"{self._subject.version} has other labels than the versions of {self.name} that are there, and Triton has one "
                "list for all of them; name another directory"
            )
        return False

    def write(self, root: Path, *, with_config: bool) -> None:
        directory = root / self.name
        folder = directory / self.number
        storage.make_directory(folder)
        if with_config:
            self._model.write(directory)
            if self._labels:
                storage.write_file(directory / LABELS, self._labels)
        self._graph.write(folder / GRAPH)
        if self._model.backend == "python":
            storage.write_file(folder / "model.py", MODEL_FILE.read_bytes())

    def check(self, root: Path) -> ExportReport:
        place = f"{self.name}/{self.number}"
        return self._graph.check(root / place / GRAPH, form=f"triton ({self._model.backend})", place=place)


def _check_repository(directory: Path) -> None:
    """A model repository holds folders of models, and nothing else is written beside what is something else."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise InvalidParameter(f"{directory} is no directory; name a new one")
    if (directory / BACKBONES).is_dir():
        raise InvalidParameter(f"{directory} is a model repository of Graftwork, not of Triton; name another directory")
    for each in directory.iterdir():
        if not each.name.startswith(".") and each.name != "lost+found" and not each.is_dir():
            raise InvalidParameter(f"{directory} is no model repository of Triton: it has {each.name}; name a new one")


def _read(file: Path) -> bytes:
    try:
        return storage.read_file(file)
    except FileNotFoundError:
        return b""
