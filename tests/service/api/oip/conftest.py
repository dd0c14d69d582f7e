"""Fixtures of the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.processes import free_port
from tests.service.api.oip.grpc_asking import channel
from tests.service.site import Play, Site

Story = Callable[[Site, Any], Coroutine[Any, Any, None]]
Called = Callable[..., None]


@pytest.fixture
def called(play: Play) -> Called:
    """Runs a story on a site, with a connection to it over gRPC: ``called(story, workers=1, **settings)``."""

    def run(story: Story, **options: Any) -> None:
        port = free_port()

        async def on_stage(site: Site) -> None:
            async with channel(port) as made:
                await story(site, made)

        play(on_stage, grpc_port=port, **options)

    return run
