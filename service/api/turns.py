"""Work on a long list in short turns, between which the event loop sees to others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

NUMBERS_A_TURN = 50_000  # that are worked on: some 2 ms

_Item = TypeVar("_Item")


async def in_turns(items: Sequence[_Item], width: int) -> AsyncIterator[_Item]:
    """The items in their order.

    Args:
        width: of an item, in numbers.
    """
    most = max(1, NUMBERS_A_TURN // max(1, width))
    for index, item in enumerate(items):
        if index % most == 0 and index:
            await asyncio.sleep(0)
        yield item
