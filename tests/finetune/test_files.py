from __future__ import annotations

import os
import socket
from pathlib import Path, PurePath

import pytest

from finetune.files import list_folder, open_inside
from models.errors import DatasetInvalid


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    root = tmp_path / "data"
    (root / "cat").mkdir(parents=True)
    (root / "cat" / "1.jpg").write_bytes(b"one")
    return root


def refusal(root: Path, relative: str) -> DatasetInvalid:
    with pytest.raises(DatasetInvalid) as caught:
        open_inside(root, PurePath(relative), file="train.csv", line=7)
    assert (caught.value.file, caught.value.line) == ("train.csv", 7)
    return caught.value


def test_a_regular_file_is_opened(root: Path) -> None:
    with open_inside(root, PurePath("cat/1.jpg"), file="train.csv") as file:
        assert file.read() == b"one"


def test_the_root_itself_may_be_a_link(root: Path) -> None:
    (root.parent / "link").symlink_to(root)
    with open_inside(root.parent / "link", PurePath("cat/1.jpg"), file="train.csv") as file:
        assert file.read() == b"one"


@pytest.mark.parametrize("relative", ["../secret.jpg", "cat/../../secret.jpg", "/etc/passwd", "."])
def test_nothing_outside_is_opened(root: Path, relative: str) -> None:
    assert "not inside" in refusal(root, relative).message


@pytest.mark.parametrize("target", ["../../secret.jpg", "1.jpg", "loop.jpg"])
def test_a_linked_file_is_refused(root: Path, target: str) -> None:
    (root / "cat" / "loop.jpg").symlink_to(target)
    assert "symbolic link" in refusal(root, "cat/loop.jpg").message


def test_a_linked_folder_is_refused(root: Path) -> None:
    (root / "dog").symlink_to(root.parent)
    assert "symbolic link" in refusal(root, "dog/secret.jpg").message


def test_a_fifo_is_refused_without_waiting_for_its_writer(root: Path) -> None:
    os.mkfifo(root / "cat" / "fifo.jpg")
    assert "not a regular file" in refusal(root, "cat/fifo.jpg").message


def test_a_folder_and_a_socket_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)  # the address of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jpg")
        assert "cannot be read" in refusal(root, "socket.jpg").message
    assert "not a regular file" in refusal(root, "cat").message


def test_a_device_is_refused() -> None:
    assert "not a regular file" in refusal(Path("/dev"), "null").message


@pytest.mark.parametrize("relative", ["cat/2.jpg", "dog/1.jpg", "cat/" + "x" * 300, "cat/\0.jpg", "cat/1.jpg/2.jpg"])
def test_an_absent_file_is_refused(root: Path, relative: str) -> None:
    assert relative.rpartition("/")[2][:4].strip("\0") in refusal(root, relative).message


def test_a_listing_is_sorted_and_shows_nothing_hidden(root: Path) -> None:
    for name in (".DS_Store", "__MACOSX", "b", "a"):
        (root / "cat" / name).touch()
    assert list_folder(root / "cat") == ["1.jpg", "a", "b"]


def test_a_folder_that_cannot_be_listed_is_refused(root: Path) -> None:
    with pytest.raises(DatasetInvalid, match="absent: cannot be listed"):
        list_folder(root / "absent")
