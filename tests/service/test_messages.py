from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.messages import (
    PREFIX,
    Answer,
    Batch,
    Cancel,
    Died,
    Failure,
    FrameReader,
    Hello,
    Load,
    Loaded,
    LoadFailed,
    Message,
    Predict,
    RemoteEngine,
    Report,
    Timings,
    Unload,
    Wish,
    pack,
    pack_pair,
    unpack,
    unpack_pair,
)

texts = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers(0, 2**53)
seconds = st.floats(0, 1e6)
timings = st.builds(Timings, decode=seconds, queue=seconds, compute=seconds)
shares = st.lists(st.tuples(texts, numbers, numbers))
batches = st.lists(st.builds(Batch, backbone=texts, rows=numbers, seconds=seconds, versions=shares))
fleets = st.lists(
    st.builds(RemoteEngine, url=texts, up=st.booleans(), requests=numbers, failures=numbers, retries=numbers)
)
named = {"name": texts, "number": numbers}

messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Hello, worker=numbers, pid=numbers, device=texts),
    st.builds(Load, **named),
    st.builds(Unload, **named),
    st.builds(Loaded, **named),
    st.builds(LoadFailed, **named, reason=texts),
    st.builds(
        Predict,
        id=numbers,
        **named,
        sizes=st.lists(numbers),
        deadline=seconds,
        wish=st.builds(
            Wish,
            form=st.sampled_from(["item", "UINT8", "FP32"]),
            outputs=st.lists(texts),
            top_k=st.none() | numbers,
            truncate=st.booleans(),
        ),
        isolated=st.booleans(),
        priority=numbers,
    ),
    st.builds(Cancel, id=numbers),
    st.builds(Answer, id=numbers, timings=timings, sizes=st.lists(numbers), truncated=st.lists(numbers)),
    st.builds(Failure, id=numbers, code=texts, message=texts, timings=timings),
    st.builds(Report, batches=batches, dropped=numbers, waiting=numbers, busy_seconds=seconds, fleet=fleets),
    st.builds(Died, worker=numbers, exit_code=st.integers(-64, 255), deaths=numbers, pause_seconds=seconds),
)
frames = st.lists(st.tuples(messages, st.binary()))


def stream_of(sent: Iterable[tuple[Message, bytes]]) -> bytes:
    return b"".join(pack(message, len(payload)) + payload for message, payload in sent)


def fed(stream: bytes, cuts: Iterable[int]) -> list[tuple[Message, bytes]]:
    """What a reader makes of a stream that arrives in pieces."""
    reader, received, start = FrameReader(), [], 0
    for cut in [*sorted(cuts), len(stream)]:
        received += reader.feed(stream[start:cut])
        start = cut
    return received


@given(messages, st.binary())
def test_every_message_comes_back_from_its_frame(message: Message, payload: bytes) -> None:
    frame = pack(message, len(payload)) + payload
    header_size, payload_size = PREFIX.unpack(frame[: PREFIX.size])
    header = frame[PREFIX.size : PREFIX.size + header_size]
    assert unpack(header) == message
    assert frame[PREFIX.size + header_size :] == payload
    assert payload_size == len(payload)


@given(messages)
def test_the_header_is_json_that_starts_with_the_kind(message: Message) -> None:
    header = pack(message)[PREFIX.size :]
    kind = message.__struct_config__.tag
    assert header.startswith(b'{"kind":"%s",' % str(kind).encode())
    assert orjson.loads(header)["kind"] == kind


@given(frames, st.data())
def test_frames_may_be_cut_anywhere(sent: list[tuple[Message, bytes]], data: st.DataObject) -> None:
    stream = stream_of(sent)
    cuts: Sequence[int] = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
    assert fed(stream, cuts) == sent


def test_frames_may_arrive_a_byte_at_a_time() -> None:
    sent: list[tuple[Message, bytes]] = [
        (Cancel(id=1), b""),
        (Predict(id=2, name="m", number=1, sizes=[2, 0], deadline=1.0), b"ab"),
        (Report(batches=[Batch(backbone="b", rows=3, seconds=0.5, versions=[("m", 1, 3)])]), b""),
    ]
    stream = stream_of(sent)
    assert fed(stream, range(1, len(stream))) == sent


def test_a_frame_is_read_once_its_last_byte_is_there() -> None:
    sent: list[tuple[Message, bytes]] = [(Cancel(id=7), b"payload")]
    stream = stream_of(sent)
    for cut in range(len(stream)):
        reader = FrameReader()
        assert list(reader.feed(stream[:cut])) == []
        assert reader.feed(stream[cut:]) == sent


def test_a_buffer_that_is_fed_may_be_used_again() -> None:
    sent: list[tuple[Message, bytes]] = [(Cancel(id=number), bytes([number] * 9)) for number in range(5)]
    stream = stream_of(sent)
    buffer, reader, received = bytearray(16), FrameReader(), []
    for start in range(0, len(stream), len(buffer)):
        piece = stream[start : start + len(buffer)]
        buffer[: len(piece)] = piece
        received += reader.feed(memoryview(buffer)[: len(piece)])
    assert received == sent


def test_a_kind_that_nobody_knows_is_no_message() -> None:
    with pytest.raises(msgspec.ValidationError):
        unpack(b'{"kind":"shutdown"}')


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_a_pair_survives_its_packing(first: bytes, second: bytes) -> None:
    assert unpack_pair(pack_pair(first, second)) == (first, second)
