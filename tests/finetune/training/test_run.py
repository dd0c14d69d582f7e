"""Runs as a whole: what learns, what stays, and what comes of being stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune.strategy import Strategy
from finetune.training.grafted import Grafted
from finetune.training.order import RowOrder
from finetune.training.processes import accelerating
from finetune.training.run import Run, Trained, train
from finetune.training.trainer import DIVERGED
from models import storage
from models.backbone import Modality
from models.errors import Conflict, DatasetInvalid, InvalidParameter, OutOfMemory, StorageFailed
from tests.finetune.training.runs import run_of

TUNING = (Strategy.PARTIAL, Strategy.FULL, Strategy.LORA)


@pytest.fixture(params=["tiny_text", "tiny_vision"])
def backbone(request: pytest.FixtureRequest) -> str:
    name: str = request.getfixturevalue(request.param)
    return name


def trained(run: Run, directory: Path, **options: Any) -> Trained:
    with accelerating("cpu", bf16=False) as accelerator:
        return train(run, accelerator, directory=directory / "runs", **options)


def changed(run: Run, found: Trained) -> set[str]:
    before = run.stored.load().model.state_dict()
    assert before.keys() == found.state.keys()
    return {name for name, tensor in before.items() if not torch.equal(tensor, found.state[name])}


def same(one: Trained, other: Trained) -> bool:
    return torch.equal(one.outcome.head.weight_CD, other.outcome.head.weight_CD) and all(
        torch.equal(tensor, other.state[name]) for name, tensor in one.state.items()
    )


@pytest.mark.parametrize("strategy", TUNING)
def test_it_learns_and_frozen_weights_and_statistics_stay_bit_for_bit(
    backbone: str, tmp_path: Path, strategy: Strategy
) -> None:
    run = run_of(backbone, tmp_path, strategy, trained_groups=1)
    if strategy is Strategy.LORA and run.stored.config.modality is Modality.IMAGE:
        with pytest.raises(InvalidParameter, match="partial or full"):
            trained(run, tmp_path)
        return
    found = trained(run, tmp_path)
    first, *_ = found.outcome.history.validations
    best = found.outcome.history.best
    assert best.loss < first.loss
    names = changed(run, found)
    assert not any("running_" in name or "num_batches" in name for name in names)
    groups = [{name.removeprefix("model.") for name in group.parameters} for group in run.stored.load().layer_groups()]
    if strategy is Strategy.FULL:
        assert all(names & group for group in groups)
    elif strategy is Strategy.PARTIAL:
        assert names <= groups[-1]
        assert names
    else:
        assert names
        assert all(run.stored.load().model.state_dict()[name].ndim == 2 for name in names)
        assert "embeddings.word_embeddings.weight" not in names


def test_equal_runs_are_equal_and_a_seed_makes_another_one(backbone: str, tmp_path: Path) -> None:
    one, two = (
        trained(run_of(backbone, tmp_path, dropout=0.1 if "text" in backbone else None), tmp_path / name)
        for name in ("a", "b")
    )
    assert same(one, two)
    assert not same(one, trained(run_of(backbone, tmp_path, seed=1), tmp_path / "c"))


class Killed(BaseException):
    pass


@pytest.mark.parametrize("strategy", [Strategy.FULL, Strategy.LORA])
@pytest.mark.parametrize("judged", [True, False])
def test_j10_a_run_that_is_killed_anywhere_ends_with_the_bits_of_one_that_was_not(
    tiny_text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: Strategy, judged: bool
) -> None:
    """At any step on disk; and between them, with a checkpoint after each step."""
    run = run_of(tiny_text, tmp_path, strategy, epochs=3, dropout=0.1, refit=not judged)
    run = run if judged else replace(run, validate=None)
    whole = trained(run, tmp_path / "whole")
    calls = 0

    def die(_step: str) -> None:
        nonlocal calls
        calls += 1
        if calls % 37 == 0:
            raise Killed

    monkeypatch.setattr(storage, "trace", die)
    deaths = 0
    while True:
        try:
            found = trained(run, tmp_path / "killed", checkpoint_seconds=0.0)
            break
        except Killed:
            deaths += 1
            assert deaths < 100
    assert deaths > 2
    assert same(found, whole)
    assert found.outcome.history.validations == whole.outcome.history.validations
    losses = [[step.loss for step in each.outcome.history.steps] for each in (found, whole)]
    assert losses[0] == losses[1]


def test_j11_a_full_disk_ends_the_run_and_it_goes_on_later(
    tiny_text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tiny_text, tmp_path, epochs=3)
    whole = trained(run, tmp_path / "whole")
    fsyncs = 0

    def full(step: str) -> None:
        nonlocal fsyncs
        fsyncs += step == "fsync"
        if fsyncs > 2:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(storage, "trace", full)
        with pytest.raises(StorageFailed, match="No space left on device"):
            trained(run, tmp_path / "stopped", checkpoint_seconds=0.0)
    seen: list[int] = []
    found = trained(run, tmp_path / "stopped", progress=lambda done, total, note="": seen.append(done))
    assert seen[0] == 3  # of 15: two were kept
    assert same(found, whole)


def test_d14_a_loss_that_is_not_finite_ends_the_run_with_the_best_model_before_it(
    tiny_text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0

    def loss(logits_BC: torch.Tensor, targets_B: torch.Tensor, smoothing: float) -> torch.Tensor:
        nonlocal steps
        steps += 1
        losses_B = torch.nn.functional.cross_entropy(logits_BC, targets_B, reduction="none")
        return losses_B * (float("nan") if steps == 8 else 1.0)

    run = run_of(tiny_text, tmp_path, epochs=3)
    monkeypatch.setattr("finetune.training.trainer.LOSSES", {"cross_entropy": loss})
    found = trained(run, tmp_path)
    assert found.outcome.stopped == DIVERGED
    assert [step.step for step in found.outcome.history.steps] == [1, 2, 3, 4, 5, 6, 7]
    assert [validation.epoch for validation in found.outcome.history.validations] == [0, 1]
    assert all(tensor.isfinite().all() for tensor in found.state.values())
    assert changed(run, found)


def test_pictures_that_other_processes_decode_are_the_same(tiny_vision: str, tmp_path: Path) -> None:
    run = run_of(tiny_vision, tmp_path, epochs=2, augmentation="strong")
    one = trained(run, tmp_path / "one")
    several = trained(run, tmp_path / "several", loaders=2)
    assert one.outcome.history.best.epoch > 0
    assert all(torch.equal(several.state[name], tensor) for name, tensor in one.state.items())


def test_a_run_that_refits_goes_to_its_end_and_takes_what_is_there(tiny_text: str, tmp_path: Path) -> None:
    run = run_of(tiny_text, tmp_path, patience=1, epochs=6, learning_rate=1e-2, refit=True)
    found = trained(run, tmp_path)
    assert found.outcome.stopped is None
    assert [each.epoch for each in found.outcome.history.validations] == list(range(7))
    judged = trained(replace(run, validate=None), tmp_path)
    assert same(judged, found)  # rows that judge change nothing
    assert not judged.outcome.history.validations
    stops = replace(run, recipe=run.recipe.model_copy(update={"refit": False}))
    assert not same(trained(stops, tmp_path), found)


def test_it_stops_when_it_gets_no_better(tiny_text: str, tmp_path: Path) -> None:
    run = run_of(tiny_text, tmp_path, epochs=50, learning_rate=1e-12, patience=2)
    outcome = trained(run, tmp_path).outcome
    assert outcome.stopped == "no better in 2 epochs"
    assert outcome.history.validations[-1].epoch - outcome.history.best.epoch == 2


@pytest.mark.parametrize("micro_batch", [1, 3, 8])
def test_gradients_of_parts_add_up(backbone: str, tmp_path: Path, micro_batch: int) -> None:
    """Without dropout: its random numbers are those of a part. With SGD: Adam takes the sign of a gradient that is next to 0."""
    settings = {"dropout": 0.0 if "text" in backbone else None, "epochs": 1, "optimizer": "sgd", "learning_rate": 0.05}
    whole = trained(run_of(backbone, tmp_path, **settings), tmp_path / "whole")
    parts = trained(run_of(backbone, tmp_path, **settings, micro_batch_size=micro_batch), tmp_path / "parts")
    assert whole.outcome.history.best.epoch == 1
    for name, tensor in whole.state.items():
        torch.testing.assert_close(parts.state[name], tensor, atol=1e-4, rtol=1e-3)


def out_of_memory_above(rows: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Makes larger batches fail; returns the sizes of those that were tried while learning."""
    sizes: list[int] = []
    forward = Grafted.forward

    def limited(grafted: Grafted, batch: Any, own: Any) -> torch.Tensor:
        count = len(batch.ids_BT)
        if grafted.training:
            sizes.append(count)
            if count > rows:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(grafted, batch, own)

    monkeypatch.setattr(Grafted, "forward", limited)
    return sizes


