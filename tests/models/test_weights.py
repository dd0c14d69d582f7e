"""Which files of weights are read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from models.weights import HEADER_BYTES_MAX, TENSORS_MAX, parse_weights, read_weights
from tests.service.forgery import TENSOR_FILES, entry, tensors_file

STATE = {"weight": torch.tensor([[1.0, -2.0]]), "ids": torch.tensor([1, 2])}


def refusal(data: bytes, directory: Path) -> str:
    """Why a file is refused, which is the same whether it was read before or not."""
    (directory / "weights").write_bytes(data)
    with pytest.raises(ValueError, match=r"^it") as from_memory:
        parse_weights(data)
    with pytest.raises(ValueError, match=r"^it") as from_disk:
        read_weights(directory / "weights")
    assert str(from_memory.value) == str(from_disk.value)
    return str(from_memory.value)


def test_tensors_survive_their_file(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(save(STATE))
    for found in (parse_weights(save(STATE)), read_weights(tmp_path / "weights")):
        assert found.keys() == STATE.keys()
        assert all(torch.equal(found[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize("kind", TENSOR_FILES)
def test_a_file_that_is_none_is_refused_without_its_own_words(kind: str, tmp_path: Path) -> None:
    reason = refusal(TENSOR_FILES[kind], tmp_path)
    assert "passwd" not in reason
    assert reason.isprintable()


def test_a_header_may_have_10_mb_and_no_more(tmp_path: Path) -> None:
    def padded(size: int) -> bytes:
        empty = b'{"__metadata__":{"pad":""}}'
        return tensors_file(b'{"__metadata__":{"pad":"%s"}}' % (b"x" * (size - len(empty))))

    assert parse_weights(padded(HEADER_BYTES_MAX)) == {}
    assert refusal(padded(HEADER_BYTES_MAX + 8), tmp_path) == "its header is larger than 10 MB"


def test_the_number_of_tensors_is_bounded(tmp_path: Path) -> None:
    many = {f"t{index}": entry([0], 0, 0) for index in range(TENSORS_MAX)}
    assert len(parse_weights(tensors_file({"__metadata__": {}, **many}))) == TENSORS_MAX
    assert "more than" in refusal(tensors_file({**many, "more": entry([0], 0, 0)}), tmp_path)
    with pytest.raises(ValueError, match="more than 1 tensors"):
        parse_weights(save(STATE), most=1)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_values_are_finite(value: float, dtype: torch.dtype, tmp_path: Path) -> None:
    state = {**STATE, "bias": torch.tensor([0.0, value], dtype=dtype)}
    assert refusal(save(state), tmp_path) == "its values must be finite"


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(save(STATE))
    (tmp_path / "link").symlink_to("weights")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "absent", "."):
        with pytest.raises(OSError, match=r".+"):
            read_weights(tmp_path / name)
