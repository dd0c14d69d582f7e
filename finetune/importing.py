"""A checkpoint's own classifier as a version, without training."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence

import torch

from finetune.publishing import FittedHead, Graft, publish
from models.backbone_store import StoredBackbone
from models.batch import Row, collate
from models.engine import Engine, EngineSource
from models.errors import BackboneNotFound
from models.features import FeatureKind
from models.head import Head, scores_by_head
from models.precision import Precision
from models.preprocessor import RawItem
from models.repository import ModelRepository
from models.sample_batches import sample_rows
from models.sources import fetch_checkpoint
from models.version import ModelVersion, check_name

logger = logging.getLogger(__name__)

LEAST_AGREEMENT = 0.99  # share of rows that get the label that fp32 gives
COMPARED_ROWS = 128
BATCH_ROWS = 16


def import_classifier(
    repository: ModelRepository, backbone_name: str, name: str, engines: EngineSource
) -> ModelVersion:
    """Publishes the linear classifier that comes with a timm checkpoint.

    Args:
        repository: where to.
        backbone_name: such as ``timm:tf_efficientnet_lite0``.
        name: of the model.
        engines: make the engines that compute the golden outputs, and say in which precisions.

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
    head = Head(weight_CD=classifier.weight_CD, bias_C=classifier.bias_C)
    graft = Graft(
        name=name,
        backbone=stored,
        preprocessor=checkpoint.preprocessor,
        heads=_fitted_heads(stored, head, engines),
        labels=classifier.labels,
        golden_items=_sample_photographs(),
    )
    return publish(repository, graft)


def _fitted_heads(stored: StoredBackbone, head: Head, engines: EngineSource) -> dict[Precision, FittedHead]:
    """The classifier in every precision; it was trained in fp32, so that others have to give the same labels."""
    reference = engines.build(stored, Precision.FP32)
    fitted = {Precision.FP32: FittedHead(engine=reference, head=head)}
    others = [precision for precision in engines.precisions(stored) if precision is not Precision.FP32]
    if others:
        rows = sample_rows(stored, 2 * COMPARED_ROWS)[COMPARED_ROWS:]  # activations were calibrated on those before
        labels_N = _labels(reference, head, rows)
    for precision in others:
        try:
            engine = engines.build(stored, precision)
        except Exception as error:  # fp32 is there
            logger.warning("%s is left out: %s", precision, error)
            continue
        agreement = float((_labels(engine, head, rows) == labels_N).float().mean())
        refused = None
        if agreement < LEAST_AGREEMENT:
            refused = f"it gives the label of fp32 for {agreement:.1%} of fixed inputs, and {LEAST_AGREEMENT:.0%} are asked for"
        fitted[precision] = FittedHead(engine=engine, head=head, agreement=agreement, refused=refused)
    return fitted


def _labels(engine: Engine, head: Head, rows: Sequence[Row]) -> torch.Tensor:
    """The index of each row's best class, ``(N,)``."""
    batches = [collate(rows[start : start + BATCH_ROWS]) for start in range(0, len(rows), BATCH_ROWS)]
    features_ND = torch.cat([engine.features(batch, FeatureKind.POOLED).values for batch in batches])
    scores = scores_by_head(features_ND, [head] * len(rows), [1.0] * len(rows))
    return torch.tensor([scores_C.argmax() for scores_C in scores])


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
