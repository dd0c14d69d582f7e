"""Checkpoints of timm: a vision backbone, its data config and its classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import timm
import torch
from timm.data import ImageNetInfo, resolve_data_config

from models.backbone import BackboneConfig, Modality
from models.checkpoint import Checkpoint, Classifier, check_fit, read_safetensors
from models.errors import BackboneNotFound, did_you_mean
from models.hub import hub_file
from models.preprocessor import ImagePreprocessorConfig
from models.timm_backbone import build_timm_model


def timm_by_name(name: str, architecture: str) -> Checkpoint:
    """A timm model with its pretrained weights, from the local cache or the hub.

    Args:
        name: as the user gave it, for messages.
        architecture: timm's name, with or without a tag for the weights.

    Raises:
        BackboneNotFound: unknown, with near matches; or not to be had from here.
    """
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
    return timm_checkpoint(name, architecture, read_safetensors(name, file), overrides={})


def timm_checkpoint(
    name: str, architecture: str, state: dict[str, torch.Tensor], *, overrides: dict[str, Any]
) -> Checkpoint:
    """Splits a timm checkpoint into backbone and classifier.

    Args:
        name: as the user gave it, for messages.
        architecture: timm's name.
        state: all tensors, the classifier's included.
        overrides: ``model_args``, ``pretrained_cfg`` and ``label_names`` of a directory's ``config.json``.

    Raises:
        BackboneNotFound: the weights do not fit, or the model cannot be built.
    """
    model_args = overrides.get("model_args") or {}
    try:
        with torch.device("meta"):  # names and shapes, without the time that random weights take
            model = build_timm_model(architecture, model_args, overrides.get("pretrained_cfg"))
    except (RuntimeError, TypeError, ValueError) as error:
        raise BackboneNotFound(f"'{name}' cannot be built: {error}") from None
    data = resolve_data_config({}, model=model)
    if data["input_size"][0] != 3:
        raise BackboneNotFound(f"'{name}' reads {data['input_size'][0]} channels; only RGB backbones are supported")
    own = model.state_dict()
    check_fit(name, own, state)
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
    # By its name, since there may be others: Inception has one more on top of its middle.
    layer = model.pretrained_cfg.get("classifier")
    weight_CD, bias_C = state.get(f"{layer}.weight"), state.get(f"{layer}.bias")
    classifier = None
    if weight_CD is not None and bias_C is not None and weight_CD.shape[1:] == (config.feature_dim,):
        labels = _labels(len(weight_CD), overrides.get("label_names"))
        classifier = Classifier(weight_CD=weight_CD.float(), bias_C=bias_C.float(), labels=labels)
    backbone_state = {key: state[key] for key in own}
    return Checkpoint(config=config, state=backbone_state, preprocessor=preprocessor, classifier=classifier)


def _labels(count: int, own: Sequence[str] | None) -> Sequence[str]:
    """The checkpoint's own names of its classes, or ImageNet's, or their numbers."""
    if own is not None:
        return _distinct(own)
    return _distinct(list(ImageNetInfo().label_descriptions()) if count == 1000 else [str(i) for i in range(count)])


def _distinct(labels: Sequence[str]) -> tuple[str, ...]:
    """Class names that occur twice (ImageNet's two cranes and two maillots) get their index."""
    counts: dict[str, int] = {}
    for label in labels:
        counts[label] = counts.get(label, 0) + 1
    return tuple(f"{label} ({index})" if counts[label] > 1 else label for index, label in enumerate(labels))
