"""Requests of clients of Text Embeddings Inference, and good answers; see `service.api.examples`. The model is ``intents``."""

from __future__ import annotations

from service.api.schemas import Json

READY: Json = {"texts": {"ready": True}}

EMBED: Json = {
    "texts": {"inputs": ["where is my card?", "my card is lost"], "dimensions": 2},
    "text": {"inputs": "where is my card?", "normalize": False, "truncate": True},
    "tokens": {"inputs": [[7, 8, 9]]},
}
EMBEDDINGS: Json = {"texts": [[0.6, -0.8], [0.8, 0.6]], "text": [[1.2, -1.6]], "tokens": [[0.6, -0.8]]}

PREDICT: Json = {
    "text": {"inputs": "where is my card?"},
    "texts": {"inputs": [["where is my card?"], ["my card is lost"]], "raw_scores": True},
    "hub": {"inputs": "where is my card?", "parameters": {"top_k": 1, "function_to_apply": "softmax"}},
}
PREDICTIONS: Json = {
    "text": [{"label": "arrival", "score": 0.75}, {"label": "lost_card", "score": 0.25}],
    "texts": [
        [{"label": "arrival", "score": 1.5}, {"label": "lost_card", "score": 0.4}],
        [{"label": "lost_card", "score": 2.5}, {"label": "arrival", "score": 0.3}],
    ],
    "hub": [[{"label": "arrival", "score": 0.75}]],
}

RERANK: Json = {
    "texts": {"query": "where is my card?", "texts": ["how do I top up?", "my card is lost"]},
    "returned": {"query": "where is my card?", "texts": ["how do I top up?", "my card is lost"], "return_text": True},
}
RANKS: Json = {
    "texts": [{"index": 1, "score": 0.8}, {"index": 0, "score": 0.1}],
    "returned": [
        {"index": 1, "text": "my card is lost", "score": 0.8},
        {"index": 0, "text": "how do I top up?", "score": 0.1},
    ],
}

SIMILARITY: Json = {
    "texts": {
        "inputs": {"source_sentence": "where is my card?", "sentences": ["how do I top up?", "my card is lost"]},
        "parameters": {},
    }
}
SCORES: Json = {"texts": [0.1, 0.8]}

ANYTHING: Json = {"hub": PREDICT["hub"], "ranking": RERANK["texts"], "similarity": SIMILARITY["texts"]}
ANSWERS: Json = {"hub": PREDICTIONS["hub"], "ranking": RANKS["texts"], "similarity": SCORES["texts"]}

INFO: Json = {
    "texts": {
        "model_id": "intents:1",
        "model_sha": "d492818cd5d5db174f48c46274cb1cf8d0ff4a5d6857807b4548822abac49fd1",
        "model_dtype": "int8",
        "served_model_name": "intents:1",
        "model_type": {
            "classifier": {
                "id2label": {"0": "lost_card", "1": "arrival"},
                "label2id": {"lost_card": 0, "arrival": 1},
            }
        },
        "max_concurrent_requests": 128,
        "max_input_length": 256,
        "max_batch_tokens": 8192,
        "max_batch_requests": 32,
        "max_client_batch_size": 2048,
        "auto_truncate": False,
        "tokenization_workers": 2,
        "version": "0.1.0",
        "sha": None,
        "docker_label": None,
    }
}
