"""Items in memory, and a tiny real backbone that their features are extracted with."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from finetune.extraction import Extraction, extract_features
from finetune.feature_cache import FeatureCache
from models.backbone_store import BackboneStore, build_backbone
from models.batch import Batch, ImageBatch
from models.features import FeatureKind, Features
from models.preprocessor import Preprocessor, build_preprocessor
from models.sources import fetch_checkpoint
from models.torch_engine import TorchEngine


@dataclass(frozen=True, kw_only=True)
class Content:
    """An item in memory that notes when it is read."""

    source: str
    content: bytes | str
    reads: list[str] = field(default_factory=list)

    @property
    def digest(self) -> str:
        data = self.content if isinstance(self.content, bytes) else self.content.encode()
        return hashlib.sha256(data).hexdigest()

    def read(self) -> bytes | str:
        self.reads.append(self.source)
        return self.content


@dataclass(frozen=True, kw_only=True)
class PairContent:
    """Two texts in memory."""

    source: str
    pair: tuple[str, str]

    @property
    def digest(self) -> str:
        return hashlib.sha256("|".join(self.pair).encode()).hexdigest()

    def read(self) -> tuple[str, str]:
        return self.pair


@dataclass(kw_only=True)
class Counting:
    """An engine that notes the sizes of its batches."""

    engine: TorchEngine
    identity: str = "counting"
    streams: int = 1
    sizes: list[int] = field(default_factory=list)

    def features(self, batch: Batch, kind: FeatureKind) -> Features:
        self.sizes.append(len(batch.pixels_BCHW if isinstance(batch, ImageBatch) else batch.ids_BT))
        return self.engine.features(batch, kind)

    def warm_up(self) -> None:
        self.engine.warm_up()


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """A tiny real backbone with its preprocessor."""

    preprocessor: Preprocessor
    engine: Counting
    kind: FeatureKind = FeatureKind.POOLED

    def __call__(self, items: Sequence[Content], cache: FeatureCache | None = None, batch_size: int = 8) -> Extraction:
        return extract_features(
            items,
            preprocessor=self.preprocessor,
            engine=self.engine,
            identity=self.engine.identity,
            cache=cache,
            batch_size=batch_size,
            kind=self.kind,
            threads=2,
        )


def extractor(name: str, root: Path) -> Extractor:
    checkpoint = fetch_checkpoint(name)
    stored = BackboneStore(root).add(checkpoint)
    backbone = build_backbone(checkpoint.config, checkpoint.state)
    return Extractor(
        preprocessor=build_preprocessor(checkpoint.preprocessor, stored.directory),
        engine=Counting(engine=TorchEngine(backbone)),
    )


def images(count: int, reads: list[str] | None = None) -> list[Content]:
    items = []
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, size=(8, 8, 3), dtype=np.uint8)
        data = io.BytesIO()
        Image.fromarray(pixels).resize((70, 64)).save(data, "PNG")
        items.append(Content(source=f"{number}.png", content=data.getvalue(), reads=[] if reads is None else reads))
    return items


def texts(count: int) -> list[Content]:
    """Texts of 1 to 40 words, so that there are several buckets of lengths."""
    return [Content(source=f"data.csv:{n + 2}", content=" ".join([f"{n}"] * (n % 40 + 1))) for n in range(count)]
