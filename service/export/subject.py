"""What is exported, and what it has to answer: a version of the repository beside its backbone in torch's float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from models.backbone import Modality
from models.batch import Batch, PairRow, Row, TextRow
from models.features import FeatureKind, Features
from models.golden import GoldenSet
from models.head_inputs import head_inputs
from models.predictor import Predictor, check_reads, read_head
from models.preprocessor import build_preprocessor
from models.repository import ModelRepository
from models.sample_batches import sample_rows
from models.task import Task
from models.torch_engine import TorchEngine
from models.version import ModelVersion, Reference

if TYPE_CHECKING:
    from models.backbone_store import StoredBackbone, TorchBackbone


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A version that is intact, and whose golden inputs get their scores in torch.

    Attributes:
        backbone: in memory, fp32, in eval mode.
        predictor: answers with it.
    """

    version: ModelVersion
    stored: StoredBackbone
    backbone: TorchBackbone
    predictor: Predictor
    golden: GoldenSet

    @classmethod
    def read(cls, repository: ModelRepository, reference: Reference) -> Subject:
        """Reads every byte of a version and of its backbone.

        Raises:
            ModelNotFound, VersionNotFound: there is none.
            VersionCorrupt: it is damaged, or answers its golden inputs in another way than at publishing.
        """
        version = repository.resolve(reference)
        manifest = version.manifest
        repository.verify(version)
        stored = repository.backbones.verify(manifest.backbone.digest)
        check_reads(manifest, stored.config)
        backbone = stored.load()
        predictor = Predictor(
            preprocessor=build_preprocessor(manifest.preprocessor, stored.directory, manifest.kind),
            engine=TorchEngine(backbone),
            head=read_head(version.directory, manifest),
            labels=manifest.labels,
            task=manifest.task,
            calibration=manifest.reference.calibration,
        )
        golden = GoldenSet.read(version.directory, manifest.modality)
        golden.check(predictor)
        return cls(version=version, stored=stored, backbone=backbone, predictor=predictor, golden=golden)

    @property
    def kind(self) -> FeatureKind:
        """Of the features that the head reads."""
        return self.version.manifest.kind

    @property
    def is_separate(self) -> bool:
        """Whether it reads pairs as two rows."""
        return self.version.manifest.pair == "separate"

    @cached_property
    def golden_rows(self) -> Sequence[Row]:
        return [self.predictor.preprocessor.prepare(item, truncate=True) for item in self.golden.items]

    @cached_property
    def example(self) -> Batch:
        """What a graph is traced with: two rows that have nothing to do with those that it is checked on."""
        return self.predictor.preprocessor.collate(sample_rows(self.stored, 2))

    def batches(self) -> Sequence[Sequence[Row]]:
        """What an export is checked on: the golden inputs together, each alone, and all of them twice; then texts of other lengths."""
        golden = self.golden_rows
        return [golden, *([row] for row in golden), [*golden, *golden], *self._of_other_lengths()]

    def _of_other_lengths(self) -> Sequence[Sequence[Row]]:
        """Golden texts may all have the length that a graph was traced with, for which alone it may hold. (Words have no samples.)"""
        if self.stored.config.modality is not Modality.TEXT or self.kind is FeatureKind.TOKENS:
            return []
        rows = [row for row in sample_rows(self.stored, 6)[2:] if isinstance(row, TextRow)]
        if self.is_separate:
            pairs = [PairRow(first=first, second=second) for first, second in pairwise(rows)]
            return [pairs, pairs[:1]]
        return [rows, rows[:1]]

    def tensors(self, rows: Sequence[Row]) -> Sequence[Batch]:
        """What goes into a graph: one batch, or one of first and one of second texts for pairs that are two rows."""
        collate = self.predictor.preprocessor.collate
        if not self.is_separate:
            return [collate(rows)]
        pairs = [row for row in rows if isinstance(row, PairRow)]
        return [collate([pair.first for pair in pairs]), collate([pair.second for pair in pairs])]

    def expected(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        """What the version answers: by the names of a graph's outputs, a row for each vector that the head reads, ``(V, *)``."""
        predictor = self.predictor
        features = predictor.engine.features(predictor.preprocessor.collate(rows), self.kind)
        (inputs,) = head_inputs(features, rows)
        vectors_VD = inputs.vectors_VD
        if predictor.task is Task.EMBEDDING:
            return {"embedding": vectors_VD}
        scores_VC = predictor.scores(vectors_VD)
        if predictor.task is Task.REGRESSION:
            return {"score": scores_VC, "embedding": vectors_VD}
        return {"logits": self._logits(vectors_VD), "probabilities": scores_VC, "embedding": vectors_VD}

    def vectors(self, values: torch.Tensor, rows: Sequence[Row]) -> torch.Tensor:
        """Of a graph's output ``(B, *)`` or ``(B, T, *)`` those rows that `expected` has."""
        if self.kind is FeatureKind.POOLED:
            return values
        (inputs,) = head_inputs(Features(kind=self.kind, values=values), rows)
        return inputs.vectors_VD

    def _logits(self, vectors_VD: torch.Tensor) -> torch.Tensor:
        """What the head gives before temperature and activation."""
        head = self.predictor.head
        logits = head.logits(vectors_VD.numpy(), range(len(vectors_VD)))
        return torch.from_numpy(logits).view(len(vectors_VD), head.classes)
