"""Workers to talk to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.service.worker.batches import Batches
from tests.service.worker.conversation import Conversation, EchoConversation
from tests.service.worker.held_echo import HeldEchoes


@pytest.fixture
def worker() -> Iterator[EchoConversation]:
    conversation = EchoConversation()
    yield conversation
    conversation.end()


@pytest.fixture
def echoes() -> Iterator[Batches]:
    servables = HeldEchoes()
    conversation = Conversation(servables)
    yield Batches(conversation=conversation, gate=servables.held.gate, sizes=servables.held.sizes, name="echo")
    servables.held.gate.set()
    conversation.end()
