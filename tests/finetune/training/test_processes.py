"""Several processes that learn as one, and one that is killed."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from finetune.training.processes import is_first
from tests.processes import free_port

PROGRAM = "tests.finetune.training.train_tiny"


def learn(
    *launcher: str, backbone: str, directory: Path, strategy: str = "full", epochs: int = 3
) -> dict[str, torch.Tensor]:
    directory.mkdir()
    result = directory / "result.safetensors"
    command = [sys.executable, "-m", *launcher, PROGRAM, backbone, str(directory), str(result), strategy, str(epochs)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return load_file(result)


@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_two_processes_learn_what_one_does(tiny_text: str, tmp_path: Path, strategy: str) -> None:
    one = learn(backbone=tiny_text, directory=tmp_path / "one", strategy=strategy)
    torchrun = ("torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}", "-m")
    two = learn(*torchrun, backbone=tiny_text, directory=tmp_path / "two", strategy=strategy)
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-4, rtol=1e-4)


def test_all_processes_have_the_labels_in_the_order_of_the_first(tmp_path: Path) -> None:
    torchrun = ("torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}", "-m")
    program = "tests.finetune.training.share_labels_tiny"
    command = [sys.executable, "-m", *torchrun, program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / rank).read_text() for rank in ("0", "1")] == ["b a c", "b a c"]


def test_the_first_process_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert is_first()
    monkeypatch.setenv("RANK", "1")
    assert not is_first()


def logged(directory: Path) -> int:
    """Bytes in the log of a run: it grows once the run learns."""
    return sum(file.stat().st_size for file in directory.rglob("log.jsonl"))


def test_j10_a_process_that_is_killed_at_any_moment_goes_on_to_the_same_bits(tiny_text: str, tmp_path: Path) -> None:
    """With kill -9, at moments that chance picks: while it loads, learns, judges or writes."""
    whole = learn(backbone=tiny_text, directory=tmp_path / "whole", epochs=30)
    directory = tmp_path / "killed"
    directory.mkdir()
    result = directory / "result.safetensors"
    chance = random.Random(0)
    kills = 0
    while not result.exists():
        process = subprocess.Popen(
            [sys.executable, "-m", PROGRAM, tiny_text, str(directory), str(result), "full", "30"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if kills < 4:
            before = logged(directory)
            while process.poll() is None and logged(directory) == before:
                time.sleep(0.005)
            try:
                process.wait(chance.uniform(0.0, 0.5))
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
        process.wait()
    found = load_file(result)
    assert kills >= 2
    assert all(torch.equal(found[name], tensor) for name, tensor in whole.items())
