"""OpenVINO as it is imported here: without its usage reports."""

from __future__ import annotations

import sys
from typing import Any


def openvino_library() -> Any:
    """The module; its first import takes 0.3 s.

    OpenVINO and NNCF tell their maker over the network that they are used, if ``openvino-telemetry`` can be imported. No
    process of ours opens a connection that its user did not ask for.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