def test_too_little_memory_halves_what_is_on_the_device_at_a_time(
    tiny_text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tiny_text, tmp_path, epochs=1, dropout=0.0)
    whole = trained(run, tmp_path / "whole")
    with monkeypatch.context() as patched:
        sizes = out_of_memory_above(3, patched)
        found = trained(run, tmp_path / "little")
    assert sizes[:6] == [8, 4, 2, 2, 2, 2]
    assert set(sizes[6:]) == {2}
    for name, tensor in whole.state.items():
        torch.testing.assert_close(found.state[name], tensor, atol=1e-4, rtol=1e-3)
    out_of_memory_above(0, monkeypatch)
    with pytest.raises(OutOfMemory, match="--micro-batch-size"):
        trained(run, tmp_path / "none")


def test_d13_data_that_changes_while_it_learns_ends_the_run(tiny_vision: str, tmp_path: Path) -> None:
    run = run_of(tiny_vision, tmp_path, epochs=1)
    victim = run.learn.examples[7]
    assert victim.path is not None
    victim.path.write_bytes(victim.path.read_bytes() + b"more")
    with pytest.raises(DatasetInvalid, match="changed while it was in use"):
        trained(run, tmp_path)


def test_two_at_once_are_one_too_many(tiny_text: str, tmp_path: Path) -> None:
    run = run_of(tiny_text, tmp_path, epochs=1)

    with accelerating("cpu", bf16=False) as accelerator:

        def another(*_: object) -> None:
            with pytest.raises(Conflict, match="in another process"):
                train(run, accelerator, directory=tmp_path)

        train(run, accelerator, directory=tmp_path, progress=another)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop", "adagrad"])
