"""An inference request and its answer, as HTTP and gRPC both have them: tensors by name."""

from __future__ import annotations

import binascii
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from models.errors import BodyTooLarge, InvalidBase64, InvalidParameter, InvalidTensor, shown
from models.signature import IMAGE, PIXEL_VALUES, TEXT_PAIR, Signature, TensorSpec
from service.api.inference import Question
from service.api.oip.tensor import Tensor, pack_elements
from service.api.worker_connection import Reply
from service.messages import Form, Wish, pack_pair


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestedOutput:
    """A tensor that is asked for.

    Attributes:
        classes: how many of the highest values to give, each with its class, instead of all; 0 for the tensor itself.
        binary: whether HTTP gives its bytes; None for what the request says of all.
    """

    name: str
    classes: int = 0
    binary: bool | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class InferRequest:
    """What a client asks.

    Attributes:
        id: echoed in the answer.
        outputs: all that the version has where none is named.
        timeout_seconds: until an answer is of no use; None for the server's own limit.
        priority: 1 is the highest, 0 the default.
        truncate: cut texts that are too long instead of refusing them.
        binary: whether HTTP gives bytes for outputs that do not say.
    """

    id: str = ""
    inputs: Sequence[Tensor] = ()
    outputs: Sequence[RequestedOutput] = ()
    timeout_seconds: float | None = None
    priority: int = 0
    truncate: bool = False
    binary: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputTensor:
    """A tensor of the answer.

    Attributes:
        binary: as in `RequestedOutput`.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes
    binary: bool | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What workers are asked for a request.

    Attributes:
        items: one a row.
        outputs: what is asked for, and what it is.
    """

    items: Sequence[bytes]
    wish: Wish
    outputs: Sequence[tuple[RequestedOutput, TensorSpec]]

    def answer(self, reply: Reply) -> Sequence[OutputTensor]:
        """The tensors that were asked for."""
        ends = list(accumulate(reply.sizes, initial=0))
        raws = [reply.payload[start:end] for start, end in pairwise(ends)]
        by_name = dict(zip(self.wish.outputs, raws, strict=True))
        rows, found = len(self.items), []
        for wanted, spec in self.outputs:
            raw, datatype, shape = by_name[spec.name], str(spec.datatype), (rows, *spec.shape[1:])
            if wanted.classes:
                raw, classes = _classified(raw, spec, wanted.classes)
                datatype, shape = "BYTES", (rows, classes)
            found.append(OutputTensor(name=spec.name, datatype=datatype, shape=shape, raw=raw, binary=wanted.binary))
        return found


def plan(request: InferRequest, signature: Signature, *, max_rows: int, max_image_bytes: int) -> Plan:
    """Checks a request against what its version reads and gives.

    Args:
        max_rows: of one request.
        max_image_bytes: of each image's file.

    Raises:
        InvalidTensor: inputs or outputs are missing, unknown, named twice, or of another datatype or shape.
        InvalidBase64: an image in JSON is not in base64.
        BodyTooLarge: an image's file is too large.
    """
    outputs = _outputs(request, signature)
    items, form = _items(_inputs(request, signature), signature)
    if len(items) > max_rows:
        raise InvalidTensor(f"{len(items):,} rows are over the limit of {max_rows} a request")
    if signature.alternatives and form == "item":
        _check_files(items, max_image_bytes)
    names = list(dict.fromkeys(spec.name for _, spec in outputs))
    wish = Wish(form=form, outputs=names, truncate=request.truncate)
    return Plan(items=items, wish=wish, outputs=outputs)


def _inputs(request: InferRequest, signature: Signature) -> dict[str, Tensor]:
    given: dict[str, Tensor] = {}
    for tensor in request.inputs:
        spec = signature.input(tensor.name)
        if spec is None:
            raise InvalidTensor(f"there is no input '{shown(tensor.name)}'; this model reads {_listed(signature)}")
        if tensor.name in given:
            raise InvalidTensor(f"the input '{tensor.name}' is there twice")
        _check(tensor, spec)
        given[tensor.name] = tensor
    missing = [spec.name for spec in signature.inputs if spec.name not in given]
    if signature.alternatives:
        if len(given) != 1:
            raise InvalidTensor(f"this model reads {_listed(signature)}; send one of them")
    elif missing:
        raise InvalidTensor(f"the input '{missing[0]}' is missing; this model reads {_listed(signature)}")
    return given


