"""A version as a checkpoint of transformers, and of sentence-transformers, with its head beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoModel, AutoModelForTextEncoding, AutoTokenizer
from transformers.utils import logging as transformers_logging

from models import storage
from models.batch import Row, TextBatch, TextRow
from models.errors import ExportFailed
from models.features import FeatureKind, Features
from models.head_inputs import head_inputs
from models.preprocessor import TextPreprocessorConfig
from models.task import Task
from models.transformers_backbone import T5_FAMILY, TransformersBackbone
from service.export.head_file import answers, write_head
from service.export.report import ExportReport
from service.export.subject import Subject
from service.export.transformers_card import transformers_card

_PROBLEMS = {
    Task.SINGLE_LABEL: "single_label_classification",
    Task.MULTI_LABEL: "multi_label_classification",
    Task.REGRESSION: "regression",
}
_POOLING = {"mean": "pooling_mode_mean_tokens", "first": "pooling_mode_cls_token", "last": "pooling_mode_lasttoken"}


class TransformersFormat:
    """A `service.export.directory_export.DirectoryFormat`: config.json with labels, model.safetensors, the tokenizer's files,

    head.safetensors, README.md; and modules.json, 1_Pooling, 2_Normalize for sentence-transformers.
    """

    def __init__(self, subject: Subject) -> None:
        assert isinstance(subject.backbone, TransformersBackbone)
        assert isinstance(subject.version.manifest.preprocessor, TextPreprocessorConfig)
        self._subject = subject
        self._backbone = subject.backbone
        self._preprocessor = subject.version.manifest.preprocessor

    def write(self, directory: Path) -> None:
        model = self._whole()
        manifest = self._subject.version.manifest
        if manifest.labels:
            model.config.id2label = dict(enumerate(manifest.labels))
            model.config.label2id = {label: index for index, label in enumerate(manifest.labels)}
            model.config.problem_type = _PROBLEMS.get(manifest.task)
        with _Quiet():
            model.save_pretrained(directory)
        write_head(self._subject, directory)
        tokenizer_json = storage.read_file(self._subject.stored.directory / "tokenizer.json")
        storage.write_file(directory / "tokenizer.json", tokenizer_json)
        settings = {"tokenizer_config.json": self._tokenizer_settings(tokenizer_json), **self._sentence_settings()}
        for name, document in settings.items():
            storage.make_directory((directory / name).parent)
            storage.write_file(directory / name, json.dumps(document, indent=1).encode())
        storage.write_file(directory / "README.md", transformers_card(self._subject).encode())

    def _whole(self) -> Any:
        """What the library loads: the encoder; of T5, the model around it."""
        encoder: Any = self._backbone.model
        if encoder.config.model_type not in T5_FAMILY:
            return encoder
        with torch.device("meta"):
            whole: Any = AutoModelForTextEncoding.from_config(encoder.config)
        whole.encoder = encoder
        whole.shared = encoder.embed_tokens
        return whole

    def _tokenizer_settings(self, tokenizer_json: bytes) -> Mapping[str, Any]:
        segments = ["token_type_ids"] if self._backbone.takes_segments else []
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_input_names": ["input_ids", *segments, "attention_mask"],
            "model_max_length": self._preprocessor.max_tokens,
            "pad_token": Tokenizer.from_buffer(tokenizer_json).id_to_token(self._preprocessor.pad_id),
        }

    def _sentence_settings(self) -> Mapping[str, Any]:
        """What sentence-transformers reads."""
        config = self._subject.stored.config
        if config.pooling == "none":
            return {}
        modules = ["Transformer", "Pooling", *(["Normalize"] if config.normalize else [])]
        listed = [
            {
                "idx": index,
                "name": str(index),
                "path": f"{index}_{kind}" if index else "",
                "type": f"sentence_transformers.models.{kind}",
            }
            for index, kind in enumerate(modules)
        ]
        pooling = {"word_embedding_dimension": config.feature_dim}
        pooling |= {name: mode == config.pooling for mode, name in _POOLING.items()}
        return {
            "modules.json": listed,
            "1_Pooling/config.json": pooling,
            "sentence_bert_config.json": {"max_seq_length": self._preprocessor.max_tokens, "do_lower_case": False},
        }

    def check(self, directory: Path) -> ExportReport:
        subject = self._subject
        library: Any = AutoModelForTextEncoding if self._whole().config.model_type in T5_FAMILY else AutoModel
        with _Quiet():
            model = library.from_pretrained(directory, dtype=torch.float32).eval()
            tokenizer = AutoTokenizer.from_pretrained(directory)
        self._check_tokens(tokenizer)

        def found(rows: Sequence[Row]) -> Mapping[str, torch.Tensor]:
            batch = subject.predictor.preprocessor.collate(rows)
            assert isinstance(batch, TextBatch)
            with torch.inference_mode():
                (inputs,) = head_inputs(self._features(model, batch), rows)
                return answers(subject, directory, inputs.vectors_VD)

        def expected(rows: Sequence[Row]) -> Mapping[str, torch.Tensor]:
            return {name: each for name, each in subject.expected(rows).items() if name != "logits"}

        return ExportReport.of(subject, expected, found, form="huggingface (transformers)", checked_with="transformers")

    def _check_tokens(self, tokenizer: Any) -> None:
        """Raises `ExportFailed` unless the golden inputs become the same tokens."""
        limit = self._preprocessor.max_tokens
        for item, row in zip(self._subject.golden.items, self._subject.golden_rows, strict=True):
            if isinstance(row, TextRow):
                texts = [item] if isinstance(item, str) else list(item)
                found = tokenizer(*texts, truncation=True, max_length=limit)["input_ids"]
                if found != list(row.ids):
                    raise ExportFailed(
                        "the tokenizer of the export reads the golden inputs in another way; use --format onnx"
                    )

    def _features(self, model: Any, batch: TextBatch) -> Features:
        config = self._subject.stored.config
        inputs = {"input_ids": batch.ids_BT, "attention_mask": batch.mask_BT}
        if self._backbone.takes_segments:
            inputs["token_type_ids"] = batch.segments_BT
        values_BTD = model(**inputs).last_hidden_state
        if self._subject.kind is FeatureKind.TOKENS:
            return Features(kind=FeatureKind.TOKENS, values=values_BTD, mask_BT=batch.mask_BT)
        mask_BT1 = batch.mask_BT.unsqueeze(2)
        if config.pooling == "first":
            values_BD = values_BTD[:, 0]
        elif config.pooling == "last":
            values_BD = values_BTD[torch.arange(len(values_BTD)), batch.mask_BT.sum(1) - 1]
        else:
            values_BD = (values_BTD * mask_BT1).sum(1) / mask_BT1.sum(1)
        if config.normalize:
            values_BD = torch.nn.functional.normalize(values_BD, dim=1)
        return Features(kind=FeatureKind.POOLED, values=values_BD)


class _Quiet:
    """Without progress bars and remarks, such as that a pooler that nobody reads is new."""

    def __enter__(self) -> None:
        self._verbosity = transformers_logging.get_verbosity()
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        transformers_logging.set_verbosity(self._verbosity)
        transformers_logging.enable_progress_bar()
