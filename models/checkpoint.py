"""Pretrained checkpoints by name: from a package, a directory, the local cache or, when the network allows it, the hub.

    timm:resnet50            a timm model with its default weights
    hf:bert-base-uncased     an encoder of transformers
    dir:/path                either of them, as a directory in the hub's layout (config.json, model.safetensors, ...)

No code that comes with a checkpoint is ever run, and weights are read from safetensors only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models import embedded
from models.backbone import BackboneConfig, Modality
from models.errors import BackboneNotFound, did_you_mean
from models.hub import hub_directory, hub_file
from models.preprocessor import ImagePreprocessorConfig, TextPreprocessorConfig

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A checkpoint's own linear classifier on pooled features."""

    weight_CD: torch.Tensor
    bias_C: torch.Tensor
    labels: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A pretrained checkpoint, read into memory.

    Attributes:
        config: the backbone's architecture.
        state: the backbone's tensors by name, without a classifier.
        preprocessor: from the checkpoint's own data config.
        tokenizer_json: text only: the contents of ``tokenizer.json``.
        classifier: the checkpoint's own head, where it has one.
    """

    config: BackboneConfig
    state: dict[str, torch.Tensor]
    preprocessor: ImagePreprocessorConfig | TextPreprocessorConfig
    tokenizer_json: bytes | None = None
    classifier: Classifier | None = field(default=None, repr=False)


def fetch_checkpoint(name: str) -> Checkpoint:
    """Reads a checkpoint.

    Args:
        name: ``timm:MODEL``, ``hf:REPOSITORY`` or ``dir:PATH``.

    Raises:
        BackboneNotFound: an unknown name, with near matches; or a known one that cannot be reached from here.
    """
    scheme, _, rest = name.partition(":")
    if name == "timm:tf_efficientnet_lite0":
        state = embedded.read_lite0(embedded.require_embedded_directory(name))
        return _timm_checkpoint(name, rest, state, overrides={})
    if rest.removeprefix("sentence-transformers/") == "all-MiniLM-L6-v2" and scheme == "hf":
        directory = embedded.require_embedded_directory("hf:all-MiniLM-L6-v2") / "model"
        embedded.read_pinned(directory / "model.safetensors", embedded.MINILM_SHA256)
        return _transformers_checkpoint("hf:all-MiniLM-L6-v2", directory)
    if scheme == "timm" and rest:
        return _timm_by_name(name, rest)
    if scheme == "hf" and rest:
        return _transformers_checkpoint(name, hub_directory(name, rest))
    if scheme == "dir" and rest:
        return _from_directory(name, Path(rest).expanduser())
    raise BackboneNotFound(f"unknown backbone '{name}': it is named timm:MODEL, hf:REPOSITORY or dir:PATH{_hint(name)}")


def _hint(name: str) -> str:
    import timm

    for known in (*embedded.EMBEDDED, f"timm:{name}"):
        scheme, _, bare = known.partition(":")
        if bare == name and (known in embedded.EMBEDDED or timm.is_model(bare)):
            return f"; did you mean '{scheme}:{bare}'?"
    return did_you_mean(name, embedded.EMBEDDED)


def _timm_by_name(name: str, architecture: str) -> Checkpoint:
    import timm

    if not timm.is_model(architecture):
        known = [f"timm:{model}" for model in timm.list_models()]
        raise BackboneNotFound(f"unknown backbone '{name}'{did_you_mean(name.split('.')[0], known)}")
    try:
        cfg = timm.get_pretrained_cfg(architecture)
    except RuntimeError:  # a tag that the architecture does not have
        known = [f"timm:{model}" for model in timm.list_models(f"{architecture.partition('.')[0]}.*", pretrained=True)]
        raise BackboneNotFound(f"unknown weights '{name}'{did_you_mean(name, known)}") from None
    if cfg is None or not cfg.hf_hub_id:
        raise BackboneNotFound(f"timm has no pretrained weights for '{architecture}'; use dir:/path with your own")
    repository = cfg.hf_hub_id.rstrip("/")
    if not repository.rpartition("/")[2]:
        repository += architecture
    file = hub_file(name, repository, "model.safetensors")
    return _timm_checkpoint(name, architecture, _read_safetensors(name, file), overrides={})


def _timm_checkpoint(
    name: str, architecture: str, state: dict[str, torch.Tensor], *, overrides: dict[str, Any]
) -> Checkpoint:
    """Splits a timm checkpoint into backbone and classifier.

    Args:
        overrides: ``model_args``, ``pretrained_cfg`` and ``label_names`` of a directory's ``config.json``.
    """
    from timm.data import ImageNetInfo, resolve_data_config

    from models.timm_backbone import build_timm_model

    model_args = overrides.get("model_args") or {}
    try:
        model = build_timm_model(architecture, model_args, overrides.get("pretrained_cfg"))
    except (RuntimeError, TypeError, ValueError) as error:
        raise BackboneNotFound(f"'{name}' cannot be built: {error}") from None
    data = resolve_data_config({}, model=model)
    if data["input_size"][0] != 3:
        raise BackboneNotFound(f"'{name}' reads {data['input_size'][0]} channels; only RGB backbones are supported")
    own = model.state_dict()
    _check_fit(name, own, state)
    rest = {key: value for key, value in state.items() if key not in own}
    config = BackboneConfig(
        source=name,
        library="timm",
        architecture=architecture,
        modality=Modality.IMAGE,
        feature_dim=int(model.num_features if not hasattr(model, "head_hidden_size") else model.head_hidden_size),
        options={
            "model_args": model_args,
            "input_size": list(data["input_size"]),
            "mean": list(data["mean"]),
            "std": list(data["std"]),
        },
    )
    preprocessor = ImagePreprocessorConfig(
        input_size=data["input_size"],
        interpolation=data["interpolation"],
        crop_pct=data["crop_pct"],
        crop_mode=data["crop_mode"],
    )
    classifier = None
    weights = [value for key, value in rest.items() if key.endswith(".weight") and value.ndim == 2]
    biases = [value for key, value in rest.items() if key.endswith(".bias") and value.ndim == 1]
    if len(weights) == 1 and len(biases) == 1 and weights[0].shape[1] == config.feature_dim:
        labels = overrides.get("label_names")
        if labels is None and len(weights[0]) == 1000:
            labels = ImageNetInfo().label_descriptions()
        if labels is None:
            labels = [str(index) for index in range(len(weights[0]))]
        classifier = Classifier(weight_CD=weights[0].float(), bias_C=biases[0].float(), labels=_distinct(labels))
    backbone_state = {key: state[key] for key in own}
    return Checkpoint(config=config, state=backbone_state, preprocessor=preprocessor, classifier=classifier)


def _distinct(labels: Sequence[str]) -> tuple[str, ...]:
    """Class names that occur twice (ImageNet's two cranes and two maillots) get their index."""
    counts: dict[str, int] = {}
    for label in labels:
        counts[label] = counts.get(label, 0) + 1
    return tuple(f"{label} ({index})" if counts[label] > 1 else label for index, label in enumerate(labels))


def _transformers_checkpoint(name: str, directory: Path) -> Checkpoint:
    import torch

    from models.transformers_backbone import build_encoder

    options = _read_json(name, directory / "config.json")
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
    _check_fit(name, own, state)
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


def _check_fit(name: str, wanted: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> None:
    for key, tensor in wanted.items():
        if key not in state:
            raise BackboneNotFound(f"the weights of '{name}' do not fit its architecture: {key} is missing")
        if state[key].shape != tensor.shape:
            raise BackboneNotFound(
                f"the weights of '{name}' do not fit its architecture: {key} is {tuple(state[key].shape)}, not "
                f"{tuple(tensor.shape)}"
            )


def _check_tokenizer(name: str, tokenizer_json: bytes, embeddings: int) -> None:
    """A token without an embedding would fail a whole batch, long after the checkpoint was read."""
    from tokenizers import Tokenizer

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
        modules = _read_json(name, directory / "modules.json")
        normalize = any(module["type"].endswith(".Normalize") for module in modules)
    if (directory / "1_Pooling" / "config.json").is_file():
        settings = _read_json(name, directory / "1_Pooling" / "config.json")
        if settings.get("pooling_mode_cls_token"):
            pooling = "first"
        elif settings.get("pooling_mode_lasttoken"):
            pooling = "last"
    if (directory / "sentence_bert_config.json").is_file():
        own = _read_json(name, directory / "sentence_bert_config.json").get("max_seq_length")
        max_tokens = min(positions, int(own or max_tokens))
    return pooling, normalize, max_tokens


def _from_directory(name: str, directory: Path) -> Checkpoint:
    if not directory.is_dir():
        raise BackboneNotFound(f"'{name}': there is no such directory")
    options = _read_json(name, directory / "config.json")
    if "architecture" not in options:
        return _transformers_checkpoint(name, directory)
    state = _read_safetensors(name, directory / "model.safetensors")
    return _timm_checkpoint(name, str(options["architecture"]), state, overrides=options)


def _read_weights(name: str, directory: Path) -> dict[str, torch.Tensor]:
    index = directory / "model.safetensors.index.json"
    if not index.is_file():
        return _read_safetensors(name, directory / "model.safetensors")
    shards = sorted(set(_read_json(name, index)["weight_map"].values()))
    return {k: v for shard in shards for k, v in _read_safetensors(name, directory / Path(shard).name).items()}


def _read_safetensors(name: str, file: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not file.is_file():
        raise BackboneNotFound(f"'{name}' has no {file.name}; other weight formats are not read")
    try:
        return load_file(file)
    except SafetensorError as error:
        raise BackboneNotFound(f"the {file.name} of '{name}' is damaged: {error}") from None


def _read_json(name: str, file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        raise BackboneNotFound(f"'{name}' has no readable {file.name}") from None
