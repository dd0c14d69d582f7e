"""What each task fixes for its head."""

from __future__ import annotations

import pytest

from models.features import FeatureKind
from models.task import Task


@pytest.mark.parametrize("task", Task)
def test_every_task_fixes_its_head(task: Task) -> None:
    traits = task.traits
    assert traits.activation in {"softmax", "sigmoid", "identity"}
    assert (traits.loss == "none") == (task is Task.EMBEDDING)
    assert (traits.features is FeatureKind.TOKENS) == (task is Task.TOKEN_CLASSIFICATION)
    assert f"| {task} |" in (Task.__doc__ or "")
