"""A version as a checkpoint of timm, whose classifier its head is wherever that is linear."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save
from torch import nn

from models import storage
from models.batch import ImageBatch, Row
from models.preprocessor import ImagePreprocessorConfig
from models.task import Task
from service.export.card import ACTIVATION, card, head_program
from service.export.head_file import HEAD, answers, folded, scores, write_head
from service.export.report import ExportReport
from service.export.subject import Subject

_KEPT = ("first_conv", "classifier", "pool_size", "fixed_input_size")  # of timm's own configuration of an architecture


class TimmFormat:
    """A `service.export.directory_export.DirectoryFormat`: config.json, model.safetensors and README.md.

    A head with a hidden layer lies in ``head.safetensors`` beside a model without a classifier; so does every head of an
    architecture that has more than one linear layer behind its pooled features.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject

    @cached_property
    def _state(self) -> Mapping[str, torch.Tensor]:
        """The backbone's tensors, with the head's where it is the classifier."""
        subject = self._subject
        state = {name: each.contiguous() for name, each in subject.backbone.model.state_dict().items()}
        layer = self._classifier
        if layer is None:
            return state
        head = folded(subject)
        return {**state, f"{layer}.weight": head.weight_CD, f"{layer}.bias": head.bias_C}

    @cached_property
    def _classifier(self) -> str | None:
        """The name of the layer that the head becomes; None where it cannot."""
        head = self._subject.predictor.head
        if head.hidden is not None or head.classes == 0:
            return None
        with torch.device("meta"):
            model = self._create(head.classes)
        layer = model.pretrained_cfg.get("classifier")
        if not isinstance(layer, str):
            return None
        own = set(model.state_dict()) - set(self._subject.backbone.model.state_dict())
        found = dict(model.named_modules()).get(layer)
        is_linear = isinstance(found, nn.Linear) and found.in_features == head.feature_dim
        return layer if is_linear and own == {f"{layer}.weight", f"{layer}.bias"} else None

    def _create(self, classes: int) -> Any:
        config = self._subject.stored.config
        return timm.create_model(
            config.architecture,
            pretrained=False,
            num_classes=classes,
            pretrained_cfg_overlay={"input_size": config.options["input_size"]},
            **config.options.get("model_args", {}),
        )

    def write(self, directory: Path) -> None:
        storage.write_file(directory / "model.safetensors", save(dict(self._state)))
        storage.write_file(directory / "config.json", json.dumps(self._config(), indent=1).encode())
        if self._classifier is None:
            write_head(self._subject, directory)
        storage.write_file(directory / "README.md", self._card().encode())

    def _config(self) -> dict[str, Any]:
        """As timm writes it, with the input as the version reads it."""
        subject = self._subject
        config, manifest = subject.stored.config, subject.version.manifest
        preprocessor = manifest.preprocessor
        assert isinstance(preprocessor, ImagePreprocessorConfig)
        classes = len(manifest.labels) if self._classifier else 0
        own: Mapping[str, Any] = getattr(subject.backbone.model, "pretrained_cfg", {})
        pretrained = {
            **{name: own[name] for name in _KEPT if own.get(name) is not None},
            **preprocessor.model_dump(exclude={"modality"}),
            "mean": config.options["mean"],
            "std": config.options["std"],
            "num_classes": classes,
        }
        return {
            "architecture": config.architecture.partition(".")[0],
            "num_classes": classes,
            "num_features": config.feature_dim,
            **({"label_names": list(manifest.labels)} if classes else {}),
            "model_args": config.options.get("model_args", {}),
            "pretrained_cfg": pretrained,
        }

    def check(self, directory: Path) -> ExportReport:
        subject = self._subject
        model: Any = timm.create_model(f"local-dir:{directory}", pretrained=True).eval()
        mean_C11, std_C11 = (torch.tensor(model.pretrained_cfg[name]).view(3, 1, 1) for name in ("mean", "std"))

        def found(rows: Sequence[Row]) -> Mapping[str, torch.Tensor]:
            batch = subject.predictor.preprocessor.collate(rows)
            assert isinstance(batch, ImageBatch)
            with torch.inference_mode():
                values = model((batch.pixels_BCHW / 255 - mean_C11) / std_C11)
                return scores(subject, values) if self._classifier else answers(subject, directory, values)

        def expected(rows: Sequence[Row]) -> Mapping[str, torch.Tensor]:
            wanted = {"probabilities", "score"} if self._classifier else {"probabilities", "score", "embedding"}
            return {name: each for name, each in subject.expected(rows).items() if name in wanted}

        return ExportReport.of(subject, expected, found, form="huggingface (timm)", checked_with="timm")

    def _card(self) -> str:
        manifest = self._subject.version.manifest
        beside = (
            "" if self._classifier or manifest.task is Task.EMBEDDING else f" Its head lies beside it, in `{HEAD}`."
        )
        what = f"Weights for timm.{beside} The temperature is folded into the head."
        if manifest.task is Task.EMBEDDING:
            what = "Weights for timm, without a classifier."
        return card(manifest, "timm", what, f"```python\n{self._program()}```")

    def _program(self) -> str:
        manifest = self._subject.version.manifest
        start = (
            "import timm\nimport torch\nfrom PIL import Image\n"
            f"{'' if self._classifier or manifest.task is Task.EMBEDDING else 'from safetensors.torch import load_file' + chr(10)}"
            "from timm.data import create_transform, resolve_model_data_config\n\n"
            'model = timm.create_model("local-dir:.", pretrained=True).eval()\n'
            "transform = create_transform(**resolve_model_data_config(model), is_training=False)\n"
            'pixels = transform(Image.open("photo.jpg").convert("RGB")).unsqueeze(0)\n'
            "with torch.inference_mode():\n"
            "    values = model(pixels)\n"
        )
        if manifest.task is Task.EMBEDDING:
            return f"{start}print(values.shape)\n"
        if self._classifier is None:
            start += head_program(self._subject.predictor.head)
        activation = ACTIVATION[self._subject.predictor.head.activation]
        if manifest.task is Task.REGRESSION:
            return f"{start}print(values[:, 0])\n"
        labels = 'model.pretrained_cfg["label_names"]' if self._classifier else list(manifest.labels)
        return f"{start}for label, score in zip({labels}, values{activation}[0].tolist()):\n    print(label, score)\n"
