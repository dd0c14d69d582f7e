"""What an unmodified ``tritonclient.http`` sees of a server, printed as JSON: ``triton_http_client.py sync|aio HOST:PORT IMAGE...``.

A program of its own: importing the client imports gevent, which changes a process.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException

TEXTS = ["it is a", "it is 7, and more of it", "\u00e9\u4e2d\U0001f600"]


async def value(found: Any) -> Any:
    """What a call of either client gives in the end."""
    return await found if inspect.isawaitable(found) else found


class Session:
    """Both clients have the same methods, one of them in coroutines."""

    def __init__(self, module: Any, url: str) -> None:
        self.module = module
        self.client: Any = module.InferenceServerClient(url)
        self.found: dict[str, Any] = {}

    def text(self, name: str, texts: list[str], *, binary: bool = True, column: bool = False) -> Any:
        data = np.array([text.encode() for text in texts], dtype=np.object_)
        data = data.reshape(-1, 1) if column else data
        tensor = self.module.InferInput(name, list(data.shape), "BYTES")
        tensor.set_data_from_numpy(data, binary_data=binary)
        return tensor

    async def infer(self, case: str, model: str, inputs: list[Any], **options: Any) -> None:
        result = await value(self.client.infer(model, inputs, **options))
        response = result.get_response()
        outputs = {output["name"]: result.as_numpy(output["name"]) for output in response["outputs"]}
        self.found[case] = {
            "response": {**response, "outputs": [[o["name"], o["datatype"], o["shape"]] for o in response["outputs"]]},
            "outputs": {name: listed(array) for name, array in outputs.items()},
        }

    async def refused(self, case: str, call: Callable[[], Any]) -> None:
        """What the client raises."""
        try:
            await value(call())
        except InferenceServerException as error:
            self.found[case] = [error.status(), error.message()]


def listed(array: Any) -> list[Any]:
    if array.dtype == np.object_:
        return [each.decode() if isinstance(each, bytes) else each for each in array.ravel()]
    found: list[Any] = array.tolist()
    return found


async def run(module: Any, url: str, images: Sequence[bytes]) -> dict[str, Any]:
    session = Session(module, url)
    client, found, text = session.client, session.found, session.text
    for name in ("is_server_live", "is_server_ready", "get_server_metadata"):
        found[name] = await value(getattr(client, name)())
    for model, version in [("letters", ""), ("letters", "1"), ("letters", "2"), ("nobody", "")]:
        found[f"ready {model} {version}"] = await value(client.is_model_ready(model, version))
    for model in ("letters", "colours"):
        found[f"metadata {model}"] = await value(client.get_model_metadata(model))
        found[f"config {model}"] = await value(client.get_model_config(model, "1"))

    await session.infer("binary", "letters", [text("text", TEXTS)], request_id="my id", model_version="1")
    await session.infer("column", "letters", [text("text", TEXTS, column=True)])
    outputs = [module.InferRequestedOutput(name, binary_data=False) for name in ("label", "probabilities")]
    await session.infer("json", "letters", [text("text", TEXTS, binary=False)], outputs=outputs)
    best = [module.InferRequestedOutput("probabilities", class_count=2)]
    await session.infer("classes", "letters", [text("text", TEXTS)], outputs=best, priority=1, timeout=5_000_000)
    await session.infer(
        "many classes",
        "letters",
        [text("text", TEXTS[:1])],
        outputs=[module.InferRequestedOutput("logits", class_count=99)],
    )
    for algorithm in ("gzip", "deflate"):
        await session.infer(
            algorithm,
            "letters",
            [text("text", TEXTS * 20)],
            request_compression_algorithm=algorithm,
            response_compression_algorithm=algorithm,
        )
    image = module.InferInput("image", [len(images)], "BYTES")
    image.set_data_from_numpy(np.array(images, dtype=np.object_))
    await session.infer("images", "colours", [image])
    levels = np.random.default_rng(1).integers(0, 256, (2, 3, 64, 64), dtype=np.uint8)
    normalised = ((levels / np.float32(255) - np.float32(0.5)) / np.float32(0.5)).astype(np.float32)
    for datatype, array in [("UINT8", levels), ("FP32", normalised)]:
        pixels = module.InferInput("pixel_values", list(array.shape), datatype)
        pixels.set_data_from_numpy(array)
        await session.infer(f"pixels {datatype}", "colours", [pixels])

    await session.refused("unknown model", lambda: client.infer("nobody", [text("text", ["a"])]))
    await session.refused("unknown input", lambda: client.infer("letters", [text("words", ["a"])]))
    await session.refused("empty text", lambda: client.infer("letters", [text("text", ["a", ""])]))
    await session.refused("too late", lambda: client.infer("letters", [text("text", ["a"])], timeout=1))
    await session.refused("shared memory", client.get_system_shared_memory_status)
    await session.refused("trace", client.get_trace_settings)
    await session.refused("log", client.get_log_settings)
    await value(client.close())
    return found


if __name__ == "__main__":
    MODULES = {"sync": tritonclient.http, "aio": tritonclient.http.aio}
    FILES = [Path(name).read_bytes() for name in sys.argv[3:]]
    print(json.dumps(asyncio.run(run(MODULES[sys.argv[1]], sys.argv[2], FILES))))
