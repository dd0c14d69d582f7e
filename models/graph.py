"""A backbone as a graph that OpenVINO runs: exported from torch, and in 8-bit integers where that is asked for.

The graph begins with what `models.preprocessor` makes (uint8 pixels; token ids, segments, mask) and ends with features, so that
normalisation and pooling are part of it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from models.backbone import BackboneConfig, Modality
from models.batch import Batch, ImageBatch, TextBatch
from models.features import FeatureKind
from models.openvino_library import openvino_library

if TYPE_CHECKING:
    from models.backbone_store import TorchBackbone


class _ImageGraph(nn.Module):
    def __init__(self, backbone: TorchBackbone, kind: FeatureKind) -> None:
        super().__init__()
        self.backbone = backbone
        self.kind = kind

    def forward(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
        values: torch.Tensor = self.backbone(ImageBatch(pixels_BCHW=pixels_BCHW), self.kind).values
        return values


class _TextGraph(nn.Module):
    def __init__(self, backbone: TorchBackbone, kind: FeatureKind) -> None:
        super().__init__()
        self.backbone = backbone
        self.kind = kind

    def forward(self, ids_BT: torch.Tensor, segments_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        batch = TextBatch(ids_BT=ids_BT, segments_BT=segments_BT, mask_BT=mask_BT)
        values: torch.Tensor = self.backbone(batch, self.kind).values
        return values


def torch_graph(backbone: TorchBackbone, example: Batch, kind: FeatureKind = FeatureKind.POOLED) -> nn.Module:
    """What is exported: a module whose inputs are `graph_inputs` and whose output is the values of `Features`."""
    return (_ImageGraph if isinstance(example, ImageBatch) else _TextGraph)(backbone, kind).eval()


def graph_inputs(batch: Batch) -> tuple[torch.Tensor, ...]:
    """The tensors of a batch, in the order of a graph's inputs."""
    if isinstance(batch, ImageBatch):
        return (batch.pixels_BCHW,)
    return batch.ids_BT, batch.segments_BT, batch.mask_BT


def export_graph(
    backbone: TorchBackbone, example: Batch, others: Sequence[Batch], kind: FeatureKind = FeatureKind.POOLED
) -> Any:
    """The graph of a backbone, for batches of any number of rows, and texts of any length.

    Args:
        backbone: in eval mode, fp32.
        example: a batch of at least two rows, none of whose sizes is 1: a size of 1 is taken for a constant.
        others: of other sizes, for which the graph must hold too.
        kind: of the features that it gives. One graph gives one kind: a second output would cost those who do not read it.

    Returns:
        An ``openvino.Model``.

    Raises:
        RuntimeError: the architecture cannot be exported.
    """
    with _quietly(), torch.inference_mode(), unreshaped(backbone):
        trace: Any = torch.jit.trace
        traced = trace(torch_graph(backbone, example, kind), graph_inputs(example), strict=False, check_trace=False)
        _check_trace(traced, backbone, others, kind)
        graph = openvino_library().convert_model(traced, example_input=graph_inputs(example))
        if isinstance(example, ImageBatch):
            graph.reshape({0: [-1, *example.pixels_BCHW.shape[1:]]})
        else:
            graph.reshape({index: [-1, -1] for index in range(3)})
    return graph


def _check_trace(traced: Any, backbone: TorchBackbone, batches: Sequence[Batch], kind: FeatureKind) -> None:
    """Raises where the trace holds for its example's sizes only.

    It is torch that runs it here, since OpenVINO reads and writes beyond its tensors where sizes do not fit: the process would
    end, or go on with other weights.
    """
    for batch in batches:
        wanted = backbone(batch, kind).values
        found = traced(*graph_inputs(batch))
        if found.shape != wanted.shape or not torch.allclose(found, wanted, rtol=1e-3, atol=1e-4):
            raise RuntimeError("what torch traces of it holds for batches of one size only")


@contextlib.contextmanager
def unreshaped(backbone: TorchBackbone) -> Iterator[None]:
    """Without the last step of GPT-2 and its like, which give their output the shape of their input: a constant to a trace."""
    last: list[object] = [None]

    def note(module: nn.Module, inputs: object, output: object) -> None:
        last[0] = output

    def put_back(module: nn.Module, inputs: object, output: Any) -> None:
        values_BTD = getattr(output, "last_hidden_state", None)
        if values_BTD is not None and isinstance(last[0], torch.Tensor) and torch.equal(last[0], values_BTD):
            output.last_hidden_state = last[0]

    hooks = [module.register_forward_hook(note) for module in backbone.model.children()]
    hooks.append(backbone.model.register_forward_hook(put_back))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def quantize_graph(graph: Any, config: BackboneConfig, batches: Sequence[Batch]) -> Any:
    """A graph in 8-bit integers: weights per channel, activations by ranges seen on some inputs (Jacob et al. 2018).

    Args:
        graph: of the backbone.
        batches: what the ranges are taken from.
    """
    with _quietly():
        import nncf

        inputs = [tuple(tensor.numpy() for tensor in graph_inputs(batch)) for batch in batches]
        samples = [each[0] if len(each) == 1 else each for each in inputs]
        return nncf.quantize(
            graph,
            nncf.Dataset(samples),
            subset_size=len(samples),
            model_type=nncf.ModelType.TRANSFORMER if config.modality is Modality.TEXT else None,
        )


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Neither progress bars nor warnings of tracing."""
    openvino_library()  # NNCF reports its use through it
    loggers = [logging.getLogger(name) for name in ("nncf", "openvino", "transformers", "torch.utils.cpp_extension")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
