"""The processes of a run: one, or those that ``torchrun`` started, each with its share of every batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from models.head import Head

if TYPE_CHECKING:
    from accelerate import Accelerator

PATIENCE = timedelta(hours=6)  # of a process that waits: for the first one's features and head, on a large data set


def is_first() -> bool:
    """Whether this process reports and publishes; ``torchrun`` says which one it is (elastic.run, RANK)."""
    return os.environ.get("RANK", "0") == "0"


def share(head: Head | None) -> Head:
    """The first process's head, in all of them."""
    from accelerate.utils import broadcast_object_list

    parts = [None, ""] if head is None else [head.to_bytes(), head.activation]
    data, activation = broadcast_object_list(parts)
    return Head.from_bytes(data, activation)


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
