"""Tiny models, published as real ones are."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from finetune.publishing import FittedHead, Graft, publish
from models.backbone import Modality
from models.backbone_store import StoredBackbone
from models.batch import Batch
from models.batch_cost import UNMEASURED
from models.engine import Engine, EngineSource
from models.features import FeatureKind, Features
from models.head import Head
from models.manifest import BackboneReference, Calibration, EngineReference, HeadRecord, Manifest
from models.precision import Precision
from models.preprocessor import PAIR_WIDTH, ImagePreprocessorConfig, PairReading, TextPreprocessorConfig
from models.repository import ModelRepository
from models.sources import fetch_checkpoint
from models.task import Task
from models.torch_engine import TorchEngine
from models.version import ModelVersion


def torch_engine(stored: StoredBackbone) -> Engine:
    """The engine of a backbone, without choosing."""
    return TorchEngine(stored.load())


class TorchEngines:
    """A `models.engine.EngineSource` of engines in fp32: torch's, or those that a test makes."""

    def __init__(self, make: Callable[[StoredBackbone], Engine] = torch_engine) -> None:
        self._make = make

    def precisions(self, stored: StoredBackbone, kind: FeatureKind = FeatureKind.POOLED) -> Sequence[Precision]:
        return (Precision.FP32,)

    def build(self, stored: StoredBackbone, precision: Precision, kind: FeatureKind = FeatureKind.POOLED) -> Engine:
        return self._make(stored)

    def exact(self, stored: StoredBackbone) -> Engine:
        return torch_engine(stored)

    def reason(self, stored: StoredBackbone, precision: Precision, kind: FeatureKind = FeatureKind.POOLED) -> str:
        return "the tests know no other"


class CoarseEngine:
    """Gives the features of torch in steps: what int8 does to them, but with a loss that a test decides.

    Args:
        step: as a share of a row's largest feature.
    """

    streams = 1
    identity = "coarse/cpu/int8"
    cost = UNMEASURED

    def __init__(self, stored: StoredBackbone, step: float) -> None:
        self._engine = torch_engine(stored)
        self._step = step

    def features(self, batch: Batch, kind: FeatureKind) -> Features:
        features = self._engine.features(batch, kind)
        step = self._step * features.values.abs().amax(dim=-1, keepdim=True)
        return replace(features, values=(features.values / step).round() * step)

    def warm_up(self) -> None:
        self._engine.warm_up()


class TwoPrecisions(TorchEngines):
    """A `models.engine.EngineSource` that prefers int8.

    Args:
        step: of features in int8, as a share of a row's largest.
    """

    def __init__(self, step: float) -> None:
        super().__init__()
        self._step = step

    def precisions(self, stored: StoredBackbone, kind: FeatureKind = FeatureKind.POOLED) -> Sequence[Precision]:
        return Precision.INT8, Precision.FP32

    def build(self, stored: StoredBackbone, precision: Precision, kind: FeatureKind = FeatureKind.POOLED) -> Engine:
        return CoarseEngine(stored, self._step) if precision is Precision.INT8 else torch_engine(stored)


class NoGraph(TwoPrecisions):
    """Its graph for int8 cannot be read, and the error is none of ours."""

    def build(self, stored: StoredBackbone, precision: Precision, kind: FeatureKind = FeatureKind.POOLED) -> Engine:
        if precision is Precision.INT8:
            raise RuntimeError("Unable to read the model")
        return super().build(stored, precision, kind)


FINE, USELESS = 1e-4, 10.0  # steps
LETTERS = ("vowel", "consonant", "digit", "mark")
MOODS = ("glad", "sad")
TOPICS = ("art", "food", "sport", "war")
TASK_MODELS = ("topics", "prices", "names", "follows", "likeness")  # those of `publish_tasks`
TAGS = ("B-place", "I-place", "B-name", "I-name", "O")
NO_CALIBRATION = Calibration()
IMAGES = ImagePreprocessorConfig(input_size=(3, 64, 64), interpolation="bicubic", crop_pct=1.0, crop_mode="center")


