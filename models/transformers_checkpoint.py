"""Checkpoints of transformers: a text encoder, its tokenizer, and how its token vectors become one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from models.backbone import BackboneConfig, Modality
from models.checkpoint import Checkpoint, check_fit, read_json, read_safetensors
from models.errors import BackboneNotFound
from models.preprocessor import TextPreprocessorConfig
from models.transformers_backbone import build_encoder


def transformers_checkpoint(name: str, directory: Path) -> Checkpoint:
    """Reads a text encoder.

    Args:
        name: as the user gave it, for messages.
        directory: in the hub's layout.

    Raises:
        BackboneNotFound: something is missing or does not fit; or it would need code of its own.
    """
    options = read_json(name, directory / "config.json")
    if "auto_map" in options:
        raise BackboneNotFound(f"'{name}' needs code that comes with it (auto_map), which is never run; use another")
    if "model_type" not in options:
        raise BackboneNotFound(f"'{name}' is no transformers checkpoint: its config.json has no model_type")
    tokenizer = directory / "tokenizer.json"
    if not tokenizer.is_file():
        raise BackboneNotFound(f"'{name}' has no tokenizer.json; save its fast tokenizer beside the weights")
    pooling, normalize, max_tokens = _sentence_settings(name, directory, options)
    try:
        with torch.device("meta"):  # names and shapes, without the memory for values
            encoder = build_encoder(options)
        feature_dim = int(encoder.config.hidden_size)
    except Exception:  # transformers raises nearly anything
        raise BackboneNotFound(
            f"'{name}': transformers cannot build a '{options['model_type']}' from its config.json"
        ) from None
    if encoder.config.is_encoder_decoder:
        raise BackboneNotFound(f"'{name}' is an encoder with a decoder; use an encoder")
    # A model with a task's head keeps its encoder under the family's name: `bert.`, `roberta.`, ...
    prefix = f"{encoder.base_model_prefix}."
    state = {key.removeprefix(prefix): value for key, value in _read_weights(name, directory).items()}
    own = encoder.state_dict()
    check_fit(name, own, state)
    tokenizer_json = tokenizer.read_bytes()
    _check_tokenizer(name, tokenizer_json, encoder.get_input_embeddings().num_embeddings)
    config = BackboneConfig(
        source=name,
        library="transformers",
        architecture=str(options["model_type"]),
        modality=Modality.TEXT,
        feature_dim=feature_dim,
        options={key: value for key, value in options.items() if not key.startswith("_")},
        pooling=pooling,
        normalize=normalize,
    )
    return Checkpoint(
        config=config,
        state={key: state[key].float() for key in own},
        preprocessor=TextPreprocessorConfig(max_tokens=max_tokens, pad_id=int(encoder.config.pad_token_id or 0)),
        tokenizer_json=tokenizer_json,
    )


def _check_tokenizer(name: str, tokenizer_json: bytes, embeddings: int) -> None:
    """A token without an embedding would fail a whole batch, long after the checkpoint was read."""
    try:
        highest = max(Tokenizer.from_buffer(tokenizer_json).get_vocab().values())
    except Exception:  # tokenizers raises bare Exceptions
        raise BackboneNotFound(f"'{name}' has no readable tokenizer.json") from None
    if highest >= embeddings:
        raise BackboneNotFound(f"the tokenizer of '{name}' knows {highest + 1} tokens, its weights {embeddings}")


def _sentence_settings(name: str, directory: Path, options: dict[str, Any]) -> tuple[Any, bool, int]:
    """Pooling, normalisation and token limit, as sentence-transformers stores them; mean pooling without."""
    pooling, normalize = "mean", False
    positions = int(options.get("max_position_embeddings", 512))
    max_tokens = min(positions, 512)
    if (directory / "modules.json").is_file():
        modules = read_json(name, directory / "modules.json")
        normalize = any(module["type"].endswith(".Normalize") for module in modules)
    if (directory / "1_Pooling" / "config.json").is_file():
        settings = read_json(name, directory / "1_Pooling" / "config.json")
        if settings.get("pooling_mode_cls_token"):
            pooling = "first"
        elif settings.get("pooling_mode_lasttoken"):
            pooling = "last"
    if (directory / "sentence_bert_config.json").is_file():
        own = read_json(name, directory / "sentence_bert_config.json").get("max_seq_length")
        max_tokens = min(positions, int(own or max_tokens))
    return pooling, normalize, max_tokens


def _read_weights(name: str, directory: Path) -> dict[str, torch.Tensor]:
    index = directory / "model.safetensors.index.json"
    if not index.is_file():
        return read_safetensors(name, directory / "model.safetensors")
    shards = sorted(set(read_json(name, index)["weight_map"].values()))
    return {k: v for shard in shards for k, v in read_safetensors(name, directory / Path(shard).name).items()}