def _listed(signature: Signature) -> str:
    return (" or " if signature.alternatives else " and ").join(f"'{spec.name}'" for spec in signature.inputs)


def _check(tensor: Tensor, spec: TensorSpec) -> None:
    if tensor.datatype not in (spec.datatype, spec.also):
        also = "" if spec.also is None else f" or {spec.also}"
        raise InvalidTensor(f"the input '{spec.name}' must be {spec.datatype}{also}, not {tensor.datatype}")
    shape = tensor.shape[:1] if len(spec.shape) == 1 and tensor.shape[1:] == (1,) else tensor.shape
    if len(shape) != len(spec.shape) or shape[1:] != spec.shape[1:]:
        wanted = ", ".join(map(str, spec.shape))
        raise InvalidTensor(f"the input '{spec.name}' must have the shape [{wanted}], not {list(tensor.shape)}")


def _items(given: dict[str, Tensor], signature: Signature) -> tuple[Sequence[bytes], Form]:
    if PIXEL_VALUES in given:
        pixels = given[PIXEL_VALUES]
        size = len(pixels.raw) // pixels.shape[0]
        rows = [bytes(pixels.raw[start : start + size]) for start in range(0, len(pixels.raw), size)]
        return rows, "UINT8" if pixels.datatype == "UINT8" else "FP32"
    if TEXT_PAIR in given:
        first, second = (given[spec.name].elements for spec in signature.inputs)
        if len(first) != len(second):
            raise InvalidTensor(f"there are {len(first)} texts and {len(second)} to be paired with them; send as many")
        return list(map(pack_pair, first, second)), "item"
    (tensor,) = given.values()
    if tensor.name == IMAGE and tensor.is_text:
        return [_from_base64(index, element) for index, element in enumerate(tensor.elements)], "item"
    return tensor.elements, "item"


def _from_base64(index: int, text: bytes) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):
        raise InvalidBase64(
            f"image {index} is not in standard base64 with padding, which JSON needs; or send the file's bytes"
        ) from None


def _check_files(files: Sequence[bytes], limit: int) -> None:
    for index, file in enumerate(files):
        if len(file) > limit:
            raise BodyTooLarge(
                f"image {index} has {len(file):,} bytes, over the limit of {limit:,}; send a smaller file"
            )


def _outputs(request: InferRequest, signature: Signature) -> Sequence[tuple[RequestedOutput, TensorSpec]]:
    if not request.outputs:
        return [(RequestedOutput(name=spec.name), spec) for spec in signature.outputs]
    found: dict[str, tuple[RequestedOutput, TensorSpec]] = {}
    for wanted in request.outputs:
        spec = signature.output(wanted.name)
        if spec is None:
            known = ", ".join(f"'{each.name}'" for each in signature.outputs)
            raise InvalidTensor(f"there is no output '{shown(wanted.name)}'; this model gives {known}")
        if wanted.name in found:
            raise InvalidTensor(f"the output '{wanted.name}' is there twice")
        if wanted.classes and (spec.datatype != "FP32" or not spec.labels):
            raise InvalidParameter(f"the output '{wanted.name}' has no classes; leave out 'classification'")
        found[wanted.name] = wanted, spec
    return list(found.values())


def _classified(raw: bytes, spec: TensorSpec, count: int) -> tuple[bytes, int]:
    """Each row's highest values as ``value:index:label``, highest first, as Triton's classification extension has them."""
    width = spec.shape[1]
    count = min(count, width)
    values, found = array("f", raw), []
    for start in range(0, len(values), width):
        row = values[start : start + width]
        best = sorted(range(width), key=row.__getitem__, reverse=True)[:count]
        found += [f"{row[index]:.6f}:{index}:{spec.labels[index]}".encode() for index in best]
    return pack_elements(found), count


async def answer(
    request: InferRequest, question: Question, *, max_rows: int, max_image_bytes: int
) -> tuple[Sequence[OutputTensor], Sequence[int]]:
    """Has a request answered.

    Args:
        question: that it is.
        max_rows, max_image_bytes: see `plan`.

    Returns:
        The tensors that were asked for, and the rows of which only a part was read.

    Raises:
        GraftworkError: as `plan` and `Question.ask`.
    """
    if request.timeout_seconds is not None:
        question.limit(request.timeout_seconds)
    planned = plan(request, question.signature, max_rows=max_rows, max_image_bytes=max_image_bytes)
    reply = await question.ask(planned.items, planned.wish, request.priority)
    return planned.answer(reply), reply.truncated
