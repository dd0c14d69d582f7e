"""A tiny random checkpoint of each backbone family, saved as its library saves it, with the head of a task."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

_SIZES = {
    "vocab_size": 300,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


@dataclass(frozen=True, kw_only=True)
class TextFamily:
    """An architecture of transformers.

    Attributes:
        model_type: the library's name for it.
        task: the library's model with a head that is saved.
        sizes: of its configuration.
        pooling: what becomes of its tokens' vectors.
        max_tokens: how many it reads.
        layer: the name of its layers, without their number.
    """

    model_type: str
    task: str
    sizes: dict[str, int]
    pooling: str
    max_tokens: int
    layer: str

    def write(self, directory: Path, tokenizer: Path) -> Any:
        """Saves a checkpoint, and gives the library's own encoder of it, without a head.

        Args:
            directory: empty.
            tokenizer: the file of a tokenizer with fewer than 300 tokens.
        """
        import transformers

        torch.manual_seed(0)
        model = getattr(transformers, self.task)(transformers.AutoConfig.for_model(self.model_type, **self.sizes))
        model.save_pretrained(directory)
        if self.model_type == "gpt2":
            _byte_tokenizer().save(str(directory / "tokenizer.json"))
        else:
            shutil.copy(tokenizer, directory / "tokenizer.json")
        return model.eval().get_encoder() if self.model_type == "t5" else getattr(model.eval(), model.base_model_prefix)


TEXT_FAMILIES = (
    TextFamily(
        model_type="bert",
        task="BertForSequenceClassification",
        sizes={**_SIZES, "max_position_embeddings": 40},
        pooling="mean",
        max_tokens=40,
        layer="encoder.layer",
    ),
    TextFamily(
        model_type="roberta",  # the first two positions are for padding
        task="RobertaForMaskedLM",
        sizes={**_SIZES, "max_position_embeddings": 42, "pad_token_id": 1, "type_vocab_size": 1},
        pooling="mean",
        max_tokens=40,
        layer="encoder.layer",
    ),
    TextFamily(
        model_type="distilbert",
        task="DistilBertForSequenceClassification",
        sizes={
            "vocab_size": 300,
            "dim": 16,
            "n_layers": 2,
            "n_heads": 2,
            "hidden_dim": 32,
            "max_position_embeddings": 40,
        },
        pooling="mean",
        max_tokens=40,
        layer="transformer.layer",
    ),
    TextFamily(
        model_type="gpt2",
        task="GPT2LMHeadModel",
        sizes={"vocab_size": 300, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 40},
        pooling="last",
        max_tokens=40,
        layer="h",
    ),
    TextFamily(
        model_type="qwen3",
        task="Qwen3ForCausalLM",
        sizes={**_SIZES, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 40},
        pooling="last",
        max_tokens=40,
        layer="layers",
    ),
    TextFamily(
        model_type="t5",  # positions are relative
        task="T5ForConditionalGeneration",
        sizes={"vocab_size": 300, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2},
        pooling="mean",
        max_tokens=512,
        layer="block",
    ),
)


def _byte_tokenizer() -> Tokenizer:
    """GPT-2's tokenizer before any merge: no special token, so none for padding either."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


@dataclass(frozen=True, kw_only=True)
class ImageFamily:
    """An architecture of timm.

    Attributes:
        architecture: timm's name for it.
        groups: names of its groups of layers.
        model_args: of the backbone.
        extra_args: of the model that is saved, beside these.
        size: of its images, in pixels.
    """

    architecture: str
    groups: tuple[str, ...]
    model_args: dict[str, Any] = field(default_factory=dict)
    extra_args: dict[str, Any] = field(default_factory=dict)
    size: int

    def write(self, directory: Path) -> Any:
        """Saves a checkpoint with five classes in an empty directory, and gives timm's own model of it."""
        import timm

        torch.manual_seed(0)
        size = {"input_size": [3, self.size, self.size]}
        model = timm.create_model(
            self.architecture, num_classes=5, pretrained_cfg_overlay=size, **self.model_args, **self.extra_args
        )
        save_file(model.state_dict(), directory / "model.safetensors")
        config = {"architecture": self.architecture, "model_args": self.model_args, "pretrained_cfg": size}
        (directory / "config.json").write_text(json.dumps(config))
        if self.extra_args:
            state = model.state_dict()
            model = timm.create_model(self.architecture, num_classes=5, pretrained_cfg_overlay=size, **self.model_args)
            model.load_state_dict(state, strict=False)
        return model.eval()


IMAGE_FAMILIES = (
    ImageFamily(architecture="test_resnet", groups=("stem", *(f"layer{i}.0" for i in (1, 2, 3, 4))), size=96),
    # The narrow layer keeps the file small; the one behind it has 4,096 features as in the real one.
    ImageFamily(
        architecture="vgg11_bn",
        groups=("stem", *(f"features.{i}" for i in (4, 8, 11, 15, 18, 22, 25)), "pre_logits"),
        model_args={"mlp_ratio": 0.002},
        size=64,
    ),
    ImageFamily(
        architecture="inception_v3",
        groups=(
            "stem",
            "Conv2d_3b_1x1",
            *(f"Mixed_{i}" for i in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")),
        ),
        extra_args={"aux_logits": True},
        size=96,
    ),
    ImageFamily(
        architecture="test_vit",
        groups=("stem", *(f"blocks.{i}" for i in range(6))),
        model_args={"dynamic_img_size": False},
        size=96,
    ),
    # Registers and layer scale, as in DINOv2, and positions for images of any size.
    ImageFamily(architecture="test_vit2", groups=("stem", *(f"blocks.{i}" for i in range(8))), size=96),
)
