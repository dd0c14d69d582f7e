"""The local cache of the hub, laid out by hand; the network is never reached."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)

from models import hub
from models.errors import BackboneNotFound
from models.sources import fetch_checkpoint

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no way out."""

    def connect(*_: object, **__: object) -> None:
        raise AssertionError("the network was reached")

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def snapshot(cache: Path, repository: str) -> Path:
    """The folder of a repository's only revision, as the hub's client lays it out."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(REVISION)
    files = folder / "snapshots" / REVISION
    files.mkdir(parents=True)
    return files


def save_timm(architecture: str, file: Path) -> None:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(timm.create_model(architecture, pretrained=False).state_dict(), file)


@pytest.mark.parametrize("name", ["timm:test_vit.r160_in1k", "timm:test_vit"])
def test_a_timm_model_is_found_in_the_cache(cache: Path, name: str) -> None:
    """Without a tag it is the architecture's default weights, as in timm."""
    save_timm("test_vit", snapshot(cache, "timm/test_vit.r160_in1k") / "model.safetensors")
    checkpoint = fetch_checkpoint(name)
    assert checkpoint.config.source == name
    assert checkpoint.config.feature_dim == 64
    assert checkpoint.classifier is not None
    assert len(checkpoint.classifier.labels) == len(set(checkpoint.classifier.labels)) == 1000


def test_a_transformers_model_is_found_in_the_cache(cache: Path, tiny_text: str) -> None:
    files = snapshot(cache, "someone/tiny-bert")
    for file in Path(tiny_text.removeprefix("dir:")).iterdir():
        shutil.copy(file, files)
    (files / "1_Pooling").mkdir()
    (files / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    checkpoint = fetch_checkpoint("hf:someone/tiny-bert")
    assert checkpoint.config.feature_dim == 16
    assert checkpoint.config.pooling == "first"
    assert checkpoint.tokenizer_json == (files / "tokenizer.json").read_bytes()


def test_pickled_weights_in_the_cache_are_not_read(cache: Path) -> None:
    files = snapshot(cache, "timm/test_vit.r160_in1k")
    (files / "pytorch_model.bin").write_bytes(b"\x80\x04 a pickle")
    with pytest.raises(BackboneNotFound, match="cannot be reached"):
        fetch_checkpoint("timm:test_vit")
    files = snapshot(cache, "someone/pickled")
    (files / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (files / "tokenizer.json").write_text("{}")
    (files / "pytorch_model.bin").write_bytes(b"\x80\x04 a pickle")
    with pytest.raises(BackboneNotFound, match=r"no model\.safetensors"):
        fetch_checkpoint("hf:someone/pickled")


@pytest.mark.parametrize("name", ["timm:test_vit", "hf:someone/else", "hf:sentence-transformers/all-mpnet-base-v2"])
def test_what_is_not_cached_is_an_error_that_says_so(name: str) -> None:
    with pytest.raises(BackboneNotFound, match=f"'{name}' is not in the local cache and the hub cannot be reached"):
        fetch_checkpoint(name)


@pytest.mark.parametrize("name", ["hf:a/b/c", "hf:../../etc/passwd", "hf:a b", "hf:all-MiniLM-L6-v2/"])
def test_a_name_that_no_repository_can_have(name: str) -> None:
    with pytest.raises(BackboneNotFound, match="no valid repository name"):
        fetch_checkpoint(name)


def test_a_near_miss_of_an_embedded_backbone_is_named() -> None:
    with pytest.raises(BackboneNotFound, match="did you mean 'hf:all-MiniLM-L6-v2'"):
        fetch_checkpoint("hf:all-MiniLM-L6-v3")


def _online(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> list[dict[str, Any]]:
    """A hub that answers, whose client finds nothing in the cache and then raises, or downloads."""
    calls: list[dict[str, Any]] = []

    def download(*_: str, **options: Any) -> str:
        calls.append(options)
        if options.get("local_files_only"):
            raise LocalEntryNotFoundError("not cached")
        if error is not None:
            raise error
        return "/downloaded"

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr(hub, "_hub_answers", lambda: True)
    return calls


def test_the_network_is_asked_after_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _online(monkeypatch, None)
    assert hub.hub_file("timm:x", "timm/x", "model.safetensors") == Path("/downloaded")
    assert calls == [{"local_files_only": True}, {}]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RepositoryNotFoundError, "the hub has no 'timm:x'"),
        (RemoteEntryNotFoundError, "the hub has no 'timm:x'"),
        (GatedRepoError, "accept its terms"),
        (LocalEntryNotFoundError, "cannot be reached"),
        (ConnectionResetError, "cannot be reached"),
    ],
)
def test_what_goes_wrong_with_the_hub_is_one_clear_error(
    error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _online(monkeypatch, error.__new__(error))  # some want the HTTP library's response, which is not at hand
    with pytest.raises(BackboneNotFound, match=message):
        hub.hub_file("timm:x", "timm/x", "model.safetensors")


def test_an_unreachable_hub_is_noticed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "getproxies", dict)
    monkeypatch.setattr(socket, "create_connection", refuse)
    assert hub._hub_answers() is False
    monkeypatch.setattr(hub, "getproxies", lambda: {"https": "http://proxy"})
    assert hub._hub_answers() is True  # only the proxy can tell
