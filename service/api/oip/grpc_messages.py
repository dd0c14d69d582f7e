"""Inference over gRPC: its messages to and from what `service.api.oip.infer` asks and answers."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelInferResponse

from models.errors import InvalidTensor
from models.version import ModelVersion, Reference
from service.api.oip.address import reference
from service.api.oip.grpc_calls import parse
from service.api.oip.grpc_outline import check_outline
from service.api.oip.infer import InferRequest, OutputTensor, RequestedOutput
from service.api.oip.parameters import check_id, check_memory, flag, timeout_seconds, whole
from service.api.oip.tensor import MAX_DIMENSIONS, Tensor, check_bytes_count, check_datatype, check_shape, from_raw

# Where values are that are not sent as bytes; other datatypes than these are read by no model.
_CONTENTS = {"BYTES": "bytes_contents", "FP32": "fp32_contents", "UINT8": "uint_contents"}


def read_target(data: bytes, *, max_rest_bytes: int) -> Reference:
    """Whom a message asks, before the whole of it is parsed; where it is told, that may be done.

    Args:
        max_rest_bytes: of all that is not in ``raw_input_contents``.

    Raises:
        InvalidMessage, InvalidTensor, BodyTooLarge: see `check_outline`.
        InvalidParameter, VersionNotFound: see `reference`.
    """
    target = parse(ModelInferRequest, check_outline(data, max_rest_bytes=max_rest_bytes))
    return reference(target.model_name, target.model_version)


def read_request(data: bytes) -> InferRequest:
    """What a message asks that `read_target` has let pass.

    Raises:
        InvalidMessage: it is none.
        InputError: it cannot be understood.
        NotSupported: a tensor shall be in shared memory.
    """
    message = parse(ModelInferRequest, data)
    parameters = read_parameters(message.parameters)
    raws = message.raw_input_contents
    if raws and len(raws) != len(message.inputs):
        raise InvalidTensor(
            f"there are {len(message.inputs)} inputs and {len(raws)} raw_input_contents; send either none of them, or as many"
        )
    tensors, elements = [], 0
    for index, each in enumerate(message.inputs):
        tensors.append(_tensor(each, raws[index] if raws else None))
        elements += len(tensors[-1].elements)
        check_bytes_count(each.name, elements)  # of all of them
    return InferRequest(
        id=check_id(message.id),
        inputs=tensors,
        outputs=[_output(each, f"/outputs/{index}/parameters") for index, each in enumerate(message.outputs)],
        timeout_seconds=timeout_seconds(parameters),
        priority=whole(parameters, "priority", "/parameters", 1 << 32),
        truncate=flag(parameters, "truncate", "/parameters"),
    )


def read_parameters(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Parameters by name, whichever type each has; nothing for one that has no value."""
    kinds = {name: each.WhichOneof("parameter_choice") for name, each in parameters.items()}
    return {name: None if kind is None else getattr(parameters[name], kind) for name, kind in kinds.items()}


def _tensor(given: Any, raw: bytes | None) -> Tensor:
    name, datatype = given.name, check_datatype(given.name, given.datatype)
    # In memory, a list is larger than a message by far.
    shape = check_shape(name, list(given.shape[: MAX_DIMENSIONS + 1]))
    check_memory(given.parameters)
    if raw is None:
        return _from_contents(name, datatype, shape, given.contents)
    if given.HasField("contents"):
        raise InvalidTensor(f"the input '{name}' has both contents and raw_input_contents")
    return from_raw(name, datatype, shape, raw)


def _from_contents(name: str, datatype: str, shape: tuple[int, ...], contents: Any) -> Tensor:
    field = _CONTENTS.get(datatype)
    if field is None:
        raise InvalidTensor(f"the contents of '{name}' cannot be {datatype}; send raw_input_contents")
    if others := [descriptor.name for descriptor, _ in contents.ListFields() if descriptor.name != field]:
        raise InvalidTensor(f"the contents of '{name}', which is {datatype}, must be in {field}, not in {others[0]}")
    values = getattr(contents, field)
    if len(values) != math.prod(shape):
        raise InvalidTensor(f"'{name}' has {len(values):,} elements; its shape stands for {math.prod(shape):,}")
    if datatype == "BYTES":
        check_bytes_count(name, len(values))
        return Tensor(name=name, datatype=datatype, shape=shape, elements=list(values))
    return Tensor(name=name, datatype=datatype, shape=shape, raw=_packed(name, datatype, values))


def _packed(name: str, datatype: str, values: Iterable[Any]) -> bytes:
    try:
        return array("B" if datatype == "UINT8" else "f", values).tobytes()
    except OverflowError:
        raise InvalidTensor(f"'{name}', which is {datatype}, must be of whole numbers to 255") from None


def _output(given: Any, pointer: str) -> RequestedOutput:
    parameters = read_parameters(given.parameters)
    check_memory(parameters)
    return RequestedOutput(name=given.name, classes=whole(parameters, "classification", pointer, 1 << 31))


def write_answer(
    version: ModelVersion, request: InferRequest, tensors: Sequence[OutputTensor], truncated: Sequence[int]
) -> ModelInferResponse:
    """The message of an answer.

    Args:
        truncated: rows of which only a part was read.
    """
    answer = ModelInferResponse(
        model_name=version.name,
        model_version=str(version.number),
        id=request.id,
        outputs=[
            ModelInferResponse.InferOutputTensor(name=each.name, datatype=each.datatype, shape=each.shape)
            for each in tensors
        ],
        raw_output_contents=[each.raw for each in tensors],
    )
    if truncated:
        answer.parameters["truncated_rows"].string_param = ",".join(map(str, truncated))
    return answer
