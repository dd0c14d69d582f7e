"""Rows J10 and J11: a checkpoint is there in full or not at all, and the one before it stays until then."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from finetune.training.checkpoints import Checkpoints, TrainingState
from models import storage
from models.errors import StorageFailed


def state(step: int) -> TrainingState:
    return TrainingState(
        step=step,
        weights={"head.weight": torch.full((2, 3), float(step)).T},
        best={"head.weight": torch.ones(3, 2)},
        optimizer={"0.step": torch.tensor(float(step)), "0.exp_avg": torch.randn(3, 2)},
        facts={"history": {"steps": [], "validations": []}, "micro_batch": 4},
    )


def same(found: TrainingState | None, wanted: TrainingState) -> bool:
    return (
        found is not None
        and (found.step, found.facts) == (wanted.step, wanted.facts)
        and all(
            getattr(found, group).keys() == getattr(wanted, group).keys()
            and all(torch.equal(getattr(found, group)[name], tensor) for name, tensor in getattr(wanted, group).items())
            for group in ("weights", "best", "optimizer")
        )
    )


def test_what_was_saved_is_loaded_and_only_the_newest_is_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run")
    assert checkpoints.load() is None
    for step in (5, 10, 10, 100_000_000):
        saved = state(step)
        checkpoints.save(saved)
    assert same(Checkpoints(tmp_path / "run").load(), saved)
    assert len(list((tmp_path / "run").iterdir())) == 1


@pytest.mark.parametrize("file", ["state.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path)
    older = state(1)
    checkpoints.save(older)
    monkeypatch.setattr(storage, "remove", lambda path: None)  # killed before it could
    checkpoints.save(state(2))
    damaged = tmp_path / "checkpoint-00000002" / file
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert same(checkpoints.load(), older)


class Killed(BaseException):
    pass


def test_an_end_at_any_step_leaves_the_old_one_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    monkeypatch.setattr(storage, "trace", steps.append)
    Checkpoints(tmp_path / "counted").save(state(1))
    steps.clear()
    Checkpoints(tmp_path / "counted").save(state(2))
    count = len(steps)
    assert count > 8
    for error in (Killed(), OSError(errno.ENOSPC, "No space left on device")):
        for fatal in range(count):
            directory = tmp_path / f"{type(error).__name__}-{fatal}"
            old, new, seen = state(1), state(2), 0
            monkeypatch.setattr(storage, "trace", None)
            Checkpoints(directory).save(old)

            def fail(_step: str, fatal: int = fatal, error: BaseException = error) -> None:
                nonlocal seen
                seen += 1
                if seen > fatal:
                    raise error

            monkeypatch.setattr(storage, "trace", fail)
            with pytest.raises((Killed, StorageFailed)):
                Checkpoints(directory).save(new)
            monkeypatch.setattr(storage, "trace", None)
            found = Checkpoints(directory).load()
            assert same(found, old) or same(found, new)
            Checkpoints(directory).save(new)
            assert same(Checkpoints(directory).load(), new)
