"""A thousand heads on one backbone beside one head: throughput, memory, and how soon all of them are served.

Two servers stand side by side, one with a thousand models and one with a single model on the same backbone, and take turns.
Both get the same requests, from as many clients, but that those of the first go to a thousand names.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.golden import GoldenSet
    from models.head import Head
    from models.repository import ModelRepository
    from models.version import ModelVersion

HEADS = int(os.environ.get("GRAFTWORK_BENCH_HEADS", "1000"))
CLASSES = range(2, 21)  # of the heads, in turn
CLIENTS = 32
ROUNDS = 5
SECONDS = float(os.environ.get("GRAFTWORK_BENCH_SECONDS", "5"))
REPORT_BYTES = 40_000  # each of three files that a version brings along and that a worker reads to check it


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One modality.

    Attributes:
        items: raw inputs for the golden check.
        bodies: what clients send.
    """

    name: str
    backbone: str
    items: Sequence[bytes]
    bodies: Sequence[bytes]
    content_type: str
    unit: str


def publish(root: Path, workload: Workload, count: int) -> None:
    """Publishes models ``head-0000``, ``head-0001``, ... of random heads.

    The first one in the way of a job; the others with its golden features, so that a thousand take seconds.
    """
    import torch

    from finetune.publishing import Graft
    from finetune.publishing import publish as publish_graft
    from models.backbone import Modality
    from models.golden import GoldenSet
    from models.head import Head
    from models.repository import ModelRepository
    from models.sources import fetch_checkpoint
    from models.torch_engine import TorchEngine

    repository = ModelRepository(root)
    checkpoint = fetch_checkpoint(workload.backbone)
    stored = repository.backbones.add(checkpoint)
    is_text = stored.config.modality is Modality.TEXT
    torch.manual_seed(0)

    def head(index: int) -> Head:
        classes = CLASSES[index % len(CLASSES)]
        return Head(weight_CD=torch.randn(classes, stored.config.feature_dim), bias_C=torch.randn(classes))

    first = head(0)
    template = publish_graft(
        repository,
        Graft(
            name="head-0000",
            backbone=stored,
            engine=TorchEngine(stored.load()),
            preprocessor=checkpoint.preprocessor,
            head=first,
            labels=_labels(first),
            temperature=1.0,
            golden_items=[item.decode() if is_text else item for item in workload.items[:4]],
            report={f"report/{index}.bin": os.urandom(REPORT_BYTES) for index in range(3)},
        ),
    )
    golden = GoldenSet.read(template.directory, stored.config.modality)
    for index in range(1, count):
        _publish_like(repository, template, golden, f"head-{index:04d}", head(index))


def _publish_like(
    repository: ModelRepository, template: ModelVersion, golden: GoldenSet, name: str, head: Head
) -> None:
    from models.head import scores_by_head

    assert golden.features_ND is not None
    rows = len(golden.items)
    scores = scores_by_head(golden.features_ND, [head] * rows, [1.0] * rows)
    files = {path: (template.directory / path).read_bytes() for path in template.manifest.files}
    files |= dataclasses.replace(golden, scores_NC=[scores_C.tolist() for scores_C in scores]).files()
    files["head.safetensors"] = head.to_bytes()
    manifest = template.manifest.model_copy(update={"name": name, "labels": _labels(head)})
    repository.publish(manifest, files, check=lambda directory: None)


def _labels(head: Head) -> tuple[str, ...]:
    return tuple(f"label-{index}" for index in range(len(head.bias_C)))
