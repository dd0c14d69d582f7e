"""Processes that found labels in different orders, as a program: what ``torchrun`` starts several of.

python -m tests.finetune.training.share_labels_tiny DIRECTORY
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from finetune.training.processes import accelerating, share_labels


def main() -> None:
    """Writes the labels that each process has in the end into a file of its own."""
    rank = int(os.environ["RANK"])
    with accelerating("cpu", bf16=False):
        labels = share_labels([["b", "a", "c"], ["a", "b", "c"]][rank])
    Path(sys.argv[1], str(rank)).write_text(" ".join(labels))


if __name__ == "__main__":
    main()
