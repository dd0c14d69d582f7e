"""The real thing in miniature, shared by all tests."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

# No test may wait for a model hub.
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def tiny_vision(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny real timm architecture with random weights and 3 classes, as a directory: its backbone name."""
    return write_tiny_vision(tmp_path_factory.mktemp("tiny-vision"))


def write_tiny_vision(directory: Path) -> str:
    """What `tiny_vision` is, in an empty directory."""
    import timm
    import torch
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


@pytest.fixture(scope="session")
def tiny_text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny real BERT with random weights and a word-piece tokenizer of letters: its backbone name."""
    return write_tiny_text(tmp_path_factory.mktemp("tiny-text"))


def write_tiny_text(directory: Path) -> str:
    """What `tiny_text` is, in an empty directory."""
    import torch
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
    torch.manual_seed(0)
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


@pytest.fixture
def shared_data() -> Path:
    """The folder with the eight public data sets, where the machine has it."""
    directory = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not directory.is_dir():
        pytest.skip(f"needs the data sets in {directory}")
    return directory
