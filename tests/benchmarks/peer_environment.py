"""Virtual environments for what we compare with and do not depend on; made once, below ``build``."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path("build/peers")


def peer_python(name: str, requirements: Sequence[str], *options: str) -> Path | None:
    """The Python of an environment with these packages; says why, and gives nothing, where they cannot be had.

    Args:
        name: of the environment.
        requirements: with their versions; others than it was made with make it anew.
        options: of ``pip install``.
    """
    directory = (ROOT / name).absolute()
    python, made_with = directory / "bin" / "python", directory / "made-with.txt"
    wanted = "\n".join([*requirements, *options, sys.version])
    if made_with.exists() and made_with.read_text() == wanted:
        return python
    print(f"{name}: installing {', '.join(requirements)} into {directory}")
    venv.create(directory, clear=True, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", *options, *requirements]
    done = subprocess.run(install, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
        print(f"{name} is left out, since it cannot be installed: {errors[-1]}")
        return None
    made_with.write_text(wanted)
    return python
