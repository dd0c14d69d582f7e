"""Cards: what was exported, and a program that runs it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import yaml

from models.backbone import Modality
from models.preprocessor import ImagePreprocessorConfig, TextPreprocessorConfig
from models.task import Task
from service.export.outline import SECOND, Outline

if TYPE_CHECKING:
    from models.head import Head
    from models.manifest import Manifest
    from service.export.subject import Subject

_PIPELINES = {
    Task.SINGLE_LABEL: ("image-classification", "text-classification"),
    Task.MULTI_LABEL: ("image-classification", "text-classification"),
    Task.REGRESSION: ("image-classification", "text-classification"),
    Task.TOKEN_CLASSIFICATION: (None, "token-classification"),
    Task.EMBEDDING: ("image-feature-extraction", "feature-extraction"),
}
ACTIVATION = {"softmax": ".softmax(-1)", "sigmoid": ".sigmoid()", "identity": ""}  # of a tensor of torch
_CHECKED = "How far its answers are from those of the version that it was made of stands in `export-report.json`."


def onnx_card(subject: Subject, outline: Outline) -> str:
    """That of an ONNX graph."""
    manifest = subject.version.manifest
    reading = (
        image_reading(manifest.preprocessor) if isinstance(manifest.preprocessor, ImagePreprocessorConfig) else None
    )
    program = f'session = onnxruntime.InferenceSession("model.onnx")\n{_onnx_answer(manifest)}'
    if isinstance(manifest.preprocessor, TextPreprocessorConfig):
        reading = _text_reading(manifest.preprocessor)
    tensors = [
        f"| {side} | `{each.name}` | {each.datatype} | {', '.join(['rows', *('tokens' if size == -1 else str(size) for size in each.dims)])} |"
        for side, specs in (("in", outline.inputs), ("out", outline.outputs))
        for each in specs
    ]
    return card(
        manifest,
        "onnx",
        "An ONNX graph: normalisation, backbone, head, temperature and activation. Pixels go in as bytes, and texts as tokens.",
        "\n".join(["| | tensor | type | shape |", "|---|---|---|---|", *tensors]),
        f"```python\n{reading}\n{program}```",
    )


def card(manifest: Manifest, library: str, what: str, *blocks: str) -> str:
    """A card as Markdown, with the metadata that the Hugging Face Hub reads.

    Args:
        library: that loads it.
        what: in a sentence.
        blocks: further ones.
    """
    pipeline = _PIPELINES[manifest.task][manifest.modality is Modality.TEXT]
    scheme, _, name = manifest.backbone.source.partition(":")
    base = {"timm": f"timm/{name}", "hf": name}.get(scheme)
    metadata = {
        "library_name": library,
        "pipeline_tag": pipeline,
        "base_model": base,
        "tags": ["graftwork", manifest.task.value],
    }
    front = yaml.safe_dump({key: value for key, value in metadata.items() if value}, sort_keys=False)
    title = f"# {manifest.name}:{manifest.number}"
    facts = [f"Task: {manifest.task}. Backbone: {manifest.backbone.public_source}.", _meaning(manifest)]
    return "\n\n".join([f"---\n{front}---", title, what, " ".join(facts).rstrip(), *blocks, _CHECKED]) + "\n"


def _meaning(manifest: Manifest) -> str:
    """What its answers mean."""
    calibration = manifest.reference.calibration
    if manifest.task is Task.MULTI_LABEL:
        return f"A label holds where its probability is {calibration.threshold:g} or more."
    if manifest.task is Task.REGRESSION:
        return f"90 % of true values are within {calibration.interval:g} of the score."
    if manifest.task is Task.TOKEN_CLASSIFICATION:
        return "A word has the label of its first token."
    is_calibrated = manifest.task is Task.SINGLE_LABEL and manifest.data is not None
    return "Probabilities are calibrated." if is_calibrated else ""


def image_reading(config: ImagePreprocessorConfig) -> str:
    """From a file to ``pixels``."""
    _, height, width = config.input_size
    across, down = (math.floor(side / config.crop_pct) for side in (width, height))
    shorter = (
        f"shorter = min(image.size)\nsize = ({across} * image.width // shorter, {across} * image.height // shorter)\n"
    )
    ratio = (
        f"ratio = min(image.width / {across}, image.height / {down})\n"
        "size = (round(image.width / ratio), round(image.height / ratio))\n"
    )
    sizes = {
        "center": shorter if across == down else ratio,  # as timm rounds: a pixel more or less changes answers
        "squash": f"size = ({across}, {down})\n",
    }
    if config.crop_mode not in sizes or config.interpolation not in ("bilinear", "bicubic"):
        return (
            "import json\n\nimport numpy as np\nimport onnxruntime\nfrom PIL import Image\nfrom timm.data import create_transform\n\n"
            'settings = json.load(open("preprocessor.json"))\n'
            'settings.pop("modality")\n'
            "transform = create_transform(**settings, is_training=False, normalize=False)\n"
            'pixels = np.asarray(transform(Image.open("photo.jpg").convert("RGB")))[None]\n'
        )
    return (
        "import numpy as np\nimport onnxruntime\nfrom PIL import Image, ImageOps\n\n"
        'image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")\n'
        f"{sizes[config.crop_mode]}"
        f"image = image.resize(size, Image.Resampling.{config.interpolation.upper()})\n"
        f"left, top = round((image.width - {width}) / 2), round((image.height - {height}) / 2)\n"
        f"image = image.crop((left, top, left + {width}, top + {height}))\n"
        "pixels = np.asarray(image).transpose(2, 0, 1)[None]  # uint8 (rows, 3, height, width)\n"
    )


def _text_reading(config: TextPreprocessorConfig) -> str:
    """From texts to token ids."""
    start = (
        "import numpy as np\nimport onnxruntime\nfrom tokenizers import Tokenizer\n\n"
        'tokenizer = Tokenizer.from_file("tokenizer.json")\n'
        f"tokenizer.enable_truncation({config.max_tokens})\n"
        f"tokenizer.enable_padding(pad_id={config.pad_id})\n"
    )
    single = 'read = tokenizer.encode_batch(["a first text", "and another one"])\n'
    joint = 'read = tokenizer.encode_batch([("a first text", "and its second one")])\n'
    tensors = (
        "inputs = {\n"
        '    "input_ids": np.array([each.ids for each in read]),\n'
        '    "token_type_ids": np.array([each.type_ids for each in read]),\n'
        '    "attention_mask": np.array([each.attention_mask for each in read]),\n'
        "}\n"
    )
    if config.pair != "separate":
        return start + (joint if config.pair == "joint" else single) + tensors
    return (
        f"{start}inputs = {{}}\n"
        f'for prefix, texts in (("", ["a first text"]), ("{SECOND}", ["and its second one"])):\n'
        "    read = tokenizer.encode_batch(texts)\n"
        '    inputs[f"{prefix}input_ids"] = np.array([each.ids for each in read])\n'
        '    inputs[f"{prefix}token_type_ids"] = np.array([each.type_ids for each in read])\n'
        '    inputs[f"{prefix}attention_mask"] = np.array([each.attention_mask for each in read])\n'
    )


def _onnx_answer(manifest: Manifest) -> str:
    """From tensors to what is printed."""
    inputs = '{"pixels": pixels}' if manifest.modality is Modality.IMAGE else "inputs"
    if manifest.task is Task.EMBEDDING:
        return f'(embedding,) = session.run(["embedding"], {inputs})\nprint(embedding.shape)\n'
    if manifest.task is Task.REGRESSION:
        return f'(score,) = session.run(["score"], {inputs})\nprint(score[:, 0])\n'
    asked = f'(probabilities,) = session.run(["probabilities"], {inputs})\n'
    labels = 'labels = open("labels.txt", encoding="utf-8").read().splitlines()\n'
    if manifest.task is Task.TOKEN_CLASSIFICATION:
        return f"{asked}{labels}for each, row in zip(read, probabilities):\n    print([(token, labels[best]) for token, best in zip(each.tokens, row.argmax(-1))])\n"
    if manifest.task is Task.MULTI_LABEL:
        threshold = manifest.reference.calibration.threshold
        return f"{asked}{labels}for row in probabilities:\n    print([label for label, score in zip(labels, row) if score >= {threshold:g}])\n"
    return f"{asked}{labels}for row in probabilities:\n    print(labels[row.argmax()], row.max())\n"


def head_program(head: Head) -> str:
    """From embeddings to logits, both called ``values``."""
    hidden = 'values = torch.relu(values @ head["hidden.weight"].T + head["hidden.bias"])\n'
    return (
        'head = load_file("head.safetensors")\n'
        f"{'' if head.hidden is None else hidden}"
        'values = values @ head["weight"].T + head["bias"]\n'
    )
