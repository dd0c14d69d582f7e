"""A checkpoint's own classifier as a version, without training."""

from __future__ import annotations

import io
from collections.abc import Callable

from finetune.publishing import Graft, publish
from models.backbone_store import StoredBackbone
from models.engine import Engine
from models.errors import BackboneNotFound
from models.head import Head
from models.preprocessor import RawItem
from models.repository import ModelRepository
from models.sources import fetch_checkpoint
from models.version import ModelVersion, check_name


def import_classifier(
    repository: ModelRepository, backbone_name: str, name: str, build_engine: Callable[[StoredBackbone], Engine]
) -> ModelVersion:
    """Publishes the linear classifier that comes with a timm checkpoint.

    Args:
        repository: where to.
        backbone_name: such as ``timm:tf_efficientnet_lite0``.
        name: of the model.
        build_engine: makes the engine that computes the golden outputs.

    Raises:
        BackboneNotFound: there is no such checkpoint, or it has no linear classifier on its pooled features.
    """
    check_name(name)
    checkpoint = fetch_checkpoint(backbone_name)
    classifier = checkpoint.classifier
    if classifier is None:
        raise BackboneNotFound(
            f"'{backbone_name}' has no linear classifier of its own; learn one from your data: graftwork finetune"
        )
    stored = repository.backbones.add(checkpoint)
    graft = Graft(
        name=name,
        backbone=stored,
        engine=build_engine(stored),
        preprocessor=checkpoint.preprocessor,
        head=Head(weight_CD=classifier.weight_CD, bias_C=classifier.bias_C),
        labels=classifier.labels,
        temperature=1.0,
        golden_items=_sample_photographs(),
        card={"strategy": "none: the checkpoint's own classifier"},
    )
    return publish(repository, graft)


def _sample_photographs() -> list[RawItem]:
    """scikit-learn's two photographs, as PNG files."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    files: list[RawItem] = []
    for pixels_HWC in load_sample_images().images:
        buffer = io.BytesIO()
        Image.fromarray(pixels_HWC).save(buffer, "PNG")
        files.append(buffer.getvalue())
    return files
