"""ONNX graphs: written by torch, run by ONNX Runtime."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from models.batch import Batch
from models.errors import ExportFailed, NotSupported
from models.graph import graph_inputs, unreshaped
from service.export.outline import SECOND, Outline
from service.triton.backbone_model import TensorSpec

if TYPE_CHECKING:
    from models.backbone_store import TorchBackbone

GRAPH = "model.onnx"
OPSET = 17  # the first with LayerNormalization; ONNX Runtime reads it since 1.12, Triton since 22.07


def write_graph(
    module: nn.Module, backbone: TorchBackbone, examples: Sequence[Batch], outline: Outline, file: Path
) -> None:
    """Writes a module as an ONNX graph, for batches of any number of rows, and texts of any length.

    Args:
        module: takes the tensors of the examples, one after the other.
        backbone: that is in it.
        examples: none of whose sizes is 1, which would be taken for a constant.
        outline: the names of what goes in and out, in order.
        file: need not exist. Weights of more than 2 GB come to lie beside it.

    Raises:
        ExportFailed: the architecture has an operation that ONNX has not.
        NotSupported: the libraries are missing.
    """
    onnx = library("onnx")
    tensors = tuple(tensor for example in examples for tensor in graph_inputs(example))
    try:
        with warnings.catch_warnings(), torch.inference_mode(), unreshaped(backbone):
            warnings.simplefilter("ignore")  # of tracing: what it may get wrong is checked
            torch.onnx.export(
                module,
                tensors,
                str(file),
                dynamo=False,  # the other exporter needs onnxscript, and lets only some architectures vary in both axes
                opset_version=OPSET,
                input_names=[each.name for each in outline.inputs],
                output_names=[each.name for each in outline.outputs],
                dynamic_axes={each.name: _varying(each) for each in (*outline.inputs, *outline.outputs)},
            )
        _declare_inputs(onnx, file, outline)
        onnx.checker.check_model(str(file))
    except OSError:
        raise
    except Exception as error:  # torch raises nearly anything
        reason = str(error).partition("\n")[0].partition(" Please feel free")[0]
        raise ExportFailed(f"there is no ONNX graph of this backbone ({reason}); use --format huggingface") from error


def _declare_inputs(onnx: Any, file: Path, outline: Outline) -> None:
    """Puts back the inputs that a graph does not read, such as segments, so that all of a kind are asked in the same way."""
    model = onnx.load(str(file), load_external_data=False)
    read = {each.name: each for each in model.graph.input}
    missing = [each for each in outline.inputs if each.name not in read]
    for each in missing:
        varying = _varying(each)
        shape = [varying.get(axis, size) for axis, size in enumerate((None, *each.dims))]
        element = onnx.TensorProto.DataType.Value(each.datatype)
        read[each.name] = onnx.helper.make_tensor_value_info(each.name, element, shape)
    if missing:
        del model.graph.input[:]
        model.graph.input.extend(read[each.name] for each in outline.inputs)
        onnx.save(model, str(file))


def _varying(spec: TensorSpec) -> dict[int, str]:
    """The axes of a tensor with its batch axis that may have any size."""
    tokens = f"{SECOND}tokens" if spec.name.startswith(SECOND) else "tokens"
    return {0: "rows", **{axis: tokens for axis, size in enumerate(spec.dims, start=1) if size == -1}}


class OnnxSession:
    """A graph on the CPU.

    Raises:
        ExportFailed: ONNX Runtime does not take the file, or its tensors are not those of the outline.
        NotSupported: the library is missing.
    """

    def __init__(self, file: Path, outline: Outline) -> None:
        runtime = library("onnxruntime")
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # errors
        try:
            self._session: Any = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library's own errors have no common class
            raise ExportFailed("ONNX Runtime does not take the graph; export it again") from error
        for found, wanted in (
            (self._session.get_inputs(), outline.inputs),
            (self._session.get_outputs(), outline.outputs),
        ):
            if [each.name for each in found] != [each.name for each in wanted]:
                raise ExportFailed(f"the graph has {', '.join(each.name for each in found)}; export it again")

    def run(self, batches: Sequence[Batch]) -> dict[str, torch.Tensor]:
        """The outputs by name, of batches whose tensors are the graph's inputs one after the other.

        Raises:
            ExportFailed: it holds for other sizes only.
        """
        tensors = [tensor.numpy() for batch in batches for tensor in graph_inputs(batch)]
        names = [each.name for each in self._session.get_outputs()]
        inputs = {each.name: tensor for each, tensor in zip(self._session.get_inputs(), tensors, strict=True)}
        try:
            found = self._session.run(names, inputs)
        except Exception as error:
            shapes = ", ".join(str(tensor.shape) for tensor in tensors)
            raise ExportFailed(f"the graph does not run for inputs of {shapes}; this architecture has none") from error
        return {name: torch.from_numpy(values) for name, values in zip(names, found, strict=True)}


def library(name: str) -> Any:
    """An optional library; raises `NotSupported` where it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise NotSupported(f"an export needs {name}; pip install graftwork[export]") from None
