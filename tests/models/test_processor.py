from __future__ import annotations

import pytest

from models import processor as processor_module
from models.processor import int8_instructions, processor


def test_it_is_the_same_each_time_and_says_something() -> None:
    assert processor() == processor()
    assert processor()


@pytest.mark.parametrize(
    ("flags", "instructions"),
    [
        ("flags : fpu avx2 avx512f avx512_vnni amx_int8", "amx_int8"),
        ("flags : fpu avx2 avx512f avx512_vnni", "avx512_vnni"),
        ("flags : fpu avx2 avx_vnni", "avx_vnni"),
        ("flags : fpu avx2", "plain"),
        ("Features : fp asimd asimddp", "asimddp"),
    ],
)
def test_processors_that_multiply_in_another_way_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, flags: str, instructions: str
) -> None:
    monkeypatch.setattr(processor_module, "processor", lambda: flags)
    assert int8_instructions({}) == instructions


def test_a_limit_that_the_user_set_counts() -> None:
    assert int8_instructions({"ONEDNN_MAX_CPU_ISA": "AVX2"}) != int8_instructions({})
