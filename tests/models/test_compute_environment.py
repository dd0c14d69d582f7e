from __future__ import annotations

import subprocess
import sys

from models.compute_environment import COMPUTE_ENVIRONMENT

PROGRAM = """
import os, sys
from models.compute_environment import restart_with
print("before", os.getpid(), flush=True)
restart_with({"GRAFTWORK_A": "1", "GRAFTWORK_B": "2"})
print("after", os.getpid(), os.environ["GRAFTWORK_A"], os.environ["GRAFTWORK_B"], sys.argv[1:])
"""


def test_a_program_starts_anew_as_the_same_process_unless_all_is_set() -> None:
    environment = {"GRAFTWORK_B": "the user's", "PATH": "", "PYTHONPATH": "."}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "an argument"], env=environment, capture_output=True, text=True, check=True
    )
    first, second, after = (line.split() for line in done.stdout.splitlines())
    assert first[:2] == second[:2] == ["before", after[1]]
    assert after[2:] == ["1", "the", "user's", "['an", "argument']"]


def test_the_command_line_computes_in_it() -> None:
    code = "import graftwork, os, typer; graftwork.app = lambda: print(sorted(os.environ)); graftwork.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(repr(name) in done.stdout for name in COMPUTE_ENVIRONMENT)
