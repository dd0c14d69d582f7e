"""Names, numbers, aliases and references to them; what none of them may be."""

from __future__ import annotations

import string
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InvalidParameter
from models.version import ModelVersion, Reference, check_alias, check_model_id, check_name, is_name, parse_number
from tests.models.versions import manifest

letters = string.ascii_letters + string.digits
names = st.builds(str.__add__, st.sampled_from(letters), st.text(letters + "._-", max_size=63))
aliases = st.builds(str.__add__, st.sampled_from(string.ascii_letters + "_"), st.text(letters + "_-", max_size=63))
numbers = st.integers(1, 10**9 - 1)
references = st.one_of(
    st.builds(Reference, name=names),
    st.builds(Reference, name=names, number=numbers),
    st.builds(Reference, name=names, alias=aliases),
)


@given(references)
def test_a_reference_survives_its_text(reference: Reference) -> None:
    assert Reference.parse(str(reference)) == reference


@given(st.text())
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidParameter:
        return
    assert str(reference) == text
    assert is_name(reference.name)


@given(names)
def test_a_name_is_one_folder_that_is_not_hidden(name: str) -> None:
    path = PurePosixPath("/root") / check_name(name)
    assert path.parent == PurePosixPath("/root")
    assert not path.name.startswith(".")


HOSTILE = [
    "",
    ".",
    "..",
    "../etc",
    "%2e%2e%2f",
    "%252e%252e",
    "..%5c",
    "..\\",
    "a/../b",
    "a/b",
    "//",
    "/etc",
    "a\0",
    "\0",
    "%00",
    "%ff",
    "ａｂｃ",
    "e\u0301",
    "é",
    "٣",
    "a" * 65,
    "a" * 300,
    " a",
    "a ",
    "a b",
    "a\n",
    "\ta",
    "-a",
    ".a",
    "_a",
    "~",
    "$HOME",
    "a*",
    "a?",
    "a;b",
    "\ud800",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_refused_wherever_it_stands(name: str) -> None:
    assert not is_name(name)
    with pytest.raises(InvalidParameter, match="a model's name"):
        check_name(name)
    for text in (name, f"{name}:1", f"{name}@champion"):
        with pytest.raises(InvalidParameter):
            Reference.parse(text)


@pytest.mark.parametrize("alias", [*(name for name in HOSTILE if name != "_a"), "1", "a.b", "champion:3", "a@b"])
def test_a_hostile_alias_is_refused(alias: str) -> None:
    with pytest.raises(InvalidParameter, match="an alias"):
        check_alias(alias)
    with pytest.raises(InvalidParameter):
        Reference.parse(f"flowers@{alias}")


@pytest.mark.parametrize(
    "number",
    [
        "",
        "0",
        "-1",
        "+1",
        "01",
        "1.0",
        "1e3",
        " 1",
        "1 ",
        "1\n",
        "0x1",
        "1_0",
        "٣",
        "²",
        "1000000000",
        "latest",
        "9" * 20,
    ],
)
def test_a_number_is_plain_digits(number: str) -> None:
    with pytest.raises(InvalidParameter, match="a version's number"):
        parse_number(number)
    with pytest.raises(InvalidParameter):
        Reference.parse(f"flowers:{number}")


@given(numbers)
def test_numbers_are_read(number: int) -> None:
    assert parse_number(str(number)) == number


@pytest.mark.parametrize(
    "text", ["flowers:1:2", "flowers@a@b", "flowers:1@champion", "flowers@champion:1", "flowers:", "@a"]
)
def test_a_reference_says_one_thing(text: str) -> None:
    with pytest.raises(InvalidParameter):
        Reference.parse(text)


def test_a_version_prints_as_it_is_referred_to() -> None:
    version = ModelVersion(name="flowers", number=3, directory=Path(), manifest=manifest())
    assert str(version) == "flowers:3"
    assert Reference.parse(str(version)) == Reference(name="flowers", number=3)


@pytest.mark.parametrize(
    "text", ["flowers", "flowers:3", "flowers@champion", "all-MiniLM-L6-v2", "BAAI/bge-small-en-v1.5"]
)
def test_what_can_mean_a_model_is_an_id(text: str) -> None:
    assert check_model_id(text) == text


@pytest.mark.parametrize("text", ["", "a/b/c", "a/", "/b", "a/b:1", "../b", "a:0", "a@", "a b"])
def test_what_can_mean_none_is_no_id(text: str) -> None:
    with pytest.raises(InvalidParameter):
        check_model_id(text)
