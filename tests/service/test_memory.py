from __future__ import annotations

from pathlib import Path

import pytest

from service.memory import memory_bytes


def test_without_a_limit_it_is_that_of_the_machine(tmp_path: Path) -> None:
    machine = memory_bytes(tmp_path)
    assert 1 << 28 < machine < 1 << 50
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_bytes(tmp_path) == machine


@pytest.mark.parametrize("file", ["memory.max", "memory/memory.limit_in_bytes"])
def test_a_container_has_what_it_was_given(tmp_path: Path, file: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("268435456\n")
    assert memory_bytes(tmp_path) == 1 << 28
    (tmp_path / file).write_text("9223372036854771712\n")  # what version 1 says for no limit
    assert memory_bytes(tmp_path) == memory_bytes(tmp_path / "nowhere")
