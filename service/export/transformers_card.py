"""The card of an export for transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.features import FeatureKind
from models.preprocessor import TextPreprocessorConfig
from models.task import Task
from models.transformers_backbone import T5_FAMILY
from service.export.card import ACTIVATION, card, head_program
from service.export.head_file import HEAD

if TYPE_CHECKING:
    from service.export.subject import Subject

_POOLING = {
    "mean": 'mask = read["attention_mask"].unsqueeze(2)\n    return (tokens * mask).sum(1) / mask.sum(1)',
    "first": "return tokens[:, 0]",
    "last": 'return tokens[torch.arange(len(tokens)), read["attention_mask"].sum(1) - 1]',
}


def transformers_card(subject: Subject) -> str:
    """What was exported, and a program that runs it."""
    manifest = subject.version.manifest
    what = "Weights and tokenizer for transformers and sentence-transformers."
    if manifest.task is not Task.EMBEDDING:
        what += f" The head lies beside them, in `{HEAD}`; the temperature is folded into it."
    return card(manifest, "transformers", what, f"```python\n{_program(subject)}```")


def _program(subject: Subject) -> str:
    manifest, config = subject.version.manifest, subject.stored.config
    assert isinstance(manifest.preprocessor, TextPreprocessorConfig)
    model = "AutoModelForTextEncoding" if config.architecture in T5_FAMILY else "AutoModel"
    has_head = manifest.task is not Task.EMBEDDING
    start = (
        f"import torch\n{'from safetensors.torch import load_file' + chr(10) if has_head else ''}"
        f"from transformers import {model}, AutoTokenizer\n\n"
        'tokenizer = AutoTokenizer.from_pretrained(".")\n'
        f'model = {model}.from_pretrained(".").eval()\n\n\n'
        "def embed(*texts):\n"
        '    read = tokenizer(*texts, padding=True, truncation=True, return_tensors="pt")\n'
        "    with torch.inference_mode():\n"
        "        tokens = model(**read).last_hidden_state\n"
    )
    if subject.kind is FeatureKind.TOKENS:
        start += "    return tokens\n"
    elif config.normalize:
        pooling = _POOLING[config.pooling].replace("return ", "pooled = ")
        start += f"    {pooling}\n    return torch.nn.functional.normalize(pooled)\n"
    else:
        start += f"    {_POOLING[config.pooling]}\n"
    if manifest.pair == "separate":
        start += (
            '\n\nu, v = embed(["a first text"]), embed(["and its second one"])\n'
            "values = torch.cat([u, v, (u - v).abs(), u * v], dim=1)\n"
        )
    else:
        texts = '["a first text"], ["and its second one"]' if manifest.pair else '["a first text", "and another one"]'
        start += f"\n\nvalues = embed({texts})\n"
    if not has_head:
        return f"{start}print(values.shape)\n"
    start += head_program(subject.predictor.head)
    if manifest.task is Task.REGRESSION:
        return f"{start}print(values[:, 0])\n"
    activation = ACTIVATION[subject.predictor.head.activation]
    labels = "[[model.config.id2label[int(best)] for best in row] for row in values.argmax(-1)]"
    if manifest.task is Task.TOKEN_CLASSIFICATION:
        return f"{start}print({labels})\n"
    return (
        f"{start}for row in values{activation}.tolist():\n"
        "    print({model.config.id2label[index]: score for index, score in enumerate(row)})\n"
    )
