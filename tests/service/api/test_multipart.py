"""Bodies that are forms: each of their parts is an instance."""

from __future__ import annotations

import base64
from contextlib import suppress
from email import policy
from email.mime.application import MIMEApplication
from email.mime.multipart import MIMEMultipart

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from models.backbone import Modality
from models.errors import InputError
from tests.service.api.bodies import PNG, read, refusal
from tests.service.api.form import END, FORM_DATA, MULTIPART, form, part
from tests.stopwatch import quickest


@pytest.mark.parametrize("modality", Modality)
def test_every_part_is_an_instance(modality: Modality) -> None:
    large = bytes(range(256)) * 8192
    body = part(PNG) + part(b"") + part(large) + END
    assert read(body, MULTIPART, modality) == [PNG, b"", large]


def test_a_form_field_is_an_instance_too() -> None:
    body = part("d\u00e9j\u00e0".encode(), disposition="form-data; name=text") + END
    assert read(body, MULTIPART) == ["d\u00e9j\u00e0".encode()]


def test_a_boundary_inside_a_part_is_data_unless_it_starts_a_line() -> None:
    data = b"a --XxX b\r\n-XxX\r\n--XxY"
    assert read(part(data) + END, MULTIPART, Modality.IMAGE) == [data]


@pytest.mark.parametrize("charset", ["undefined", "utf-7", "idna", "unicode_escape", "no-such"])
def test_a_charset_changes_nothing(charset: str) -> None:
    odd = b"+2AA-\\ud800\xff"
    assert read(part(odd) + END, f"{MULTIPART}; charset={charset}", Modality.IMAGE) == [odd]


@pytest.mark.parametrize("body", [b"", b"what", END, part(PNG), part(PNG) + part(PNG)[:-10], part(PNG) + END[:-4]])
def test_a_multipart_body_that_is_cut(body: bytes) -> None:
    assert refusal(body, MULTIPART, Modality.IMAGE) == (422, "invalid_instances")


@pytest.mark.parametrize(
    "media_type",
    [
        FORM_DATA,
        f"{FORM_DATA}; boundary",
        f"{FORM_DATA}; boundary=",
        f'{FORM_DATA}; boundary=""',
        f"{FORM_DATA}; boundary={'x' * 71}",
        f"{FORM_DATA}; boundary=\xff",
        f"{FORM_DATA}; boundary*=undefined''XxX",
        f"{FORM_DATA}; {'x' * 998}; boundary=XxX",
    ],
)
def test_a_boundary_that_is_none(media_type: str) -> None:
    boundary = media_type.rpartition("=")[2].strip('"').encode("latin-1")
    assert refusal(form([PNG], boundary), media_type, Modality.IMAGE) == (422, "invalid_instances")


@pytest.mark.parametrize(
    ("boundary", "parameter"),
    [
        ("XxX", 'boundary="XxX"'),
        ("XxX", "charset=utf-7; BOUNDARY = XxX ; more=a"),
        ("a b", 'boundary="a b"'),
        ("'()+_,-./:=?", 'boundary="\'()+_,-./:=?"'),
        ("x" * 70, f"boundary={'x' * 70}"),
        ("-" * 24 + "0123", f"boundary={'-' * 24}0123"),
    ],
)
def test_a_boundary_as_it_may_be_written(boundary: str, parameter: str) -> None:
    body = form([PNG, b"a"], boundary.encode())
    assert read(body, f"{FORM_DATA}; {parameter}", Modality.IMAGE) == [PNG, b"a"]


@pytest.mark.parametrize(
    "body",
    [
        b"--XxX\r\nA: b\r\n--XxX--",
        b"--XxX\r\n--XxX--",
        b"--XxX\nA: b\n\nc\n--XxX--",
        b"--XxX \t.\r\n\r\na\r\n--XxX--",
        b"--XxXy\r\n\r\na\r\n--XxX--",
        b"--XxX\r\n\r\na\r\n--XxX y\r\n\r\nb\r\n--XxX--",
        b"--XxX\r\n" + b"A: b\r\n" * 10_000 + b"\r\nc\r\n--XxX--",
    ],
)
def test_a_part_without_an_empty_line_or_with_more_than_a_delimiter_in_its_line(body: bytes) -> None:
    assert refusal(body, MULTIPART, Modality.IMAGE) == (422, "invalid_instances")


