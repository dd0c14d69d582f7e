"""Inference over HTTP: a head in JSON, and after it the bytes of those tensors that are not in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec
import orjson

from models.errors import BadRequest, BodyTooLarge, InvalidTensor, InvalidValue, shown
from models.signature import Signature
from models.version import ModelVersion
from service.api.body import parse_json
from service.api.oip.infer import InferRequest, OutputTensor, Plan, RequestedOutput, Selection
from service.api.oip.parameters import check_id, check_memory, flag, timeout_seconds, whole
from service.api.oip.tensor import Tensor, check_datatype, check_shape, from_json, from_raw, to_json
from service.api.worker_connection import Reply

MAX_KEPT_BYTES = 1024  # of a JSON before bytes that is remembered
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
    read = _read_again if len(head) <= MAX_KEPT_BYTES and size is not None else _read
    request, inputs = read(head)
    tensors = _filled(inputs, memoryview(body)[len(head) :])  # megabytes, not to be copied
    return InferRequest(
        id=request.id,
        inputs=tensors,
        outputs=request.outputs,
        timeout_seconds=request.timeout_seconds,
        priority=request.priority,
        truncate=request.truncate,
        binary=request.binary,
    )


def _read(head: bytes) -> tuple[InferRequest, Sequence[Tensor | _Behind]]:
    """A request without its inputs, and these, as far as they are in its JSON."""
    for mark, most in _MARKS.items():
        if head.count(mark) > most:
            raise BodyTooLarge(f"the JSON has more than {most:,} '{mark.decode()}'; send tensors as bytes")
    try:
        document = msgspec.convert(parse_json(head), _Document)
    except msgspec.ValidationError as error:
        raise InvalidValue(_explained(error)) from None
    _check_count(document.inputs, "/inputs")
    _check_count(document.outputs, "/outputs")
    parameters = document.parameters
    inputs = [_tensor(each, f"/inputs/{index}") for index, each in enumerate(document.inputs)]
    request = InferRequest(
        id=check_id(document.id),
        outputs=tuple(_output(each, f"/outputs/{index}") for index, each in enumerate(document.outputs)),
        timeout_seconds=timeout_seconds(parameters),
        priority=whole(parameters, "priority", "/parameters", 1 << 32),
        truncate=flag(parameters, "truncate", "/parameters"),
        binary=flag(parameters, "binary_data_output", "/parameters"),
    )
    return request, inputs


_read_again = lru_cache(1024)(_read)  # clients that send bytes say the same before them, again and again


class _Input(msgspec.Struct):
    name: str
    datatype: Any = None
    shape: Any = None
    data: Any = msgspec.UNSET
    parameters: dict[str, Any] = {}


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Document(msgspec.Struct):
    """A request's JSON as far as its form goes; what it says is looked at elsewhere, and what nobody knows is ignored."""

    inputs: list[_Input] = []
    outputs: list[_Output] = []
    id: Any = ""
    parameters: dict[str, Any] = {}


_PLACE = re.compile(r"(?:Expected `(?P<kind>\w+)`.*?|.*required field `(?P<missing>\w+)`)(?: - at `\$(?P<place>.*)`)?")
_KINDS = {"str": "a string", "array": "a list", "object": "an object"}


def _explained(error: msgspec.ValidationError) -> str:
    """What must be there, after a pointer to the place: msgspec says ``$.inputs[0].name`` at the end."""
    match = _PLACE.fullmatch(str(error))
    assert match is not None
    pointer = re.sub(r"\[(\w+)\]|\.(\w+)", r"/\1\2", match["place"] or "")
    if match["missing"]:
        return f"{pointer}/{match['missing']}: this is missing"
    return f"{pointer or 'the body'}: this must be {_KINDS[match['kind']]}"


