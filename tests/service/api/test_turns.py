from __future__ import annotations

import asyncio

from service.api.turns import NUMBERS_A_TURN, in_turns


def test_others_have_their_turn_in_a_long_list() -> None:
    async def story() -> list[int]:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(others())
        seen = [(item, turns) async for item in in_turns(range(10), NUMBERS_A_TURN // 4)]
        other.cancel()
        assert [item for item, _ in seen] == list(range(10))
        return [turn for _, turn in seen]

    turns = asyncio.run(story())
    assert turns[:4] == [0] * 4  # a short one is done at once
    assert turns[4] == turns[7] < turns[8]
    assert turns[4] > 0


def test_an_item_may_be_as_wide_as_it_likes() -> None:
    async def story() -> list[str]:
        return [item async for item in in_turns("abc", NUMBERS_A_TURN * 9)]

    assert asyncio.run(story()) == ["a", "b", "c"]
