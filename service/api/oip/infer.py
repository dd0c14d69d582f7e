"""An inference request and its answer, as HTTP and gRPC both have them: tensors by name."""

from __future__ import annotations

import binascii
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import msgspec

from models.errors import BodyTooLarge, InvalidBase64, InvalidParameter, InvalidTensor, shown
from models.signature import IMAGE, PIXEL_VALUES, TEXT_PAIR, Signature, TensorSpec
from service.api.inference import Question
from service.api.oip.tensor import Tensor, pack_elements
from service.api.worker_connection import Reply
from service.messages import Form, Item, Wish, pack_pair


class RequestedOutput(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor that is asked for.

    Attributes:
        classes: how many of the highest values to give, each with its class, instead of all; 0 for the tensor itself.
        binary: whether HTTP gives its bytes; None for what the request says of all.
    """

    name: str
    classes: int = 0
    binary: bool | None = None


class InferRequest(msgspec.Struct, frozen=True, kw_only=True):
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


class OutputTensor(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor of the answer.

    Attributes:
        binary: as in `RequestedOutput`.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes
    binary: bool | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """Outputs that are asked for of a version; the same one for all requests that ask for the same.

    Attributes:
        outputs: as they are asked for, and what they are.
        names: of them, in the same order.
    """

    outputs: Sequence[tuple[RequestedOutput, TensorSpec]]
    names: Sequence[str]

    @cached_property
    def all_binary(self) -> bool | None:
        """Whether HTTP gives the bytes of each of them as workers give them; None where the request says it of all."""
        kinds = {False if wanted.classes else wanted.binary for wanted, _ in self.outputs}
        return kinds.pop() if len(kinds) == 1 else False


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What workers are asked for a request.

    Attributes:
        items: one a row.
    """

    items: Sequence[Item]
    wish: Wish
    selection: Selection

    def tensors(self, reply: Reply) -> Sequence[OutputTensor]:
        """The tensors that were asked for."""
        rows, start, found = len(self.items), 0, []
        for (wanted, spec), size in zip(self.selection.outputs, reply.sizes, strict=True):
            raw = reply.payload[start : start + size]
            start += size
            datatype, shape = str(spec.datatype), (rows, *spec.shape[1:])
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
    selection = _selection(signature, tuple(request.outputs))
    items, form = _items(_inputs(request, signature), signature)
    if len(items) > max_rows:
        raise InvalidTensor(f"{len(items):,} rows are over the limit of {max_rows} a request")
    if signature.alternatives and form == "item":
        _check_files(items, max_image_bytes)
    wish = Wish(form=form, outputs=selection.names, truncate=request.truncate)
    return Plan(items=items, wish=wish, selection=selection)


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
    if signature.alternatives:
        if len(given) != 1:
            raise InvalidTensor(f"this model reads {_listed(signature)}; send one of them")
    elif len(given) < len(signature.inputs):
        missing = next(spec.name for spec in signature.inputs if spec.name not in given)
        raise InvalidTensor(f"the input '{missing}' is missing; this model reads {_listed(signature)}")
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


def _items(given: dict[str, Tensor], signature: Signature) -> tuple[Sequence[Item], Form]:
    if PIXEL_VALUES in given:
        pixels = given[PIXEL_VALUES]
        size = len(pixels.raw) // pixels.shape[0]
        rows = [pixels.raw[start : start + size] for start in range(0, len(pixels.raw), size)]
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


def _from_base64(index: int, text: Item) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):
        raise InvalidBase64(
            f"image {index} is not in standard base64 with padding, which JSON needs; or send the file's bytes"
        ) from None


def _check_files(files: Sequence[Item], limit: int) -> None:
    for index, file in enumerate(files):
        if len(file) > limit:
            raise BodyTooLarge(
                f"image {index} has {len(file):,} bytes, over the limit of {limit:,}; send a smaller file"
            )


@lru_cache(1024)  # most requests ask for what others have asked for; errors are not remembered
def _selection(signature: Signature, requested: tuple[RequestedOutput, ...]) -> Selection:
    found: dict[str, tuple[RequestedOutput, TensorSpec]] = {}
    for wanted in requested or [RequestedOutput(name=spec.name) for spec in signature.outputs]:
        spec = signature.output(wanted.name)
        if spec is None:
            known = ", ".join(f"'{each.name}'" for each in signature.outputs)
            raise InvalidTensor(f"there is no output '{shown(wanted.name)}'; this model gives {known}")
        if wanted.name in found:
            raise InvalidTensor(f"the output '{wanted.name}' is there twice")
        if wanted.classes and (spec.datatype != "FP32" or not spec.labels):
            raise InvalidParameter(f"the output '{wanted.name}' has no classes; leave out 'classification'")
        found[wanted.name] = wanted, spec
    return Selection(outputs=list(found.values()), names=list(found))


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


async def ask(request: InferRequest, question: Question, *, max_rows: int, max_image_bytes: int) -> tuple[Plan, Reply]:
    """Has a request answered.

    Args:
        question: that it is.
        max_rows, max_image_bytes: see `plan`.

    Returns:
        What was asked, and what workers answered: together, the tensors.

    Raises:
        GraftworkError: as `plan` and `Question.ask`.
    """
    if request.timeout_seconds is not None:
        question.limit(request.timeout_seconds)
    planned = plan(request, question.signature, max_rows=max_rows, max_image_bytes=max_image_bytes)
    return planned, await question.ask(planned.items, planned.wish, request.priority)
