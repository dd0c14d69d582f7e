"""What is too large or too much, over gRPC."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from service.api.oip.grpc_scopes import INFERENCE, MODEL_INFER
from tests.service.api.oip.conftest import Called
from tests.service.api.oip.grpc_asking import ask, channel, text_request
from tests.service.site import Site


def test_a_message_for_texts_that_is_too_large_is_refused(called: Called) -> None:
    async def story(site: Site, made: Any) -> None:
        answered = await ask(made, text_request(b"1" * 5000))
        assert (answered.status, answered.code) == ("INVALID_ARGUMENT", "body_too_large")
        answered = await ask(made, text_request(b"1" * 30_000))  # over what any model takes
        assert (answered.status, answered.code) == ("INVALID_ARGUMENT", "body_too_large")
        answered = await ask(made, text_request(b"1" * 200_000))  # grpc's own limit
        assert answered.status == "RESOURCE_EXHAUSTED"
        answered = await ask(made, b"\x0a\x00" * 3000, f"/{INFERENCE}/ModelReady")
        assert (answered.status, answered.code) == ("INVALID_ARGUMENT", "body_too_large")
        assert (await ask(made, text_request(b"1"))).status == "OK"
        assert await site.metric("graftwork_in_flight_bytes") == {(): 0}

    called(story, max_json_bytes=4096, max_tensor_bytes=20_000)


def test_more_calls_than_there_may_be_are_told_to_come_again(called: Called) -> None:
    async def story(site: Site, made: Any) -> None:
        site.engine.gate.clear()
        asked = [made.unary_unary(MODEL_INFER)(text_request(b"1").SerializeToString()) for _ in range(2)]
        await site.until("graftwork_in_flight_rows", value=2)
        answered = await ask(made, text_request(b"2"))
        assert (answered.status, answered.code, answered.trailers["retry-after"]) == ("UNAVAILABLE", "overloaded", "1")
        site.engine.gate.set()
        for call in asked:
            await call
        assert (await ask(made, text_request(b"2"))).status == "OK"
        assert await site.outcomes() == {("letters", "ok", "1"): 3, ("_unknown", "shed", "_unknown"): 1}

    called(story, max_grpc_calls=2)


def test_rows_over_those_in_flight_are_shed_as_over_http(called: Called) -> None:
    async def story(site: Site, made: Any) -> None:
        site.engine.gate.clear()
        first = made.unary_unary(MODEL_INFER)(text_request(b"1").SerializeToString())
        await site.until("graftwork_in_flight_rows", value=1)
        answered = await ask(made, text_request(b"2"))
        assert (answered.status, answered.code) == ("UNAVAILABLE", "overloaded")
        assert (await site.predict("letters", ["2"])).status == 503
        answered = await ask(made, text_request(b"2").SerializeToString() + b"\x32\x01\x00")
        assert answered.code == "overloaded"  # what is wrong with it is not looked at
        site.engine.gate.set()
        await first

    called(story, max_rows_in_flight=1)


def test_more_connections_than_there_may_be_are_closed(called: Called) -> None:
    async def story(site: Site, made: Any) -> None:
        assert (await ask(made, text_request(b"1"))).status == "OK"
        async with channel(site.application._settings.grpc_port or 0) as another:
            assert (await ask(another, text_request(b"1"), timeout=2)).status == "UNAVAILABLE"
        assert (await ask(made, text_request(b"1"))).status == "OK"

    called(story, max_grpc_connections=1)


def test_messages_may_be_compressed_and_a_bomb_is_refused_and_counted(
    called: Called, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(site: Site, made: Any) -> None:
        infer = made.unary_unary(MODEL_INFER)
        await infer(text_request(b"1").SerializeToString(), compression=grpc.Compression.Gzip)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await infer(bytes(50 << 20), compression=grpc.Compression.Gzip)
        assert caught.value.code().name == "RESOURCE_EXHAUSTED"  # of grpc itself
        await site.until("graftwork_in_flight_requests", value=0)
        outcomes = {outcome: count for (_, outcome, _), count in (await site.outcomes()).items()}
        # There is no message, or grpc is quicker to say that the call is over.
        assert outcomes in ({"ok": 1, "client_error": 1}, {"ok": 1, "disconnected": 1})

    called(story, max_tensor_bytes=1 << 20)
    assert not [each for each in caplog.records if each.name.startswith(("grpc", "asyncio"))]