def publish_texts(
    repository: ModelRepository,
    checkpoint_name: str,
    name: str,
    labels: Sequence[str],
    *,
    seed: int,
    engines: EngineSource | None = None,
    task: Task = Task.SINGLE_LABEL,
    pair: PairReading | None = None,
    calibration: Calibration = NO_CALIBRATION,
) -> ModelVersion:
    """Publishes a random head on the tiny text encoder, one for each precision of the engines: fp32 alone without."""
    engines = engines or TorchEngines()
    checkpoint = fetch_checkpoint(checkpoint_name)
    stored = repository.backbones.add(checkpoint)
    random = torch.Generator().manual_seed(seed)
    kind = task.traits.features
    width = stored.config.feature_dim * (PAIR_WIDTH if pair == "separate" else 1)

    def fitted(precision: Precision) -> FittedHead:
        head = Head(
            weight_CD=torch.randn(len(labels), width, generator=random),
            bias_C=torch.randn(len(labels), generator=random),
            activation=task.traits.activation,
        )
        return FittedHead(engine=engines.build(stored, precision, kind), head=head, calibration=calibration)

    graft = Graft(
        name=name,
        backbone=stored,
        preprocessor=checkpoint.preprocessor.model_copy(update={"pair": pair}),
        heads={precision: fitted(precision) for precision in reversed(engines.precisions(stored, kind))},
        labels=labels,
        golden_items=["one golden text", "and another one"]
        if pair is None
        else [("one golden", "pair"), ("and", "one")],
        task=task,
    )
    return publish(repository, graft)


def publish_tasks(
    repository: ModelRepository, checkpoint_name: str, engines: EngineSource | None = None
) -> dict[str, ModelVersion]:
    """One model for each task but single-label, and one for each way to read pairs, all on the tiny text encoder."""

    def published(name: str, labels: Sequence[str], seed: int, **settings: Any) -> ModelVersion:
        return publish_texts(repository, checkpoint_name, name, labels, seed=seed, engines=engines, **settings)

    value = {"task": Task.REGRESSION, "calibration": Calibration(interval=0.5)}
    return {
        "topics": published("topics", TOPICS, 3, task=Task.MULTI_LABEL, calibration=Calibration(threshold=0.5)),
        "prices": published("prices", ("price",), 4, **value),
        "names": published("names", TAGS, 5, task=Task.TOKEN_CLASSIFICATION),
        "follows": published("follows", ("yes", "no", "maybe"), 6, pair="joint"),
        "likeness": published("likeness", ("likeness",), 7, pair="separate", **value),
    }


def copy_of_texts(models_on_disk: Path, root: Path) -> None:
    """Copies the text models into a new repository, which appears in one step."""
    colours = ModelRepository(models_on_disk).read("colours", 1).manifest.backbone.digest
    staging = root.with_name("staging")
    shutil.copytree(models_on_disk, staging, ignore=shutil.ignore_patterns("colours", colours, ".audit.jsonl"))
    staging.rename(root)


def picture(seed: int, *, size: tuple[int, int] = (48, 40), file_format: str = "PNG") -> bytes:
    """An image file unlike any with another seed."""
    pixels = torch.randint(0, 256, (6, 6, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    buffer = io.BytesIO()
    Image.frombytes("RGB", (6, 6), bytes(pixels.flatten().tolist())).resize(size).save(buffer, file_format)
    return buffer.getvalue()


def text_manifest(name: str, number: int, modality: Modality = Modality.TEXT) -> Manifest:
    return Manifest(
        name=name,
        number=number,
        task=Task.SINGLE_LABEL,
        modality=modality,
        labels=("yes", "no"),
        backbone=BackboneReference(source="echo", digest="echo-backbone", feature_dim=2),
        preprocessor=IMAGES if modality is Modality.IMAGE else TextPreprocessorConfig(max_tokens=64),
        heads={Precision.FP32: HeadRecord(engine=EngineReference(identity="echo"), calibration=Calibration())},
        created_at=datetime.now(UTC),
        libraries={},
    )


def write_tiny_vision(directory: Path) -> str:
    """A tiny real timm architecture with random weights and 3 classes, in an empty directory: its backbone name."""
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = timm.create_model("test_efficientnet", pretrained=False, num_classes=3)
    save_file(model.state_dict(), directory / "model.safetensors")
    config = {
        "architecture": "test_efficientnet",
        "label_names": ["red", "green", "blue"],
        "pretrained_cfg": {"input_size": [3, 64, 64], "crop_pct": 0.9, "mean": [0.5] * 3, "std": [0.5] * 3},
    }
    (directory / "config.json").write_text(json.dumps(config))
    return f"dir:{directory}"


def write_tiny_text(directory: Path, seed: int = 0) -> str:
    """A tiny real BERT with random weights and a word-piece tokenizer of letters, in an empty directory: its name."""
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!?"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.save(str(directory / "tokenizer.json"))
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    model = BertModel(config)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, directory / "model.safetensors")
    config.save_pretrained(directory)
    return f"dir:{directory}"
