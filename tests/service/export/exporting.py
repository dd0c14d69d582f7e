"""Exports as a user makes them, and what the version answers beside them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from graftwork import app
from models.errors import GraftworkError
from models.repository import ModelRepository
from models.version import Reference
from service.export.subject import Subject


def export(repository: Path, reference: str, form: str, to: Path, *options: str) -> list[dict[str, Any]]:
    """``graftwork models export``: the exports of its JSON document."""
    arguments = ["models", "export", reference, "--format", form, "--to", str(to), "--repository", str(repository)]
    done = CliRunner().invoke(app, [*arguments, *options, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    exports: list[dict[str, Any]] = json.loads(done.stdout)["exports"]
    return exports


def refusal(kind: type[GraftworkError], repository: Path, reference: str, form: str, to: Path, *options: str) -> str:
    """The message that an export ends with."""
    with pytest.raises(kind) as caught:
        export(repository, reference, form, to, *options)
    return caught.value.message


def subject(repository: Path, reference: str) -> Subject:
    return Subject.read(ModelRepository(repository), Reference.parse(reference))


def files(directory: Path) -> set[str]:
    return {str(each.relative_to(directory)) for each in directory.rglob("*") if each.is_file()}


def run_card(directory: Path) -> str:
    """What the program of an export's card prints, run where the export lies."""
    (program,) = re.findall(r"```python\n(.*?)```", (directory / "README.md").read_text(), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return found.shape == wanted.shape and torch.allclose(found.double(), wanted.double(), atol=1e-5, rtol=1e-4)
