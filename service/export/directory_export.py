"""An export that is a directory of its own: a graph with all that it needs, or what timm and transformers load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from models import storage
from models.repository import MANIFEST
from service.export.placing import CANNOT_WRITE, check_empty, place, staged_beside
from service.export.report import ExportReport
from service.export.subject import Subject


class DirectoryFormat(Protocol):
    """What makes such a directory."""

    def write(self, directory: Path) -> None:
        """Writes all files; raises `models.errors.GraftworkError` where the version cannot be had in this format."""
        ...

    def check(self, directory: Path) -> ExportReport:
        """Compares what was written with what the version answers; raises `ExportFailed` where they differ."""
        ...


def export_directory(
    subject: Subject, directory: Path, form: DirectoryFormat, say: Callable[[str], None]
) -> Sequence[ExportReport]:
    """Makes a directory with one version, as it was checked, or none at all.

    Args:
        say: told what is being done.

    Raises:
        InvalidParameter: the directory has something in it.
        ExportFailed: what was written does not answer as the version does.
        StorageFailed: the disk is full or read-only.
    """
    check_empty(directory)
    with storage.reporting(CANNOT_WRITE), staged_beside(directory) as staged:
        say(f"writing {subject.version}")
        storage.write_file(staged / MANIFEST, storage.read_file(subject.version.directory / MANIFEST))
        form.write(staged)
        say(f"checking {subject.version}")
        report = form.check(staged)
        report.write(staged)
        place(staged, directory)
    return [report]
