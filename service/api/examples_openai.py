"""Good answers to OpenAI's clients in the OpenAPI document; see `service.api.examples`."""

from __future__ import annotations

import base64
import struct

from service.api.schemas import Json


def _card(id_: str, modality: str, dimensions: int, task: str = "single-label") -> Json:
    return {
        "id": id_,
        "object": "model",
        "created": 1_790_000_000,
        "owned_by": "graftwork",
        "task": task,
        "modality": modality,
        "dimensions": dimensions,
    }


def _model(name: str, modality: str, dimensions: int) -> Json:
    return {
        "name": name,
        "ready": True,
        "default_version": 1,
        "aliases": {"champion": 1},
        "keep": "latest:2",
        "versions": [{"version": 1, "state": "ready"}],
        **_card(name, modality, dimensions),
    }


def _embeddings(model: str, tokens: int, *vectors: object) -> Json:
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)],
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


MODELS: Json = {
    "texts": {
        "models": ["flowers", "intents"],
        "object": "list",
        "data": [
            *(_card("flowers", "image", 1280), _card("flowers:1", "image", 1280)),
            *(_card("intents", "text", 384), _card("intents:1", "text", 384)),
            _card("tf_efficientnet_lite0", "image", 1280, "embedding"),
            _card("all-MiniLM-L6-v2", "text", 384, "embedding"),
        ],
    }
}
MODEL: Json = {
    "texts": _model("intents", "text", 384),
    "pairs": {**_card("duplicates:1", "text", 384), "name": "duplicates", "version": 1, "state": "ready"},
    "images": _model("flowers", "image", 1280),
}
EMBEDDINGS: Json = {
    "texts": _embeddings("intents:1", 12, [0.6, -0.8], [0.8, 0.6]),
    "pairs": _embeddings("duplicates:1", 6, base64.b64encode(struct.pack("<2f", 0.6, -0.8)).decode()),
    "images": _embeddings("flowers:1", 0, [0.6, -0.8]),
}
