"""The processes of a run: one, or those that ``torchrun`` started, each with its share of every batch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

from pydantic import TypeAdapter

from models.head import Head
from models.preprocessor import PreprocessorConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

Start: TypeAlias = tuple[Head, PreprocessorConfig]
"""What a run starts from: a head, and how rows are made, which for pairs was chosen with it."""

_PREPROCESSOR: TypeAdapter[PreprocessorConfig] = TypeAdapter(PreprocessorConfig)

PATIENCE = timedelta(hours=6)  # of a process that waits: for the first one's features and head, on a large data set


def is_first() -> bool:
    """Whether this process reports and publishes; ``torchrun`` says which one it is (elastic.run, RANK)."""
    return os.environ.get("RANK", "0") == "0"


def has_bf16(device: str) -> bool:
    """Whether the device computes in bfloat16 by itself; a CPU mostly takes longer that way."""
    import torch

    return device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def share(start: Start | None) -> Start:
    """What the first process has, in all of them."""
    from accelerate.utils import broadcast_object_list

    parts: list[object] = [None, "", ""]
    if start is not None:
        head, preprocessor = start
        parts = [head.to_bytes(), head.activation, preprocessor.model_dump_json()]
    data, activation, config = broadcast_object_list(parts)
    return Head.from_bytes(data, activation), _PREPROCESSOR.validate_json(config)


def share_labels(labels: Sequence[str]) -> Sequence[str]:
    """The order of the first process, in all of them: a version may have been published between their looks at the last one."""
    from accelerate.utils import broadcast_object_list

    parts: list[object] = [list(labels)]
    (shared,) = broadcast_object_list(parts)
    return tuple(shared)


@contextmanager
def accelerating(device: str, *, bf16: bool) -> Iterator[Accelerator]:
    """The processes, as accelerate sees them; on the CPU they talk over gloo, on GPUs over nccl.

    Args:
        device: ``cpu`` or ``cuda``.
        bf16: whether products are computed in bfloat16.
    """
    from accelerate import Accelerator, InitProcessGroupKwargs
    from accelerate.state import AcceleratorState, GradientState, PartialState

    try:
        yield Accelerator(
            cpu=device == "cpu",
            mixed_precision="bf16" if bf16 else "no",
            kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
        )
    finally:
        # It keeps its choices for as long as a process lives; the next run may have others.
        PartialState().destroy_process_group()
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
