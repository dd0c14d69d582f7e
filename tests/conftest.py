"""The real thing in miniature, shared by all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from finetune.importing import import_checkpoint
from models.repository import ModelRepository
from tests.server_process import ServerProcess, ready_server
from tests.tiny_models import (
    LETTERS,
    MOODS,
    TorchEngines,
    copy_of_texts,
    publish_tasks,
    publish_texts,
    write_tiny_text,
    write_tiny_vision,
)

settings.register_profile("graftwork", deadline=None)  # how long an example takes is not for a test to say
settings.load_profile("graftwork")


@pytest.fixture(scope="session")
def tiny_vision(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny real timm architecture with random weights and 3 classes, as a directory: its backbone name."""
    return write_tiny_vision(tmp_path_factory.mktemp("tiny-vision"))


@pytest.fixture(scope="session")
def tiny_text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny real BERT with random weights and a word-piece tokenizer of letters: its backbone name."""
    return write_tiny_text(tmp_path_factory.mktemp("tiny-text"))


@pytest.fixture
def shared_data() -> Path:
    """The folder with the eight public data sets, where the machine has it."""
    directory = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not directory.is_dir():
        pytest.skip(f"needs the data sets in {directory}")
    return directory


@pytest.fixture(scope="session")
def models_on_disk(tmp_path_factory: pytest.TempPathFactory, tiny_vision: str, tiny_text: str) -> Path:
    """A repository with ``colours:1`` for images, and ``letters:1`` and ``moods:1`` on one text encoder; read only."""
    repository = ModelRepository(tmp_path_factory.mktemp("models") / "repository")
    import_checkpoint(repository, tiny_vision, "colours", TorchEngines())
    publish_texts(repository, tiny_text, "letters", LETTERS, seed=1)
    publish_texts(repository, tiny_text, "moods", MOODS, seed=2)
    return repository.root


@pytest.fixture(scope="session")
def tasks_on_disk(tmp_path_factory: pytest.TempPathFactory, tiny_text: str) -> Path:
    """A repository with a model for each task (`tests.tiny_models.publish_tasks`), ``letters:1``, and ``vectors:1``, which has no
    head; all on one backbone; read only.
    """
    repository = ModelRepository(tmp_path_factory.mktemp("tasks") / "repository")
    publish_texts(repository, tiny_text, "letters", LETTERS, seed=1)
    publish_tasks(repository, tiny_text)
    import_checkpoint(repository, tiny_text, "vectors", TorchEngines())
    return repository.root


@pytest.fixture
def texts_on_disk(tmp_path: Path, models_on_disk: Path) -> ModelRepository:
    """A copy with the text models only, to be changed at will."""
    copy_of_texts(models_on_disk, tmp_path / "repository")
    return ModelRepository(tmp_path / "repository")


@pytest.fixture(scope="session")
def server(models_on_disk: Path) -> Iterator[ServerProcess]:
    """One server of all tiny models, for tests that leave it as it is."""
    with ready_server(models_on_disk) as server:
        yield server
