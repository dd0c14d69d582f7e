"""A tiny run as a program: what ``torchrun`` starts several of, and what a test kills.

python -m tests.finetune.training.train_tiny BACKBONE DIRECTORY RESULT STRATEGY EPOCHS
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from finetune.strategy import Strategy
from finetune.training.processes import accelerating, is_first
from finetune.training.run import train
from tests.finetune.training.runs import run_of


def main() -> None:
    """Trains, and leaves the weights in a file."""
    backbone, directory, result, strategy, epochs = sys.argv[1:]
    torch.set_num_threads(1)
    run = run_of(backbone, Path(directory), Strategy(strategy), epochs=int(epochs), patience=1000, dropout=0.0)
    with accelerating("cpu", bf16=False) as accelerator:
        seconds = 0.05 if is_first() else 0.0  # clocks of processes never agree
        found = train(run, accelerator, directory=Path(directory) / "runs", checkpoint_seconds=seconds)
    if is_first():
        head = found.outcome.head
        save_file({**found.state, "head": head.weight_CD, "bias": head.bias_C}, result)


if __name__ == "__main__":
    main()
