"""What C libraries read from a process's environment when they are loaded: too late for it to set that itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

COMPUTE_ENVIRONMENT: Mapping[str, str] = {
    "OMP_WAIT_POLICY": "PASSIVE",  # idle OpenMP threads that spin starve the decoders beside them
    "MALLOC_TRIM_THRESHOLD_": "-1",  # keep what a batch allocated for the next one: page faults cost more than memory
    "MALLOC_MMAP_MAX_": "0",
    "OPENBLAS_NUM_THREADS": "1",  # numpy's, for heads: too little work to share, and the engine has the cores
}


def restart_with(environment: Mapping[str, str]) -> None:
    """Runs this program anew, as the same process, unless every variable is set; whoever set one knows better.

    So engines are compared and trained in the environment that they serve in. It takes 20 ms where nothing is imported yet.
    """
    missing = {name: value for name, value in environment.items() if name not in os.environ}
    if missing:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **missing})
