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
from models.batch import ImageRow, Row, TextRow
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
    """

    def __init__(
        self,
        examples: Sequence[Example],
        config: ImagePreprocessorConfig | TextPreprocessorConfig,
        directory: Path,
        *,
        augment: Augmentation,
        seed: int,
    ) -> None:
        self._examples, self._config, self._directory = examples, config, directory
        self._kind, self._seed = augment, seed

    @cached_property
    def preprocessor(self) -> Preprocessor:
        return build_preprocessor(self._config, self._directory)

    @cached_property
    def _augment(self) -> Augment | None:
        if self._kind == "none" or not isinstance(self._config, ImagePreprocessorConfig):
            return None
        return augmentation(self._kind, self._config)

    @cached_property
    def texts(self) -> Sequence[TextRow] | None:
        """Texts are tokenised once, for all epochs; None for images."""
        if isinstance(self._config, ImagePreprocessorConfig):
            return None
        rows = [self.preprocessor.prepare(example.read(), truncate=True) for example in self._examples]
        return [row for row in rows if isinstance(row, TextRow)]

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, key: tuple[int, int]) -> Row:
        """The row of an epoch and a number."""
        epoch, number = key
        if self.texts is not None:
            return self.texts[number]
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