def test_every_optimiser_learns_and_goes_on(
    tiny_text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    rate = {"sgd": 0.1, "adagrad": 0.03}.get(optimizer, 3e-3)
    run = run_of(tiny_text, tmp_path, optimizer=optimizer, learning_rate=rate, dropout=0.0)
    whole = trained(run, tmp_path / "whole")
    first, *_ = whole.outcome.history.validations
    assert whole.outcome.history.best.loss < first.loss

    def die(done: int, total: int, note: str = "") -> None:
        if done == 11:
            raise Killed

    with pytest.raises(Killed):
        trained(run, tmp_path / "killed", progress=die)
    assert same(trained(run, tmp_path / "killed"), whole)


@pytest.mark.parametrize("augmentation", ["none", "light", "strong"])
def test_pictures_are_augmented_the_same_way_in_every_run(tiny_vision: str, tmp_path: Path, augmentation: str) -> None:
    found = [
        trained(run_of(tiny_vision, tmp_path, augmentation=augmentation, epochs=1), tmp_path / name)
        for name in ("a", "b")
    ]
    assert same(*found)


def test_a_run_that_is_killed_before_its_first_checkpoint_leaves_no_log_behind(tiny_text: str, tmp_path: Path) -> None:
    run = run_of(tiny_text, tmp_path, epochs=1)

    def die(done: int, total: int, note: str = "") -> None:
        if done == 3:
            raise Killed

    with pytest.raises(Killed):
        trained(run, tmp_path, progress=die)
    found = trained(run, tmp_path)
    assert (found.directory / "log.jsonl").read_text() == found.outcome.history.lines()


def test_steps_are_made_one_by_one(tiny_text: str, tmp_path: Path) -> None:
    """A run of a thousand epochs that stops after a few does not lay them all out."""
    seen: list[int] = []
    epoch = RowOrder.epoch

    def counted(order: RowOrder, number: int) -> Any:
        seen.append(number)
        return epoch(order, number)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(RowOrder, "epoch", counted)
        trained(run_of(tiny_text, tmp_path, epochs=1000, learning_rate=1e-12, patience=1), tmp_path)
    assert max(seen) <= 2