boundaries = st.from_regex(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]", fullmatch=True)


@given(
    parts=st.lists(st.binary() | st.sampled_from([b"\r\n", b"\r\n\r\n", b"--", b"\r\n--"]), min_size=1, max_size=64),
    boundary=boundaries.map(str.encode),
    headers=st.sampled_from(
        [b"", b"A: b\r\n", b'Content-Disposition: form-data; name="a"\r\nContent-Type: image/png\r\n']
    ),
    preamble=st.binary(),
    padding=st.text(" \t").map(str.encode),
    epilogue=st.just(b"") | st.binary().map(lambda data: b"\r\n" + data),
)
def test_a_form_that_follows_its_specification(
    parts: list[bytes], boundary: bytes, headers: bytes, preamble: bytes, padding: bytes, epilogue: bytes
) -> None:
    assume(all(b"\r\n--" + boundary not in b"\r\n" + data for data in [*parts, preamble]))
    body = form(parts, boundary, headers=headers, preamble=preamble, padding=padding, epilogue=epilogue)
    assert read(body, f'{FORM_DATA}; boundary="{boundary.decode()}"', Modality.IMAGE) == parts


@given(st.lists(st.binary(), min_size=1, max_size=8))
def test_a_form_that_the_standard_library_writes(parts: list[bytes]) -> None:
    message = MIMEMultipart("form-data", _subparts=[MIMEApplication(data) for data in parts])
    _, _, body = message.as_bytes(policy=policy.HTTP).partition(b"\r\n\r\n")
    assert [base64.b64decode(data) for data in read(body, message["content-type"], Modality.IMAGE)] == parts


def test_too_many_parts_are_not_collected() -> None:
    assert len(read(part(b"a") * 64 + END, MULTIPART, Modality.IMAGE)) == 64
    many = part(b"") * 100_000 + END
    assert refusal(many, MULTIPART, Modality.IMAGE) == (413, "too_many_instances")
    assert refusal(b"--XxX\r\n" * 65 + END, MULTIPART, Modality.IMAGE) == (413, "too_many_instances")


@pytest.mark.parametrize("boundary", [b"a", b"-" * 69 + b"a"])
@pytest.mark.parametrize(
    ("before", "unit"),
    [
        (b"", b"\r"),
        (b"--a", b" "),
        (b"--a\r\n", b"A: b\r\n"),
        (b"--a\r\nA: ", b"b"),
        (b"--a\r\n", b"\r"),
        (b"--a\r\n\r\n", b"-"),
        (b"--a\r\n\r\n", b"\r\n--a"),
        (b"--a\r\n\r\n", b"\r\n--ax"),
        (b"--a\r\n\r\n", b"\r\n--a-x"),
        (b"--a\r\n\r\n", b"\r\n--a\r"),
        (b"--a\r\n\r\n\r\n--a", b" "),
        (b"--a\r\n\r\n", b"\r\n--"),
        (b"--a\r\n\r\n", b"\r\n\r"),
    ],
)
def test_a_form_of_many_megabytes_holds_nobody_up(boundary: bytes, before: bytes, unit: bytes) -> None:
    before, unit = before.replace(b"a", boundary), unit.replace(b"a", boundary)
    body = before + unit * ((16 << 20) // len(unit)) + b"\r\n--" + boundary + b"--"

    def read_or_refuse() -> None:
        with suppress(InputError):
            read(body, f"{FORM_DATA}; boundary={boundary.decode()}", Modality.IMAGE)

    assert quickest(read_or_refuse, bound=0.05) < 0.05


def test_a_long_content_type_holds_nobody_up() -> None:
    media_type = f'{FORM_DATA}; a="' + ";" * 32_000
    assert quickest(lambda: refusal(b"", media_type), bound=0.01) < 0.01


@given(st.binary().map(part), st.data())
def test_a_damaged_multipart_body_gives_instances_or_an_input_error(body: bytes, data: st.DataObject) -> None:
    body = body + END
    start = data.draw(st.integers(0, len(body)))
    damaged = body[:start] + data.draw(st.binary(max_size=8)) + body[data.draw(st.integers(start, len(body))) :]
    with suppress(InputError):
        assert all(isinstance(instance, bytes) for instance in read(damaged, MULTIPART, Modality.IMAGE))
