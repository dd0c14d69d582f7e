"""OpenVINO as it is imported here: without its usage reports, and with one runtime a process."""

from __future__ import annotations

import sys
import threading
from functools import cache
from typing import Any

_lock = threading.Lock()


def openvino_library() -> Any:
    """The module; its first import takes 0.3 s.

    OpenVINO and NNCF tell their maker over the network that they are used, if ``openvino-telemetry`` can be imported. No
    process of ours opens a connection that its user did not ask for.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def openvino_runtime() -> Any:
    """The one ``openvino.Core`` of this process, which lives as long as it does.

    Each runtime gives its thread a stack for signals of its own, and on its end puts back the one that was there before, even
    if the runtime that this one belonged to has ended meanwhile (OpenVINO 2026.4). Then the next signal, such as Ctrl-C, ends
    the process with a segmentation fault.
    """
    with _lock:
        return _runtime()


@cache
def _runtime() -> Any:
    import numpy

    library = openvino_library()
    # The first array that it is given must not come from two threads at once: one would wait for the interpreter's lock and hold
    # that of a C++ constant, the other the other way round, for ever.
    library.Tensor(numpy.zeros(1, numpy.float32))
    return library.Core()
