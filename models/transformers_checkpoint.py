"""Checkpoints of transformers: a text encoder, its tokenizer, and how its token vectors become one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from models.backbone import BackboneConfig, Modality
from models.checkpoint import Checkpoint, check_fit, read_json, read_safetensors
from models.errors import BackboneNotFound
from models.preprocessor import TextPreprocessorConfig
from models.transformers_backbone import build_encoder, is_causal

MOST_TOKENS = 512  # unless the checkpoint asks for more; time and memory grow with the square


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
    state = _encoder_state(encoder, _read_weights(name, directory))
    check_fit(name, encoder.state_dict(), state)
    tokenizer_json = tokenizer.read_bytes()
    embeddings = encoder.get_input_embeddings().num_embeddings
    _check_tokenizer(name, tokenizer_json, embeddings)
    positions = _positions(encoder)
    pooling, normalize, max_tokens = _sentence_settings(
        name, directory, pooling="last" if is_causal(encoder) else "mean", positions=positions
    )
    # A model without a padding token, such as GPT-2, takes any: the mask hides it.
    pad_id = encoder.config.pad_token_id
    if pad_id is None or not 0 <= pad_id < embeddings:
        pad_id = 0
    config = BackboneConfig(
        source=name,
        library="transformers",
        architecture=str(options["model_type"]),
        modality=Modality.TEXT,
        feature_dim=feature_dim,
        options={key: value for key, value in options.items() if not key.startswith("_")},
        pooling=pooling,
        normalize=normalize,
        max_tokens=positions,
    )
    return Checkpoint(
        config=config,
        state={key: value.float() for key, value in state.items()},
        preprocessor=TextPreprocessorConfig(max_tokens=max_tokens, pad_id=pad_id),
        tokenizer_json=tokenizer_json,
    )


def _encoder_state(encoder: Any, stored: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The encoder's tensors, of those that are there.

    A model with a task's head keeps its encoder under the family's name (``bert.``, ``transformer.``), one with a decoder under
    ``encoder.``, and embeddings that both read as ``shared``.
    """
    state = {}
    for key in encoder.state_dict():
        names = [key, f"{encoder.base_model_prefix}.{key}", f"encoder.{key}"]
        if key == "embed_tokens.weight":
            names.append("shared.weight")
        for name in names:
            if name in stored:
                state[key] = stored[name]
                break
    return state


def _positions(encoder: Any) -> int | None:
    """How many tokens have a position; None where positions are relative, as in T5."""
    for path, module in encoder.named_modules():
        # RoBERTa and MPNet count from behind the padding token.
        if path.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return int(module.num_embeddings - module.padding_idx - 1)
    positions = getattr(encoder.config, "max_position_embeddings", None)
    return int(positions) if positions and positions > 0 else None


def _check_tokenizer(name: str, tokenizer_json: bytes, embeddings: int) -> None:
    """A token without an embedding would fail a whole batch, long after the checkpoint was read."""
    try:
        highest = max(Tokenizer.from_buffer(tokenizer_json).get_vocab().values())
    except Exception:  # tokenizers raises bare Exceptions
        raise BackboneNotFound(f"'{name}' has no readable tokenizer.json") from None
    if highest >= embeddings:
        raise BackboneNotFound(f"the tokenizer of '{name}' knows {highest + 1} tokens, its weights {embeddings}")


def _sentence_settings(name: str, directory: Path, *, pooling: str, positions: int | None) -> tuple[Any, bool, int]:
    """Pooling, normalisation and token limit, as sentence-transformers stores them.

    Args:
        name: as the user gave it, for messages.
        directory: in the hub's layout.
        pooling: without its file.
        positions: that the limit cannot exceed.
    """
    normalize = False
    max_tokens = MOST_TOKENS
    if (directory / "modules.json").is_file():
        modules = read_json(name, directory / "modules.json")
        normalize = any(module["type"].endswith(".Normalize") for module in modules)
    if (directory / "1_Pooling" / "config.json").is_file():
        settings = read_json(name, directory / "1_Pooling" / "config.json")
        if settings.get("pooling_mode_cls_token"):
            pooling = "first"
        elif settings.get("pooling_mode_lasttoken"):
            pooling = "last"
        else:
            pooling = "mean"
    if (directory / "sentence_bert_config.json").is_file():
        own = read_json(name, directory / "sentence_bert_config.json").get("max_seq_length")
        max_tokens = int(own or max_tokens)
    return pooling, normalize, min(positions or max_tokens, max_tokens)


def _read_weights(name: str, directory: Path) -> dict[str, torch.Tensor]:
    index = directory / "model.safetensors.index.json"
    if not index.is_file():
        return read_safetensors(name, directory / "model.safetensors")
    shards = sorted(set(read_json(name, index)["weight_map"].values()))
    return {k: v for shard in shards for k, v in read_safetensors(name, directory / Path(shard).name).items()}