class _Behind(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor of so many bytes behind the JSON."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    size: int


def _filled(inputs: Sequence[Tensor | _Behind], data: memoryview) -> Sequence[Tensor]:
    """All inputs as tensors, some of them made of the bytes behind the JSON."""
    tensors, start = [], 0
    for each in inputs:
        if isinstance(each, _Behind):
            end = start + each.size
            if end > len(data):
                raise InvalidTensor(
                    f"'{shown(each.name)}' has {each.size:,} bytes, and behind the JSON there are only "
                    f"{len(data) - start:,} more"
                )
            tensors.append(from_raw(each.name, each.datatype, each.shape, data[start:end]))
            start = end
        else:
            tensors.append(each)
    if start != len(data):
        raise InvalidTensor(f"the body has {len(data) - start:,} bytes that belong to no input")
    return tensors


def _tensor(document: _Input, pointer: str) -> Tensor | _Behind:
    name, parameters = document.name, document.parameters
    datatype = check_datatype(name, document.datatype)
    shape = check_shape(name, document.shape)
    check_memory(parameters)
    has_data = document.data is not msgspec.UNSET
    if "binary_data_size" not in parameters:
        if not has_data:
            raise InvalidTensor(f"the input '{shown(name)}' has neither 'data' nor 'binary_data_size'")
        return from_json(name, datatype, shape, document.data, f"{pointer}/data")
    size = parameters["binary_data_size"]
    if type(size) is not int or size < 0:
        raise InvalidTensor(f"the binary_data_size of '{shown(name)}' must be a number of bytes")
    if has_data:
        raise InvalidTensor(f"the input '{shown(name)}' has both 'data' and 'binary_data_size'")
    return _Behind(name=name, datatype=datatype, shape=shape, size=size)


def _output(document: _Output, pointer: str) -> RequestedOutput:
    parameters = document.parameters
    if not parameters:
        return RequestedOutput(name=document.name)
    check_memory(parameters)
    return RequestedOutput(
        name=document.name,
        classes=whole(parameters, "classification", f"{pointer}/parameters", 1 << 31),
        binary=flag(parameters, "binary_data", f"{pointer}/parameters") if "binary_data" in parameters else None,
    )


def _check_count(tensors: Sequence[object], pointer: str) -> None:
    if len(tensors) > MAX_TENSORS:
        raise InvalidTensor(f"{pointer}: there are more than {MAX_TENSORS} tensors")


def write_answer(version: ModelVersion, request: InferRequest, plan: Plan, reply: Reply) -> tuple[bytes, int | None]:
    """The body of an answer.

    Returns:
        It, and how many bytes of it are JSON; None for all of them.
    """
    document: dict[str, Any] = {"model_name": version.name, "model_version": str(version.number)}
    if request.id:
        document["id"] = request.id
    if reply.truncated:
        document["parameters"] = {"truncated_rows": ",".join(map(str, reply.truncated))}
    all_binary = plan.selection.all_binary
    if request.binary if all_binary is None else all_binary:
        outputs, payload = _binary_outputs(plan.selection, len(plan.items), tuple(reply.sizes)), reply.payload
    else:
        outputs, payload = _outputs(plan.tensors(reply), binary=request.binary)
    head = b'%b,"outputs":%b}' % (orjson.dumps(document)[:-1], outputs)
    return head + payload, len(head) if payload else None


@lru_cache(1024)  # numbers have one size for all rows, and there are few labels
def _binary_outputs(selection: Selection, rows: int, sizes: Sequence[int]) -> bytes:
    """What JSON says of outputs that are all sent as they came from a worker."""
    return orjson.dumps(
        [
            {
                "name": spec.name,
                "datatype": spec.datatype,
                "shape": (rows, *spec.shape[1:]),
                "parameters": {"binary_data_size": size},
            }
            for (_, spec), size in zip(selection.outputs, sizes, strict=True)
        ]
    )


def _outputs(tensors: Sequence[OutputTensor], *, binary: bool) -> tuple[bytes, bytes]:
    """What JSON says of outputs, and the bytes of those that are not in it."""
    outputs, raws = [], []
    for tensor in tensors:
        document: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if binary if tensor.binary is None else tensor.binary:
            document["parameters"] = {"binary_data_size": len(tensor.raw)}
            raws.append(tensor.raw)
        else:
            document["data"] = to_json(tensor.datatype, tensor.raw)
        outputs.append(document)
    return orjson.dumps(outputs), b"".join(raws)
