"""A checkpoint as a version, without training: its own classifier, or its embeddings."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence

import torch

from finetune.publishing import FittedHead, Graft, publish
from models.backbone import Modality
from models.backbone_store import StoredBackbone
from models.batch import Row, collate
from models.engine import Engine, EngineSource
from models.features import FeatureKind
from models.head import Head, scores_by_head
from models.precision import Precision
from models.preprocessor import RawItem
from models.repository import ModelRepository
from models.sample_batches import sample_rows
from models.sources import fetch_checkpoint
from models.task import Task
from models.version import ModelVersion, check_name

logger = logging.getLogger(__name__)

LEAST_AGREEMENT = 0.99  # share of rows that get the label that fp32 gives
# Mean cosine of embeddings with those of fp32. That of all-MiniLM-L6-v2 is .998 on the inputs here and .993 on texts of public
# data sets, where its embeddings in 8 bits are as good: rank correlation with the similarity of STS-B's pairs .821 instead of
# .820, and .887 instead of .888 of texts have a nearest neighbour with their own label.
LEAST_COSINE = 0.98
COMPARED_ROWS = 128
BATCH_ROWS = 16
SAMPLE_TEXTS = (
    "Where is my card? It has not come yet.",
    "the cat sat on the mat",
    "In 1687 Newton published the laws of motion, from which the orbits of the planets follow.",
    "Grüße aus Köln: 3 Karten für 42,50 €!",
)


def import_checkpoint(
    repository: ModelRepository, backbone_name: str, name: str, engines: EngineSource, *, embedding: bool = False
) -> ModelVersion:
    """Publishes a checkpoint as it is: the linear classifier that comes with it, or else its features, as embeddings.

    Args:
        repository: where to.
        backbone_name: such as ``timm:tf_efficientnet_lite0``.
        name: of the model.
        engines: make the engines that compute the golden outputs, and say in which precisions.
        embedding: leaves out the classifier.

    Raises:
        BackboneNotFound: there is no such checkpoint.
    """
    check_name(name)
    checkpoint = fetch_checkpoint(backbone_name)
    stored = repository.backbones.add(checkpoint)
    classifier = None if embedding else checkpoint.classifier
    if classifier is None:
        head = Head.none(stored.config.feature_dim)
    else:
        head = Head(weight_CD=classifier.weight_CD, bias_C=classifier.bias_C)
    images = checkpoint.config.modality is Modality.IMAGE
    graft = Graft(
        name=name,
        backbone=stored,
        preprocessor=checkpoint.preprocessor,
        heads=_fitted_heads(stored, head, engines),
        labels=() if classifier is None else classifier.labels,
        golden_items=_sample_photographs() if images else SAMPLE_TEXTS,
        task=Task.EMBEDDING if classifier is None else Task.SINGLE_LABEL,
    )
    return publish(repository, graft)


def _fitted_heads(stored: StoredBackbone, head: Head, engines: EngineSource) -> dict[Precision, FittedHead]:
    """The head in every precision; it is that of fp32, so that others have to give the same labels, or like embeddings."""
    reference = engines.build(stored, Precision.FP32)
    fitted = {Precision.FP32: FittedHead(engine=reference, head=head)}
    others = [precision for precision in engines.precisions(stored) if precision is not Precision.FP32]
    if others:
        rows = sample_rows(stored, 2 * COMPARED_ROWS)[COMPARED_ROWS:]  # activations were calibrated on those before
        wanted_ND = _features(reference, rows)
    for precision in others:
        try:
            engine = engines.build(stored, precision)
        except Exception as error:  # fp32 is there
            logger.warning("%s is left out: %s", precision, error)
            continue
        agreement, refused = _compared(_features(engine, rows), wanted_ND, head)
        fitted[precision] = FittedHead(engine=engine, head=head, agreement=agreement, refused=refused)
    return fitted


def _compared(found_ND: torch.Tensor, wanted_ND: torch.Tensor, head: Head) -> tuple[float, str | None]:
    """How far features agree with those of fp32, and why they must not serve; None where they may."""
    if head.classes == 0:
        cosine = max(0.0, float(torch.cosine_similarity(found_ND, wanted_ND).mean()))  # 0 also where it is no number
        if cosine >= LEAST_COSINE:
            return cosine, None
        return cosine, f"its mean cosine with fp32 is {cosine:.3f} on fixed inputs, and {LEAST_COSINE} is asked for"
    agreement = float((_labels(found_ND, head) == _labels(wanted_ND, head)).float().mean())
    if agreement >= LEAST_AGREEMENT:
        return agreement, None
    return (
        agreement,
        f"it gives the label of fp32 for {agreement:.1%} of fixed inputs, and {LEAST_AGREEMENT:.0%} are asked for",
    )


def _features(engine: Engine, rows: Sequence[Row]) -> torch.Tensor:
    """Those of rows, ``(N, D)``."""
    batches = [collate(rows[start : start + BATCH_ROWS]) for start in range(0, len(rows), BATCH_ROWS)]
    return torch.cat([engine.features(batch, FeatureKind.POOLED).values for batch in batches])


def _labels(features_ND: torch.Tensor, head: Head) -> torch.Tensor:
    """The index of each row's best class, ``(N,)``."""
    scores = scores_by_head(features_ND, [head] * len(features_ND), [1.0] * len(features_ND))
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
