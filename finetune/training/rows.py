"""The rows that a run learns from, each as a function of seed, epoch and its own number."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from finetune.example import Example
from finetune.training.augmentation import Augment, augmentation
from finetune.training.recipe import Augmentation
from models.batch import ImageRow, PairRow, Row, TextRow, text_length
from models.features import FeatureKind
from models.image import EncodedImage
from models.preprocessor import ImagePreprocessorConfig, Preprocessor, TextPreprocessorConfig, build_preprocessor


class TrainingRows(torch.utils.data.Dataset[Row]):
    """Decodes or tokenises examples; other processes can do it, for it can be pickled.

    Args:
        examples: all texts or all images.
        config: of the preprocessor that will serve.
        directory: of the backbone, with its tokenizer.
        augment: what becomes of images; texts stay what they are.
        seed: of the run.
        kind: of the features that the rows are for.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        config: ImagePreprocessorConfig | TextPreprocessorConfig,
        directory: Path,
        *,
        augment: Augmentation,
        seed: int,
        kind: FeatureKind,
    ) -> None:
        self._examples, self._config, self._directory = examples, config, directory
        self._augmentation, self._seed, self._kind = augment, seed, kind

    @cached_property
    def preprocessor(self) -> Preprocessor:
        return build_preprocessor(self._config, self._directory, self._kind)

    @cached_property
    def _augment(self) -> Augment | None:
        if self._augmentation == "none" or not isinstance(self._config, ImagePreprocessorConfig):
            return None
        return augmentation(self._augmentation, self._config)

    @cached_property
    def _texts(self) -> Sequence[TextRow | PairRow] | None:
        """Texts are tokenised once, for all epochs; None for images."""
        if isinstance(self._config, ImagePreprocessorConfig):
            return None
        rows = [self.preprocessor.prepare(example.read(), truncate=True) for example in self._examples]
        return [row for row in rows if isinstance(row, TextRow | PairRow)]

    @property
    def lengths(self) -> Sequence[int] | None:
        """Of texts, in tokens; None for images."""
        return None if self._texts is None else [text_length(row) for row in self._texts]

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, key: tuple[int, int]) -> Row:
        """The row of an epoch and a number."""
        epoch, number = key
        if self._texts is not None:
            return self._texts[number]
        content = self._examples[number].read()
        if self._augment is None:
            return self.preprocessor.prepare(content)
        assert isinstance(content, bytes)
        picture = EncodedImage(content).decode()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(random_seed(self._seed, epoch, number))
            return ImageRow(pixels_CHW=self._augment(picture))


def random_seed(*numbers: int) -> int:
    """One seed out of several numbers, such that near ones have nothing in common."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
