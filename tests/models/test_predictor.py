"""A version in memory: from published files back to the same scores."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from models.backbone import BackboneConfig, Modality
from models.backbone_store import StoredBackbone
from models.errors import EmptyText, ImageTruncated, VersionCorrupt
from models.golden import GoldenSet
from models.head import Head
from models.manifest import BackboneReference, Calibration, EngineReference, HeadRecord, Manifest
from models.precision import Precision
from models.predictor import Predictor, check_reads, read_head
from models.preprocessor import ImagePreprocessorConfig, RawItem, TextPreprocessorConfig, build_preprocessor
from models.repository import ModelRepository
from models.sources import fetch_checkpoint
from models.task import Task
from models.torch_engine import TorchEngine
from models.version import ModelVersion, Reference
from tests.models.pictures import encode, picture
from tests.models.versions import manifest as flowers

LABELS = ("a", "b", "c")


def items_of(modality: Modality) -> list[RawItem]:
    if modality is Modality.IMAGE:
        return [encode(picture(), "PNG"), encode(picture(90, 80), "JPEG"), encode(picture(64, 64), "WEBP")]
    return ["a text", "another one", "a text of more than sixty-four letters, " * 3]


def build(
    stored: StoredBackbone, preprocessor: ImagePreprocessorConfig | TextPreprocessorConfig, head: Head
) -> Predictor:
    return Predictor(
        preprocessor=build_preprocessor(preprocessor, stored.directory),
        engine=TorchEngine(stored.load()),
        head=head,
        labels=LABELS,
        calibration=Calibration(temperature=1.5),
    )


@pytest.fixture(params=["vision", "text"])
def published(
    request: pytest.FixtureRequest, tiny_vision: str, tiny_text: str, tmp_path: Path
) -> tuple[ModelRepository, ModelVersion, torch.Tensor]:
    """A repository with one whole version, and the scores that its golden items got in memory."""
    repository = ModelRepository(tmp_path)
    checkpoint = fetch_checkpoint(tiny_vision if request.param == "vision" else tiny_text)
    stored = repository.backbones.add(checkpoint)
    config = stored.config
    torch.manual_seed(3)
    head = Head(weight_CD=torch.randn(3, config.feature_dim), bias_C=torch.randn(3))
    predictor = build(stored, checkpoint.preprocessor, head)
    items = items_of(config.modality)
    scores_NC = predictor.predict(items)
    golden = GoldenSet.of(predictor, items)
    manifest = Manifest(
        name="flowers",
        number=1,
        task=Task.SINGLE_LABEL,
        modality=config.modality,
        labels=LABELS,
        backbone=BackboneReference(source=config.source, digest=stored.digest, feature_dim=config.feature_dim),
        preprocessor=checkpoint.preprocessor,
        heads={
            Precision.FP32: HeadRecord(
                engine=EngineReference(identity=predictor.engine.identity), calibration=Calibration(temperature=1.5)
            )
        },
        created_at=datetime.now(UTC),
        libraries={},
    )

    def check(directory: Path) -> None:
        GoldenSet.read(directory, config.modality).check(predictor)

    version = repository.publish(manifest, {"head.safetensors": head.to_bytes(), **golden.files()}, check=check)
    return repository, version, scores_NC


def load(repository: ModelRepository) -> tuple[Predictor, GoldenSet]:
    """All that a server does with a version before it serves it."""
    version = repository.resolve(Reference.parse("flowers"))
    repository.verify(version)
    manifest = version.manifest
    stored = repository.backbones.verify(manifest.backbone.digest)
    predictor = build(stored, manifest.preprocessor, read_head(version.directory, manifest))
    return predictor, GoldenSet.read(version.directory, manifest.modality)


def test_a_version_read_back_gives_the_scores_it_was_published_with(
    published: tuple[ModelRepository, ModelVersion, torch.Tensor],
) -> None:
    repository, _, wanted_NC = published
    predictor, golden = load(repository)
    golden.check(predictor)
    scores_NC = predictor.predict(golden.items)
    assert scores_NC.dtype == torch.float64
    assert scores_NC.shape == (3, 3)
    torch.testing.assert_close(scores_NC, wanted_NC, atol=1e-6, rtol=0)
    torch.testing.assert_close(scores_NC.sum(1), torch.ones(3, dtype=torch.float64))


def test_items_are_independent_of_each_other(published: tuple[ModelRepository, ModelVersion, torch.Tensor]) -> None:
    predictor, golden = load(published[0])
    together = predictor.predict(golden.items)
    alone = torch.cat([predictor.predict([item]) for item in golden.items])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_an_item_that_cannot_be_answered_is_refused(
    published: tuple[ModelRepository, ModelVersion, torch.Tensor],
) -> None:
    predictor, golden = load(published[0])
    is_image = isinstance(golden.items[0], bytes)
    bad: RawItem = encode(picture(), "PNG")[:-9] if is_image else "  "
    with pytest.raises(ImageTruncated if is_image else EmptyText):
        predictor.predict([golden.items[0], bad])


def test_another_head_fails_the_golden_check(published: tuple[ModelRepository, ModelVersion, torch.Tensor]) -> None:
    predictor, golden = load(published[0])
    swapped = Head(weight_CD=predictor.head.weight_CD[[1, 0, 2]], bias_C=predictor.head.bias_C[[1, 0, 2]])
    other = Predictor(
        preprocessor=predictor.preprocessor,
        engine=predictor.engine,
        head=swapped,
        labels=LABELS,
        calibration=predictor.calibration,
    )
    with pytest.raises(VersionCorrupt, match="other answers than at publishing"):
        golden.check(other)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "cannot be read"),
        (b"", "damaged"),
        (b"\x80\x04 a pickle", "damaged"),
        (Head(weight_CD=torch.full((3, 16), torch.nan), bias_C=torch.zeros(3)).to_bytes(), "must be finite"),
        (Head(weight_CD=torch.zeros(2, 16), bias_C=torch.zeros(2)).to_bytes(), r"shape \(2, 16\), its manifest says"),
        (Head(weight_CD=torch.zeros(3, 15), bias_C=torch.zeros(3)).to_bytes(), r"shape \(3, 15\), its manifest says"),
    ],
    ids=["missing", "empty", "pickle", "nan", "classes", "features"],
)
def test_a_head_that_does_not_fit_its_manifest_is_refused(data: bytes | None, message: str, tmp_path: Path) -> None:
    from tests.models.versions import manifest

    if data is not None:
        (tmp_path / "head.safetensors").write_bytes(data)
    with pytest.raises(VersionCorrupt, match=f"the head of flowers:1 .*{message}") as caught:
        read_head(tmp_path, manifest(labels=LABELS))
    assert str(tmp_path) not in caught.value.message


def test_a_version_stands_on_a_backbone_of_the_kind_that_it_names() -> None:
    backbone = BackboneConfig(
        source="dir:x",
        library="transformers",
        architecture="bert",
        modality=Modality.TEXT,
        feature_dim=16,
        max_tokens=16,
    )
    check_reads(flowers(), backbone)
    check_reads(flowers(), backbone.model_copy(update={"max_tokens": None}))
    for field, value in (("feature_dim", 8), ("modality", Modality.IMAGE), ("max_tokens", 15)):
        with pytest.raises(VersionCorrupt, match=r"the backbone of flowers:1 .*, its manifest says"):
            check_reads(flowers(), backbone.model_copy(update={field: value}))
