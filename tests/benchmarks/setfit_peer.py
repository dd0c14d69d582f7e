"""SetFit (https://github.com/huggingface/setfit) on a folder of texts, with the sentence encoder that we start from.

Run by a Python that has SetFit, see `tests.benchmarks.finetuning`. The settings are its paper's: 20 pairs of each kind for
each example, one epoch of them, batches of 16, then logistic regression (Tunstall et al. 2022, "Efficient Few-Shot Learning
Without Prompts", section 4). Of many examples there are fewer pairs each, so that it ends within some minutes.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
import time
from pathlib import Path

ITERATIONS, MOST_PAIRS = 20, 2560


def read(path: Path) -> tuple[list[str], list[str]]:
    """Texts and labels of a table."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def main() -> None:
    """Arguments: the folder with train.csv and test.csv, and that of the encoder; prints accuracy and seconds."""
    data, encoder = map(Path, sys.argv[1:3])
    started = time.monotonic()
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    texts, labels = read(data / "train.csv")
    model = SetFitModel.from_pretrained(str(encoder), labels=sorted(set(labels)))
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            batch_size=16,
            num_epochs=1,
            num_iterations=max(1, min(ITERATIONS, MOST_PAIRS // (2 * len(texts)))),
            save_strategy="no",
            report_to="none",
            use_amp=False,
            show_progress_bar=False,
            seed=0,
        )
        Trainer(model, args=arguments, train_dataset=Dataset.from_dict({"text": texts, "label": labels})).train()
    texts, labels = read(data / "test.csv")
    said = model.predict(texts, batch_size=64, show_progress_bar=False)
    accuracy = sum(str(a) == b for a, b in zip(said, labels, strict=True)) / len(labels)
    print(json.dumps({"score": accuracy, "seconds": time.monotonic() - started}))


if __name__ == "__main__":
    main()
