from __future__ import annotations

import torch

from finetune.training.reading import Reading


def test_it_says_what_was_there_when_it_was_asked_for() -> None:
    values_N = torch.tensor([0.5, float("inf"), -2.0], requires_grad=True)
    assert Reading(values_N).values() == [0.5, float("inf"), -2.0]
