"""The local cache of the hub, laid out by hand; the network is never reached."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
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
from models.preprocessor import ImagePreprocessorConfig
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


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is to be found out about a checkpoint of the hub: for each, timm's own model and data config say it."""

    name: str
    repository: str
    feature_dim: int
    pixels: int
    has_classifier: bool
    extra_args: dict[str, Any] = field(default_factory=dict)


KNOWN = (
    Known(name="resnet50", repository="resnet50.a1_in1k", feature_dim=2048, pixels=224, has_classifier=True),
    Known(name="vgg16", repository="vgg16.tv_in1k", feature_dim=4096, pixels=224, has_classifier=True),
    Known(
        name="inception_v3",
        repository="inception_v3.tv_in1k",
        feature_dim=2048,
        pixels=299,
        has_classifier=True,
        extra_args={"aux_logits": True},
    ),
    Known(
        name="vit_base_patch16_224.mae",
        repository="vit_base_patch16_224.mae",
        feature_dim=768,
        pixels=224,
        has_classifier=False,
    ),
    Known(
        name="vit_small_patch14_dinov2.lvd142m",
        repository="vit_small_patch14_dinov2.lvd142m",
        feature_dim=384,
        pixels=518,
        has_classifier=False,
    ),
    Known(
        name="vit_small_patch16_224.dino",
        repository="vit_small_patch16_224.dino",
        feature_dim=384,
        pixels=224,
        has_classifier=False,
    ),
)


def write_zeros(shapes: Mapping[str, torch.Tensor], file: Path) -> None:
    """Weights that are all 0 in a file with a hole, so that large ones take neither time nor room."""
    header: dict[str, object] = {}
    end = 0
    for name, tensor in shapes.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        dtype = {torch.float32: "F32", torch.int64: "I64"}[tensor.dtype]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    encoded = json.dumps(header).encode()
    with file.open("wb") as stream:
        stream.write(len(encoded).to_bytes(8, "little") + encoded)
        stream.truncate(8 + len(encoded) + end)


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_real_checkpoints_have_a_place_for_each_weight(cache: Path, known: Known) -> None:
    import timm

    with torch.device("meta"):
        model = timm.create_model(known.name, pretrained=False, **known.extra_args)
    write_zeros(model.state_dict(), snapshot(cache, f"timm/{known.repository}") / "model.safetensors")
    checkpoint = fetch_checkpoint(f"timm:{known.name}")
    assert checkpoint.config.feature_dim == known.feature_dim
    assert (checkpoint.classifier is not None) == known.has_classifier
    cfg = model.pretrained_cfg
    assert checkpoint.preprocessor == ImagePreprocessorConfig(
        input_size=(3, known.pixels, known.pixels),
        interpolation=cfg["interpolation"],
        crop_pct=cfg["crop_pct"],
        crop_mode=cfg["crop_mode"],
    )
    assert (checkpoint.config.options["mean"], checkpoint.config.options["std"]) == (
        list(cfg["mean"]),
        list(cfg["std"]),
    )


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
