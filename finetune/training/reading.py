"""Numbers on their way from a device, which need not be waited for yet."""

from __future__ import annotations

import torch


class Reading:
    """A copy of a few numbers that is made as soon as a device comes to it.

    To ask a device for a number is to wait for all that it was given since: so the copy is ordered at once and looked at
    later, when the device has its next step.

    Args:
        values_N: on any device.
    """

    def __init__(self, values_N: torch.Tensor) -> None:
        self._values_N = values_N.detach().to("cpu", non_blocking=True)
        self._copied = None
        if values_N.is_cuda:
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record(torch.cuda.current_stream(values_N.device))

    def values(self) -> list[float]:
        """Waits for the copy."""
        if self._copied is not None:
            self._copied.synchronize()
        found: list[float] = self._values_N.tolist()
        return found
