"""A head beside weights that are not Graftwork's: ``head.safetensors``, with the temperature folded into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from models import storage
from models.head import Head
from models.task import Task
from service.export.subject import Subject
from service.export.version_module import head_layers

HEAD = "head.safetensors"


def folded(subject: Subject) -> Head:
    """The head whose logits need only the activation to be calibrated scores."""
    head, temperature = subject.predictor.head, subject.predictor.calibration.temperature
    return replace(head, weight_CD=head.weight_CD / temperature, bias_C=head.bias_C / temperature)


def write_head(subject: Subject, directory: Path) -> None:
    """Writes `HEAD`; nothing for an embedding."""
    if subject.predictor.task is not Task.EMBEDDING:
        storage.write_file(directory / HEAD, folded(subject).to_bytes())


def answers(subject: Subject, directory: Path, vectors_VD: torch.Tensor) -> Mapping[str, torch.Tensor]:
    """What the head that was written makes of vectors: a part of what `Subject.expected` has, by the same names."""
    if subject.predictor.task is Task.EMBEDDING:
        return {"embedding": vectors_VD}
    head = Head.from_bytes(storage.read_file(directory / HEAD), subject.predictor.head.activation)
    return {"embedding": vectors_VD, **scores(subject, head_layers(head)(vectors_VD))}


def scores(subject: Subject, logits_VC: torch.Tensor) -> Mapping[str, torch.Tensor]:
    """Of logits that the temperature is folded into."""
    match subject.predictor.head.activation:
        case "identity":
            return {"score": logits_VC}
        case "sigmoid":
            return {"probabilities": logits_VC.sigmoid()}
        case "softmax":
            return {"probabilities": logits_VC.softmax(dim=-1)}
