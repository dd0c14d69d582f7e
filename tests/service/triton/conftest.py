"""Backbones of the tiny models, as Triton has them."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from models.repository import ModelRepository
from models.version import Reference
from service.export.subject import Subject
from service.export.triton_export import export_triton
from tests.service.triton.triton_process import triton_environment

OFFLOADED = ("colours", "letters", "names")  # one for each backbone, and kind of features


@pytest.fixture(scope="session")
def offloaded(models_on_disk: Path, tasks_on_disk: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """``repository``: all tiny models; ``backbones``: theirs, in a model repository of Triton."""
    triton_environment()
    root = tmp_path_factory.mktemp("offloaded")
    for source in (models_on_disk, tasks_on_disk):
        shutil.copytree(source, root / "repository", dirs_exist_ok=True)
    for name in OFFLOADED:
        subject = Subject.read(ModelRepository(root / "repository"), Reference(name=name))
        export_triton(subject, root / "triton", "python", lambda _: None, backbone_only=True)
    return SimpleNamespace(repository=root / "repository", backbones=root / "triton")
