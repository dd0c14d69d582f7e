"""The instances of a body: what is read and what is refused."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.backbone import Modality
from models.errors import InputError
from service.api.body import parse_json
from tests.service.api.bodies import FORM, JSON, PNG, images, read, refusal, texts
from tests.service.api.form import END, FORM_DATA, MULTIPART, part
from tests.stopwatch import quickest

# What is read


@pytest.mark.parametrize(
    "media_type", [JSON, "application/json; charset=utf-8", "application/vnd.x+json", FORM, None, ""]
)
def test_texts_in_json(media_type: str | None) -> None:
    assert read(texts("one", "zwei\u00e9", "\x00\ufffe"), media_type) == [
        b"one",
        "zwei\u00e9".encode(),
        "\x00\ufffe".encode(),
    ]


@pytest.mark.parametrize("media_type", [JSON, FORM, None])
def test_images_in_json(media_type: str | None) -> None:
    assert read(images(b"one", PNG), media_type, Modality.IMAGE) == [b"one", PNG]


@pytest.mark.parametrize("media_type", ["image/png", "image/jpeg", "application/octet-stream", FORM, None])
def test_one_raw_image(media_type: str | None) -> None:
    assert read(PNG, media_type, Modality.IMAGE) == [PNG]


def test_one_plain_text() -> None:
    assert read("{ a t\u00e9xt".encode(), "text/plain; charset=utf-8") == ["{ a t\u00e9xt".encode()]


def test_unknown_fields_are_ignored_and_of_two_keys_the_last_counts() -> None:
    assert read(b'{"signature_name": [1], "instances": ["a"], "instances": ["b"]}') == [b"b"]


def test_a_byte_order_mark_is_tolerated() -> None:
    assert read(b"\xef\xbb\xbf" + texts("a")) == [b"a"]


# What is refused (FAULTS: J, I, T)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"instances": ["a",]}',
        b'{"instances": ["a"]} x',
        b'{"instances": []}{}',
        b'// "\n{"instances": []}',
        b"nul",
    ],
)
def test_j01_what_is_no_json(body: bytes) -> None:
    assert refusal(body) == (400, "invalid_json")
    assert refusal(body, modality=Modality.IMAGE) == (400, "invalid_json")


@pytest.mark.parametrize("depth", [101, 1000, 1025, 100_000, 250_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_j02_too_deep(depth: int, opening: bytes, closing: bytes) -> None:
    body = opening * depth + (b"1" if closing == b"}" else b"") + closing * depth
    assert refusal(body) == (400, "json_too_deep")
    assert quickest(lambda: refusal(body), bound=0.05) < 0.05


def test_j02_never_closed() -> None:
    assert refusal(b"[" * 250_000) == (400, "json_too_deep")


def test_j02_a_hundred_levels_are_fine() -> None:
    assert parse_json(b"[" * 100 + b"]" * 100)
    assert len(parse_json(b"[" + b"[]," * 100_000 + b"[]]")) == 100_001


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" + "0" * 400])
def test_j03_not_finite(number: str) -> None:
    assert refusal(b'{"instances": [%s]}' % number.encode()) == (400, "non_finite")


@pytest.mark.parametrize(
    "number", ["1" * 5000, "18446744073709551616", "-0", "1e308", "1", "true", "null", '["a"]', "{}"]
)
def test_j05_j06_something_else_than_a_text(number: str) -> None:
    status, code = refusal(b'{"instances": ["a", %s]}' % number.encode())
    assert (status, code) == ((400, "invalid_json") if len(number) > 4300 else (422, "invalid_instances"))


def test_j06_the_place_is_named() -> None:
    with pytest.raises(InputError, match=r"instance 1 \(/instances/1\)"):
        read(texts("a", 2))
    with pytest.raises(InputError, match=r"instance 2 \(/instances/2/b64\)"):
        read(b'{"instances": [{"b64": ""}, {"b64": "YQ=="}, {"b64": "?"}]}', JSON, Modality.IMAGE)


@pytest.mark.parametrize(
    "body", [b"[]", b"1", b'"a"', b"{}", b'{"instances": {}}', b'{"instances": "a"}', b'{"Instances": ["a"]}']
)
def test_the_shape_of_the_document(body: bytes) -> None:
    assert refusal(body) == (422, "invalid_instances")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le"])
def test_j08_other_encodings(encoding: str) -> None:
    status, code = refusal('{"instances": ["a"]}'.encode(encoding))
    assert status == 400
    assert code == ("invalid_json" if encoding == "utf-16-le" else "invalid_utf8")


@pytest.mark.parametrize(
    "body", [b'{"instances": ["\xff"]}', b'{"instances": ["\xed\xa0\x80"]}', b"\xff", b'{"instances": ["caf\xe9"]}']
)
def test_t04_invalid_utf8(body: bytes) -> None:
    assert refusal(body) == (400, "invalid_utf8")


@pytest.mark.parametrize("escape", ["\\ud800", "\\udc00", "\\uD83Dx", "\\ud800\\ud800"])
def test_t05_a_lone_surrogate(escape: str) -> None:
    assert refusal(b'{"instances": ["%s"]}' % escape.encode()) == (400, "invalid_unicode")


def test_t05_a_pair_of_surrogates_is_a_character() -> None:
    assert read(b'{"instances": ["\\ud83d\\ude00"]}') == ["\U0001f600".encode()]


@pytest.mark.parametrize("media_type", ["image/png", "application/octet-stream", FORM, None])
def test_i01_no_bytes(media_type: str | None) -> None:
    assert refusal(b"", media_type, Modality.IMAGE) == (400, "empty_body")


@pytest.mark.parametrize(
    "encoded",
    [
        "a",
        "YQ=",
        "YQ",
        "YWJj\n",
        "YW Jj",
        "=",
        "YQ==YQ==",
        "-_-_",
        "data:image/png;base64,YWJj",
        "\u00e9\u00e9\u00e9\u00e9",
        "YQ===",
    ],
)
def test_i17_base64_that_is_not_standard(encoded: str) -> None:
    body = json.dumps({"instances": [{"b64": encoded}]}).encode()
    assert refusal(body, JSON, Modality.IMAGE) == (400, "invalid_base64")


@pytest.mark.parametrize("instance", ["YQ==", {}, {"b64": 1}, {"b64": None}, {"B64": "YQ=="}, ["YQ=="], None])
def test_an_image_is_an_object_with_its_base64(instance: object) -> None:
    assert refusal(texts(instance), JSON, Modality.IMAGE) == (422, "invalid_instances")


@pytest.mark.parametrize(("count", "status"), [(0, 422), (1, 200), (64, 200), (65, 413)])
def test_t10_how_many_instances(count: int, status: int) -> None:
    for body, modality in [(texts(*["a"] * count), Modality.TEXT), (images(*[b"a"] * count), Modality.IMAGE)]:
        if status == 200:
            assert len(read(body, JSON, modality)) == count
        else:
            assert refusal(body, JSON, modality)[0] == status


def test_t10_too_many_is_said_so() -> None:
    assert refusal(texts(*["a"] * 65)) == (413, "too_many_instances")
    assert refusal(texts()) == (422, "invalid_instances")


@pytest.mark.parametrize("modality", list(Modality))
def test_a_million_empty_instances_are_refused_before_they_are_built(modality: Modality) -> None:
    body = b'{"instances":[' + b"[]," * 5_000_000 + b"[]]}"
    assert refusal(body, modality=modality) == (422, "invalid_instances")
    assert quickest(lambda: refusal(body, modality=modality), bound=0.1) < 0.1


@pytest.mark.parametrize(
    ("media_type", "modality"),
    [
        ("text/plain", Modality.IMAGE),
        ("text/html", Modality.IMAGE),
        ("text/html", Modality.TEXT),
        ("image/png", Modality.TEXT),
        ("application/octet-stream", Modality.TEXT),
        ("application/pdf", Modality.IMAGE),
        ("/", Modality.TEXT),
    ],
)
def test_types_that_are_not_accepted(media_type: str, modality: Modality) -> None:
    assert refusal(texts("a"), media_type, modality) == (415, "unsupported_media_type")


# Whatever comes


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
bodies = st.one_of(
    st.binary(),
    json_like.map(lambda document: json.dumps(document).encode()),
    st.lists(json_like).map(lambda instances: json.dumps({"instances": instances}).encode()),
    st.lists(
        st.fixed_dictionaries({"b64": st.text() | st.binary().map(lambda data: base64.b64encode(data).decode())})
    ).map(lambda instances: json.dumps({"instances": instances}).encode()),
    st.lists(st.binary().map(part)).map(lambda parts: b"".join(parts) + END),
)
media_types = st.sampled_from(
    [JSON, FORM, "", "text/plain", "image/jpeg", MULTIPART, "multipart/form-data; boundary=XxX; charset=utf-7"]
)


@given(
    bodies,
    media_types | st.text() | st.text().map(lambda text: f"{FORM_DATA}; boundary{text}"),
    st.sampled_from(Modality),
)
@example(b"[" * 5000, JSON, Modality.TEXT)
@example(b'{"instances": ["' + b"\\ud800" * 1000 + b'"]}', JSON, Modality.TEXT)
def test_any_body_gives_instances_or_an_input_error(body: bytes, media_type: str, modality: Modality) -> None:
    try:
        instances = read(body, media_type.encode("latin-1", "replace").decode("latin-1"), modality)
    except InputError:
        return
    assert 1 <= len(instances) <= 64
    assert all(isinstance(instance, bytes) for instance in instances)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=64))
def test_texts_arrive_as_they_were_sent(items: list[str]) -> None:
    assert [instance.decode() for instance in read(texts(*items))] == items
    unescaped = json.dumps({"instances": items}, ensure_ascii=False).encode()
    assert [instance.decode() for instance in read(unescaped)] == items
