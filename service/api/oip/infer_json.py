"""Inference over HTTP: a head in JSON, and after it the bytes of those tensors that are not in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from models.errors import BadRequest, BodyTooLarge, InvalidTensor, InvalidValue, shown
from models.signature import Signature
from models.version import ModelVersion
from service.api.body import parse_json
from service.api.oip.infer import InferRequest, OutputTensor, RequestedOutput
from service.api.oip.parameters import check_id, check_memory, flag, timeout_seconds, whole
from service.api.oip.tensor import Tensor, check_datatype, check_shape, from_json, from_raw, to_json

# Of JSON: all requests wait while one is read, and what is more than this is better sent as bytes.
MAX_VALUES = 1 << 19
MAX_LISTS = MAX_MEMBERS = 1 << 18
_MARKS = {b",": MAX_VALUES, b"[": MAX_LISTS, b"{": MAX_LISTS, b":": MAX_MEMBERS}
MAX_TENSORS = 16
JSON_SIZE = "inference-header-content-length"


def json_size(header: str | None, size: int) -> int | None:
    """How much of a body is JSON; None for all of it, and 0 where it is the one input itself.

    Args:
        header: the value of ``Inference-Header-Content-Length``.
        size: of the body.

    Raises:
        BadRequest: it is no number of bytes that the body has.
    """
    if header is None:
        return None
    if not (header.isascii() and header.isdecimal() and len(header) <= 12 and int(header) <= size):
        raise BadRequest("Inference-Header-Content-Length must be how many bytes of the body are JSON")
    return int(header)


def read_raw(body: bytes, signature: Signature) -> InferRequest:
    """A request that is nothing but its input: one row, whose outputs are all asked for, as bytes.

    Raises:
        InvalidTensor: the model reads more than one input.
    """
    spec = signature.inputs[0]  # of alternatives the first one: an image's file
    if len(signature.inputs) > 1 and not signature.alternatives:
        raise InvalidTensor("this model reads two inputs; send them by name")
    return InferRequest(
        inputs=[Tensor(name=spec.name, datatype=spec.datatype, shape=(1,), elements=[body])], binary=True
    )


def read_request(body: bytes, size: int | None) -> InferRequest:
    """A request in JSON.

    Args:
        body: whole.
        size: of the JSON in it; the bytes of tensors follow.

    Raises:
        InputError: it cannot be understood.
    """
    head = body if size is None else body[:size]
    for mark, most in _MARKS.items():
        if head.count(mark) > most:
            raise BodyTooLarge(f"the JSON has more than {most:,} '{mark.decode()}'; send tensors as bytes")
    document = parse_json(head)
    if not isinstance(document, dict):
        raise InvalidValue("the body must be an object")
    parameters = _parameters(document, "/parameters")
    inputs = _objects(document.get("inputs", []), "/inputs")
    rest = _Rest(body, len(head))
    tensors = [_tensor(each, f"/inputs/{index}", rest) for index, each in enumerate(inputs)]
    rest.check_end()
    outputs = _objects(document.get("outputs", []), "/outputs")
    return InferRequest(
        id=check_id(document.get("id", "")),
        inputs=tensors,
        outputs=[_output(each, f"/outputs/{index}") for index, each in enumerate(outputs)],
        timeout_seconds=timeout_seconds(parameters),
        priority=whole(parameters, "priority", "/parameters", 1 << 32),
        truncate=flag(parameters, "truncate", "/parameters"),
        binary=flag(parameters, "binary_data_output", "/parameters"),
    )


class _Rest:
    """The bytes of a body from a place on."""

    def __init__(self, data: bytes, start: int) -> None:
        self._data = memoryview(data)  # tens of megabytes, of which each row is copied, and nothing else
        self._start = start

    def take(self, size: int, name: str) -> memoryview:
        start, self._start = self._start, self._start + size
        if self._start > len(self._data):
            raise InvalidTensor(
                f"'{shown(name)}' has {size:,} bytes, and behind the JSON there are only {len(self._data) - start:,} more"
            )
        return self._data[start : self._start]

    def check_end(self) -> None:
        left = len(self._data) - self._start
        if left:
            raise InvalidTensor(f"the body has {left:,} bytes that belong to no input")


def _tensor(document: Mapping[str, Any], pointer: str, rest: _Rest) -> Tensor:
    name = _text(document, "name", pointer)
    datatype = check_datatype(name, document.get("datatype"))
    shape = check_shape(name, document.get("shape"))
    parameters = _parameters(document, f"{pointer}/parameters")
    check_memory(parameters)
    if "binary_data_size" not in parameters:
        if "data" not in document:
            raise InvalidTensor(f"the input '{shown(name)}' has neither 'data' nor 'binary_data_size'")
        return from_json(name, datatype, shape, document["data"], f"{pointer}/data")
    size = parameters["binary_data_size"]
    if type(size) is not int or size < 0:
        raise InvalidTensor(f"the binary_data_size of '{shown(name)}' must be a number of bytes")
    if "data" in document:
        raise InvalidTensor(f"the input '{shown(name)}' has both 'data' and 'binary_data_size'")
    return from_raw(name, datatype, shape, rest.take(size, name))


def _output(document: Mapping[str, Any], pointer: str) -> RequestedOutput:
    parameters = _parameters(document, f"{pointer}/parameters")
    check_memory(parameters)
    return RequestedOutput(
        name=_text(document, "name", pointer),
        classes=whole(parameters, "classification", f"{pointer}/parameters", 1 << 31),
        binary=flag(parameters, "binary_data", f"{pointer}/parameters") if "binary_data" in parameters else None,
    )


def _objects(value: Any, pointer: str) -> Sequence[Mapping[str, Any]]:
    if not isinstance(value, list):
        raise InvalidValue(f"{pointer}: this must be a list")
    if len(value) > MAX_TENSORS:
        raise InvalidTensor(f"{pointer}: there are more than {MAX_TENSORS} tensors")
    for index, each in enumerate(value):
        if not isinstance(each, dict):
            raise InvalidValue(f"{pointer}/{index}: this must be an object")
    return value


def _parameters(document: Mapping[str, Any], pointer: str) -> Mapping[str, Any]:
    found = document.get("parameters", {})
    if not isinstance(found, dict):
        raise InvalidValue(f"{pointer}: this must be an object")
    return found


def _text(document: Mapping[str, Any], name: str, pointer: str) -> str:
    value = document.get(name)
    if not isinstance(value, str):
        raise InvalidValue(f"{pointer}/{name}: this must be a string")
    return value


def write_answer(
    version: ModelVersion, request: InferRequest, tensors: Sequence[OutputTensor], truncated: Sequence[int]
) -> tuple[bytes, int | None]:
    """The body of an answer.

    Args:
        truncated: rows of which only a part was read.

    Returns:
        It, and how many bytes of it are JSON; None for all of them.
    """
    outputs, raws = [], []
    for tensor in tensors:
        document: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if request.binary if tensor.binary is None else tensor.binary:
            document["parameters"] = {"binary_data_size": len(tensor.raw)}
            raws.append(tensor.raw)
        else:
            document["data"] = to_json(tensor.datatype, tensor.raw)
        outputs.append(document)
    head = orjson.dumps(
        {
            "model_name": version.name,
            "model_version": str(version.number),
            **({"id": request.id} if request.id else {}),
            **({"parameters": {"truncated_rows": ",".join(map(str, truncated))}} if truncated else {}),
            "outputs": outputs,
        }
    )
    return (b"".join([head, *raws]), len(head)) if raws else (head, None)
