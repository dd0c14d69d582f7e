"""What the benchmarks ask for: photographs and sentences, and models that answer them."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BACKBONES = {"images": "timm:tf_efficientnet_lite0", "texts": "hf:all-MiniLM-L6-v2"}
CLASSES = 10


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One modality: what is sent, and how.

    Attributes:
        name: ``images`` or ``texts``; the model's name too.
        items: photographs as files, or texts in UTF-8.
        bodies: of the requests, an item each.
    """

    name: str
    items: Sequence[bytes]
    bodies: Sequence[bytes]
    content_type: str

    @property
    def unit(self) -> str:
        return f"{self.name}/s"


def image_workload() -> Workload:
    photos = photographs()
    return Workload(name="images", items=photos, bodies=photos, content_type="image/jpeg")


def text_workload(directory: Path) -> Workload:
    """Args: directory: for the files that the sentences come from."""
    texts = sentences(directory)
    bodies = [json.dumps({"instances": [text.decode()]}).encode() for text in texts]
    return Workload(name="texts", items=texts, bodies=bodies, content_type="application/json")


def photographs() -> list[bytes]:
    """64 JPEG files of 640x480, crops of scikit-learn's two photographs."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    files = []
    for index in range(64):
        pixels_HWC = load_sample_images().images[index % 2]
        image = Image.fromarray(pixels_HWC).crop((index // 2, index // 4, 560 + index // 2, 400 + index // 4))
        buffer = io.BytesIO()
        image.resize((640, 480)).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


def sentences(directory: Path) -> list[bytes]:
    """Sentences of 8 to 60 words from the standard library's docstrings."""
    from finetune.samples import write_sample

    with write_sample("docs", directory / "docs").open(newline="", encoding="utf-8") as file:
        return [row["text"].encode() for row in csv.DictReader(file)][:256]


def publish(repository_dir: Path, workload: Workload) -> None:
    """A model of ten classes that may serve in every precision that this machine computes in.

    Its heads are random: their values do not matter for speed. (Which of them may serve is for real data to say:
    `tests.benchmarks.accuracy`.)
    """
    import torch

    from finetune.publishing import FittedHead, Graft
    from finetune.publishing import publish as publish_graft
    from models.backbone import Modality
    from models.engine_factory import EngineFactory
    from models.head import Head
    from models.options import default_cache_dir
    from models.precision import Precision
    from models.repository import ModelRepository
    from models.sources import fetch_checkpoint

    repository = ModelRepository(repository_dir)
    checkpoint = fetch_checkpoint(BACKBONES[workload.name])
    stored = repository.backbones.add(checkpoint)
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    engines = EngineFactory("cpu", threads=cores, cache_dir=default_cache_dir(os.environ))
    random = torch.Generator().manual_seed(0)

    def fitted(precision: Precision) -> FittedHead:
        weight_CD = torch.randn(CLASSES, stored.config.feature_dim, generator=random) / 10
        head = Head(weight_CD=weight_CD, bias_C=torch.zeros(CLASSES))
        return FittedHead(engine=engines.build(stored, precision), head=head)

    is_image = stored.config.modality is Modality.IMAGE
    graft = Graft(
        name=workload.name,
        backbone=stored,
        preprocessor=checkpoint.preprocessor,
        heads={precision: fitted(precision) for precision in reversed(engines.precisions(stored))},
        labels=[f"label-{index}" for index in range(CLASSES)],
        golden_items=[item if is_image else item.decode() for item in workload.items[:4]],
    )
    publish_graft(repository, graft)
