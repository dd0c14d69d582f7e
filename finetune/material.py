"""What the heads of a job are fitted and judged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from finetune.example import Example
from models.backbone_store import StoredBackbone
from models.preprocessor import ImagePreprocessorConfig, PairReading, TextPreprocessorConfig
from models.task import Task


@dataclass(frozen=True, kw_only=True)
class Material:
    """What every head of a job is fitted and judged on.

    Attributes:
        task: what labels are for.
        train: every example but those of the test split.
        fresh: indices of the test examples whose content is not in the training data.
        classes: labels in the order of a head's rows.
        preprocessor: where the examples are pairs and it does not say how they are read, `find_probe` chooses.
        seed: of the cross-validation's folds and the bootstrap.
    """

    task: Task = Task.SINGLE_LABEL
    train: Sequence[Example]
    test: Sequence[Example]
    fresh: Sequence[int]
    classes: Sequence[str]
    backbone: StoredBackbone
    preprocessor: ImagePreprocessorConfig | TextPreprocessorConfig
    seed: int

    @property
    def pair(self) -> PairReading | None:
        """How its pairs of texts are read; None where it holds none, or where that is not known yet."""
        return None if isinstance(self.preprocessor, ImagePreprocessorConfig) else self.preprocessor.pair

    def readings(self) -> Sequence[Material]:
        """The same, once for each way to read its pairs of texts; as it is, where that is known or there are none."""
        config = self.preprocessor
        pairs = any(isinstance(example.text, tuple) for example in self.train[:1])
        if not pairs or isinstance(config, ImagePreprocessorConfig) or config.pair is not None:
            return [self]
        ways: list[PairReading] = ["separate"]
        if getattr(self.backbone.load(), "takes_segments", False):
            ways.append("joint")
        return [replace(self, preprocessor=config.model_copy(update={"pair": way})) for way in ways]
