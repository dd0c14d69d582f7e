"""Inferences in the Open Inference Protocol that no client would ask for: tensors, sizes and lengths that do not fit."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Sequence
from random import Random
from typing import Any

from service.api.oip.tensor import pack_elements
from tests.faults.mutation import mutated
from tests.tiny_models import picture

PICTURES = [picture(1), picture(2, file_format="JPEG")]
PIXELS = 3 * 64 * 64  # of the tiny image model
TEXTS = ["a text", "another one", "", " ", "\ud800", "\x00", "e\u0301\u202e\U0001f468\u200d\U0001f469", "long " * 300]
LENGTH = "Inference-Header-Content-Length"
LENGTHS = [b"99999999999", b"-1", b"abc", b"+5", b"", b"0", b"1", b"5, 5", b"1e2", b"9" * 300, b"\xb2"]
PATHS = [
    *["/v2/models/{0}/infer"] * 6,
    *("/v2/models/{0}/versions/1/infer", "/v2/models/{0}/versions/{1}/infer", "/v2/models/{0}/versions//infer"),
    *("/v2/models/{0}", "/v2/models/{0}/config", "/v2/models/{0}/ready", "/v2/models/{0}/versions/{1}"),
    *("/v2", "/v2/", "/v2/{0}", "/v2/models", "/v2/models/{0}/infer/", "/v2/systemsharedmemory/{0}/{1}", "/v2/logging"),
]

SHAPES = [
    *([-1], [0], [1.0], ["1"], [True], [None], [1, 0], [1] * 9, [2], [1, 1], [1, 2], [65], [1 << 64], [], "1", 1, {}),
    *([16, (1 << 60) + 2], [1 << 62, 4], [1, 3, 64, 64], [1, 3, 64, 65], [2, 3, 64, 64], [1, 64, 64, 3], [1 << 31]),
]
DATATYPES = ["", "bytes", "FP8", 1, None, "BOOL", "INT64", "FP16", "BF16", "FP32", "FP64", "UINT8", "UINT64", "BYTES"]
NAMES = ["text", "image", "pixel_values", "text_pair", "Text", "", "x" * 300, "a\n", None, 1, []]
VALUES = [
    *(
        None,
        True,
        0,
        -1,
        1.5,
        255,
        256,
        1 << 63,
        1 << 64,
        10**400,
        1e39,
        float("nan"),
        float("-inf"),
        "",
        "a",
        "YQ==",
        {},
    ),
    *([], [[]], [1, [2]], [["a"], ["b"]]),
]
SIZES = [-1, 0, 1, 4, 1 << 40, (1 << 64) - 1, 5.0, "5", True, None]
PARAMETERS = ["binary_data_size", "shared_memory_region", "binary_data", "classification", "x"]
OUTPUTS = ["probabilities", "logits", "label", "embedding", "entities", "nothing", "", None, 1]
REQUEST_PARAMETERS = ["timeout", "priority", "truncate", "binary_data_output", "sequence_id", "headers"]
IDS = ["1", "", " a b ", "x" * 1024, "x" * 1025, "a\r\nb", "\x00", None, 1, "\u00e9\u4e2d\U0001f600"]


def odd_inference(random: Random) -> tuple[Sequence[tuple[str, bytes]], bytes]:
    """Headers that say how to read a body, and the body: odd in a few places, or in none."""
    document, tail = _question(random)
    if random.random() < 0.6:
        for _ in range(random.choice([1, 1, 2])):
            _spoil(random, document)
    head = json.dumps(document, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")
    size = len(head)
    match random.randrange(8):
        case 0:
            head = mutated(random, head)
        case 1:
            tail = mutated(random, tail)
        case 2:
            head, size = mutated(random, head), len(head)
    headers: list[tuple[str, bytes]] = []
    if tail or random.random() < 0.2:
        headers.append((LENGTH, b"%d" % size))
    match random.randrange(10):
        case 0:
            headers = [(LENGTH, b"%d" % max(0, len(head) + random.randint(-6, 6)))]
        case 1:
            headers = [(LENGTH, random.choice(LENGTHS))]
        case 2:
            headers = headers * random.choice([0, 2])
        case 3:
            headers, head, tail = [(LENGTH, b"0")], b"", random.choice([*PICTURES, b"a text", b"\xff", b""])
    return _packed(random, headers, head + tail)


def _packed(random: Random, headers: list[tuple[str, bytes]], body: bytes) -> tuple[Sequence[tuple[str, bytes]], bytes]:
    """Compressed, now and then; now and then wrongly."""
    if random.random() < 0.8:
        return headers, body
    encoding = random.choice([b"gzip", b"deflate"])
    packed = gzip.compress(body, 1) if encoding == b"gzip" else zlib.compress(body, 1)
    match random.randrange(5):
        case 0:
            packed = mutated(random, packed)
        case 1:
            encoding = random.choice([b"gzip", b"deflate", b"br", b"gzip, gzip", b""])
        case 2:
            packed = zlib.compress(bytes(random.choice([1 << 20, 17 << 20])))
    return [*headers, ("Content-Encoding", encoding)], packed


def _question(random: Random) -> tuple[dict[str, Any], bytes]:
    """A good one, of a text or an image model, and the bytes behind it."""
    rows = random.choice([1, 1, 2, 3])
    is_binary = random.random() < 0.5
    tensor: dict[str, Any] = {"shape": [rows]}
    match random.choice(["text", "text", "image", "FP32", "UINT8"]):
        case "text":
            texts = random.choices(TEXTS if random.random() < 0.4 else TEXTS[:2], k=rows)
            tensor |= {"name": "text", "datatype": "BYTES", "data": texts}
            raw = pack_elements([text.encode("utf-8", "surrogatepass") for text in texts])
        case "image":
            files = random.choices(PICTURES, k=rows)
            tensor |= {
                "name": "image",
                "datatype": "BYTES",
                "data": [base64.b64encode(each).decode() for each in files],
            }
            raw = pack_elements(files)
        case datatype:
            size = 4 if datatype == "FP32" else 1
            raw = (random.randbytes(PIXELS * size) if random.random() < 0.2 else bytes(PIXELS * size)) * rows
            tensor |= {"name": "pixel_values", "datatype": datatype, "shape": [rows, 3, 64, 64]}
            tensor["data"] = [0] * (PIXELS * rows) if random.random() < 0.3 else [random.choice(VALUES)] * 5
            is_binary = is_binary or random.random() < 0.8
    document: dict[str, Any] = {"inputs": [tensor]}
    if random.random() < 0.4:
        document["outputs"] = [{"name": random.choice(OUTPUTS[:2]), "parameters": {"classification": 2}}]
    if random.random() < 0.4:
        document["parameters"] = {"binary_data_output": True}
    if not is_binary:
        return document, b""
    del tensor["data"]
    tensor["parameters"] = {"binary_data_size": len(raw)}
    return document, raw


def _spoil(random: Random, document: dict[str, Any]) -> None:
    """Changes one member."""
    inputs = document.get("inputs")
    tensor: Any = inputs[0] if isinstance(inputs, list) and inputs else {}
    if not isinstance(tensor, dict):
        tensor = {}
    match random.randrange(11):
        case 0:
            tensor["shape"] = random.choice(SHAPES)
        case 1:
            tensor["datatype"] = random.choice(DATATYPES)
        case 2:
            tensor["name"] = random.choice(NAMES)
        case 3:
            tensor["data"] = random.choice([random.choice(VALUES), [random.choice(VALUES)]])
        case 4:
            tensor["parameters"] = random.choice([{random.choice(PARAMETERS): random.choice(SIZES)}, [], None])
        case 5:
            tensor.pop(random.choice(list(tensor) or [""]), None)
        case 6:
            document["inputs"] = random.choice([[], [tensor] * 2, [tensor] * 17, [None], {}, None, "x"])
        case 7:
            parameters = {random.choice(PARAMETERS): random.choice(SIZES)}
            document["outputs"] = [
                {"name": random.choice(OUTPUTS), "parameters": parameters} for _ in range(random.randrange(3))
            ]
        case 8:
            document["parameters"] = {
                random.choice(REQUEST_PARAMETERS): random.choice([*SIZES, False, 1, 1000, 10_000_000])
            }
        case 9:
            document["id"] = random.choice(IDS)
        case 10:
            document.pop(random.choice(list(document) or [""]), None)
