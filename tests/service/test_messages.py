from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.messages import (
    PREFIX,
    Answer,
    Cancel,
    Failure,
    Hello,
    Load,
    Loaded,
    LoadFailed,
    Message,
    Predict,
    Timings,
    Unload,
    pack,
    unpack,
)

texts = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers(0, 2**53)
seconds = st.floats(0, 1e6)
timings = st.builds(Timings, decode=seconds, queue=seconds, compute=seconds)
batches: st.SearchStrategy[list[list[object]]] = st.lists(st.tuples(texts, numbers).map(list))
named = {"name": texts, "number": numbers}

messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Hello, worker=numbers, pid=numbers, device=texts),
    st.builds(Load, **named),
    st.builds(Unload, **named),
    st.builds(Loaded, **named),
    st.builds(LoadFailed, **named, reason=texts),
    st.builds(Predict, id=numbers, **named, sizes=st.lists(numbers), top_k=st.none() | numbers, truncate=st.booleans()),
    st.builds(Cancel, id=numbers),
    st.builds(Answer, id=numbers, timings=timings, batches=batches, waiting=numbers),
    st.builds(Failure, id=numbers, code=texts, message=texts, timings=timings, batches=batches, waiting=numbers),
)


@given(messages, st.binary())
def test_every_message_comes_back_from_its_frame(message: Message, payload: bytes) -> None:
    frame = pack(message, payload)
    header_size, payload_size = PREFIX.unpack(frame[: PREFIX.size])
    header = frame[PREFIX.size : PREFIX.size + header_size]
    assert unpack(header) == message
    assert frame[PREFIX.size + header_size :] == payload
    assert payload_size == len(payload)


@given(messages)
def test_the_header_is_json_that_starts_with_the_kind(message: Message) -> None:
    frame = pack(message)
    header = frame[PREFIX.size :]
    assert header.startswith(b'{"kind":"%s",' % message.kind.encode())
    assert orjson.loads(header)["kind"] == message.kind


@given(st.lists(st.tuples(messages, st.binary()), min_size=1))
def test_frames_in_a_row_do_not_run_into_each_other(sent: list[tuple[Message, bytes]]) -> None:
    stream = b"".join(pack(message, payload) for message, payload in sent)
    received = []
    while stream:
        header_size, payload_size = PREFIX.unpack(stream[:8])
        body = 8 + header_size
        received.append((unpack(stream[8:body]), stream[body : body + payload_size]))
        stream = stream[body + payload_size :]
    assert received == sent


def test_a_kind_that_nobody_knows_is_no_message() -> None:
    with pytest.raises(KeyError):
        unpack(b'{"kind":"shutdown"}')
