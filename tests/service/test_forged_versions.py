"""Row L11 with every kind of damage and forgery: refused for a reason, while the version that serves goes on serving."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch

from graftwork import REFUSED, main
from models import storage
from models.aliases import promote
from models.compute_environment import COMPUTE_ENVIRONMENT
from models.head import Head
from models.repository import ModelRepository
from models.version import Reference
from tests.processes import wait_for
from tests.server_process import Reply, ServerProcess, ready_server
from tests.service.asking import Asked, load
from tests.service.forgery import DAMAGES, TENSOR_FILES, Draft
from tests.tiny_models import LETTERS, publish_texts, write_tiny_text

FILES = (
    "head.safetensors",
    "golden/expected.json",
    "golden/features.safetensors",
    "README.md",
    "report/figure.png",
    "manifest.json",
)
BACKBONE_FILES = ("config.json", "model.safetensors", "tokenizer.json")


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory, tiny_text: str) -> ModelRepository:
    """Where versions are made before they are spoilt: ``letters:1`` on the backbone that serves, ``letters:2`` on another."""
    directory = tmp_path_factory.mktemp("workshop")
    (directory / "other").mkdir()
    repository = ModelRepository(directory / "repository")
    publish_texts(repository, tiny_text, "letters", LETTERS, seed=1)
    publish_texts(repository, write_tiny_text(directory / "other", seed=1), "letters", LETTERS, seed=2)
    return repository


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, workshop: ModelRepository) -> Iterator[ServerProcess]:
    """A server whose ``letters:1`` serves."""
    root = tmp_path_factory.mktemp("forged") / "repository"
    digest = workshop.read("letters", 1).manifest.backbone.digest
    shutil.copytree(workshop.backbones.root / digest, root / ".backbones" / digest)
    shutil.copytree(workshop.root / "letters" / "1", root / "letters" / "1")
    promote(ModelRepository(root), Reference(name="letters", number=1))
    with ready_server(root, "--admin") as server:
        yield server


@pytest.fixture(scope="module")
def asked(server: ServerProcess) -> Iterator[list[Asked]]:
    """Requests that name no version, all the while."""
    with load(server, "letters", threads=1) as asked:
        yield asked


@pytest.fixture(autouse=True)
def the_old_version_serves(server: ServerProcess, asked: list[Asked]) -> Iterator[None]:
    """Whatever happens in a test: nobody dies, nobody waits, and nobody gets another answer."""
    workers, before, lines = server.workers(), the_same(server), len(server.text().splitlines())
    begun = len(asked)
    yield
    assert server.workers() == workers
    assert the_same(server) == pytest.approx(before, abs=1e-5)
    wait_for(lambda: len(asked) > begun, 10, server.text)
    replies = [each.reply for each in asked[begun:]]
    assert {reply and (reply.status, reply.json()["version"]) for reply in replies} == {(200, 1)}
    said = server.text().splitlines()[lines:]
    assert len(said) <= 6, "\n".join(said)
    assert "Traceback" not in "\n".join(said)


def the_same(server: ServerProcess) -> Mapping[str, float]:
    """The scores of one text."""
    scores: Mapping[str, float] = server.predict("letters", ["the same"]).json()["predictions"][0]["scores"]
    return scores


@pytest.fixture
def draft(tmp_path: Path, workshop: ModelRepository, monkeypatch: pytest.MonkeyPatch) -> Draft:
    """A version that is intact, on the backbone that serves."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return copied(workshop, 1, tmp_path / "draft")


@pytest.fixture
def other(tmp_path: Path, workshop: ModelRepository, monkeypatch: pytest.MonkeyPatch) -> Draft:
    """A version that is intact, on a backbone of its own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return copied(workshop, 2, tmp_path / "other")


def copied(workshop: ModelRepository, number: int, directory: Path) -> Draft:
    version = workshop.read("letters", number)
    shutil.copytree(version.directory, directory / "version")
    shutil.copytree(workshop.backbones.root / version.manifest.backbone.digest, directory / "backbone")
    draft = Draft(directory=directory / "version", backbone=directory / "backbone")
    draft.put("report/figure.png", b"a figure of many bytes")
    return draft


class Placed:
    """A version where the server looks for it, until the end of the block.

    Attributes:
        number: that it was given.
    """

    def __init__(self, server: ServerProcess, draft: Draft, *, damage: Callable[[Path, Path], object] | None = None):
        self.repository = ModelRepository(server.repository)
        self._server, self._draft = server, draft
        self.number = self.repository._highest_number("letters") + 1
        if draft.manifest["number"] in (1, 2):  # those of the workshop
            draft.declare(number=self.number)
        self.backbone = self.repository.backbones.root / draft.manifest["backbone"]["digest"]
        self._is_new = not self.backbone.exists() and re.fullmatch("[0-9a-f]{64}", self.backbone.name) is not None
        if damage is not None:
            damage(draft.directory, draft.backbone)

    def __enter__(self) -> Placed:
        if self._is_new:
            self._draft.backbone.rename(self.backbone)
        self._draft.directory.rename(self.repository.root / "letters" / str(self.number))
        self.repository.announce()
        return self

    def __exit__(self, *_: object) -> None:
        promote(
            self.repository, Reference(name="letters", number=1)
        )  # so that one that got through spoils no other test
        self.repository.delete(Reference(name="letters", number=self.number))
        if self._is_new:
            storage.remove(self.backbone) if not self.backbone.is_symlink() else self.backbone.unlink()

    def promote(self) -> Reply:
        body, headers = json.dumps({"version": self.number}).encode(), {"Content-Type": "application/json"}
        return self._server.request("PUT", "/v1/models/letters/labels/champion", body, headers)

    def check_refused(self) -> str:
        """It is not promoted, not served, and says why: the reason."""
        refused = self.promote()
        assert (refused.status, refused.json()["code"]) == (409, "promotion_refused"), refused.body
        assert self.repository.deployment("letters").aliases == {"champion": 1}
        listed = self._server.request("GET", "/v1/models/letters").json()["versions"]
        (entry,) = (entry for entry in listed if entry["version"] == self.number)
        assert entry["state"] == "failed"
        reason: str = entry["reason"]
        check_reason(reason)
        assert reason in refused.json()["detail"]
        asked = self._server.request(
            "POST", f"/v1/models/letters/versions/{self.number}:predict", b'{"instances": ["a"]}'
        )
        assert (asked.status, asked.json()["code"]) == (422, "version_corrupt")
        return reason


def check_reason(reason: str) -> None:
    """One line, for people who are not to know what is on this machine."""
    assert reason.isprintable()
    assert 0 < len(reason) < 250
    assert "log says why" not in reason
    for secret in ("/tmp", "/etc", "../", "Traceback", "object at", "torch", "safetensors_rust"):
        assert secret not in reason
    assert not re.search(r"\b[A-Z]\w*[a-z][A-Z]\w*|\b\w+(Error|Exception)\b", reason), reason


def check_cli_refuses(
    placed: Placed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int | None = None
) -> None:
    for name, value in COMPUTE_ENVIRONMENT.items():  # set, so that the program does not start anew
        monkeypatch.setenv(name, value)
    reference = f"letters:{placed.number}"
    monkeypatch.setattr(
        sys, "argv", ["graftwork", "models", "promote", reference, "--repository", str(placed.repository.root)]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == REFUSED
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert placed.repository.deployment("letters").aliases == {"champion": 1}


def test_a_version_that_is_what_it_says_is_promoted(server: ServerProcess, draft: Draft, other: Draft) -> None:
    """Else all below would prove nothing. (Nothing else may be served, so that it is promoted under another name.)"""
    for each in (draft, other):
        with Placed(server, each) as placed:
            path = "/v1/models/letters/labels/candidate"
            headers = {"Content-Type": "application/json"}
            reply = server.request("PUT", path, json.dumps({"version": placed.number}).encode(), headers)
            assert reply.status == 200, reply.body
            assert server.request("DELETE", path).status == 200


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file(
    server: ServerProcess,
    draft: Draft,
    file: str,
    damage: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Placed(server, draft, damage=lambda version, _: DAMAGES[damage](version / file)) as placed:
        placed.check_refused()
        check_cli_refuses(placed, monkeypatch, capsys)


@pytest.mark.parametrize("file", BACKBONE_FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_of_a_backbone(
    server: ServerProcess,
    other: Draft,
    file: str,
    damage: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Placed(server, other, damage=lambda _, backbone: DAMAGES[damage](backbone / file)) as placed:
        assert "backbone" in placed.check_refused()
        check_cli_refuses(placed, monkeypatch, capsys)


def link_folder(folder: Path) -> None:
    shutil.move(folder, folder.parents[1] / "elsewhere")
    folder.symlink_to(folder.parents[1] / "elsewhere")


STRUCTURE: Mapping[str, Callable[[Path, Path], object]] = {
    "a pickle": lambda version, _: (version / "code.pkl").write_bytes(b"cos\nsystem\n"),
    "code": lambda version, _: (version / "golden" / "code.py").write_bytes(b"raise SystemExit"),
    "a library": lambda version, _: (version / "library.so").write_bytes(b"\x7fELF"),
    "a file whose name has two lines": lambda version, _: (version / "a\nb").touch(),
    "a file whose name is no text": lambda version, _: Path(f"{version}/a\udcff\x1b[2J").touch(),
    "a file with a long name": lambda version, _: (version / ("x" * 255)).touch(),
    "a linked folder": lambda version, _: link_folder(version / "golden"),
    "a linked version": lambda version, _: link_folder(version),
    "a linked backbone": lambda _, backbone: link_folder(backbone),
    "a pickle in the backbone": lambda _, backbone: (backbone / "code.pkl").write_bytes(b"cos\nsystem\n"),
    "no backbone": lambda _, backbone: [shutil.rmtree(backbone), backbone.mkdir()],
}


@pytest.mark.parametrize("damage", STRUCTURE)
def test_files_that_do_not_belong(
    server: ServerProcess,
    other: Draft,
    damage: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Placed(server, other, damage=STRUCTURE[damage]) as placed:
        placed.check_refused()
        check_cli_refuses(placed, monkeypatch, capsys)


def fits_itself_only(draft: Draft) -> None:
    """Head and golden features of 8 numbers, on a backbone that gives 16."""
    draft.put_head(weight=torch.ones(4, 8), bias=torch.zeros(4))
    put_features(draft, torch.ones(2, 8))
    put_expected(draft, scores=[[0.25] * 4] * 2)
    draft.declare(backbone={"feature_dim": 8})


def put_features(draft: Draft, features: torch.Tensor) -> None:
    from safetensors.torch import save

    draft.put("golden/features.safetensors", save({"features": features}))


def put_expected(draft: Draft, **fields: object) -> None:
    document = json.loads((draft.directory / "golden/expected.json").read_bytes())
    draft.put("golden/expected.json", json.dumps({**document, **fields}).encode())


def another_head(draft: Draft) -> None:
    draft.put("head.safetensors", Head(weight_CD=torch.ones(4, 16), bias_C=torch.zeros(4)).to_bytes())


def named(name: str) -> Callable[[Draft], None]:
    return lambda draft: draft.declare(files={name: next(iter(draft.manifest["files"].values()))})


FORGERIES: Mapping[str, Callable[[Draft], object]] = {
    "more rows than labels": lambda d: d.put_head(weight=torch.ones(5, 16), bias=torch.zeros(5)),
    "fewer rows than labels": lambda d: d.put_head(weight=torch.ones(3, 16), bias=torch.zeros(3)),
    "wider than the features": lambda d: d.put_head(weight=torch.ones(4, 17)),
    "no features": lambda d: d.put_head(weight=torch.ones(4, 0)),
    "a weight that is not a number": lambda d: d.put_head(weight=torch.full((4, 16), torch.nan)),
    "an infinite bias": lambda d: d.put_head(bias=torch.full((4,), torch.inf)),
    "half precision": lambda d: d.put_head(weight=torch.ones(4, 16, dtype=torch.float16)),
    "double precision": lambda d: d.put_head(bias=torch.zeros(4, dtype=torch.float64)),
    "complex weights": lambda d: d.put_head(weight=torch.ones(4, 16, dtype=torch.complex64)),
    "a flat weight": lambda d: d.put_head(weight=torch.ones(64)),
    "a bias of another length": lambda d: d.put_head(bias=torch.zeros(3)),
    "an extra tensor": lambda d: d.put_head(**{"/etc/passwd\n": torch.zeros(3)}),
    "half of a hidden layer": lambda d: d.put_head(**{"hidden.weight": torch.zeros(16, 16)}),
    "a hidden layer that does not fit": lambda d: d.put_head(
        **{"hidden.weight": torch.zeros(8, 16), "hidden.bias": torch.zeros(8)}
    ),
    "another head": another_head,
    "fewer labels": lambda d: d.declare(labels=["a", "b", "c"]),
    "no labels": lambda d: d.declare(labels=[]),
    "other golden scores": lambda d: put_expected(d, scores=[[0.25] * 4] * 2),
    "golden scores of fewer classes": lambda d: put_expected(d, scores=[[0.5, 0.5]] * 2),
    "golden scores that are no numbers": lambda d: put_expected(d, scores=[["a"] * 4] * 2),
    "golden scores that are NaN": lambda d: put_expected(d, scores=[[float("nan")] * 4] * 2),
    "golden texts that are missing": lambda d: put_expected(d, texts=["one"]),
    "golden documents nested deeply": lambda d: d.put("golden/expected.json", b"[" * 200_000),
    "golden features of another width": lambda d: put_features(d, torch.ones(2, 8)),
    "golden features of one text more": lambda d: put_features(d, torch.ones(3, 16)),
    "golden features in double precision": lambda d: put_features(d, torch.ones(2, 16, dtype=torch.float64)),
    "infinite golden features": lambda d: put_features(d, torch.full((2, 16), torch.inf)),
    "a head that fits its golden features only": fits_itself_only,
    "a file above": named("../outside"),
    "a file of the system": named("/etc/passwd"),
    "a file above a folder": named("golden/../../../outside"),
    "a name of two lines": named("a\n/etc/passwd"),
    "another name": lambda d: d.declare(name="moods\n"),
    "another number": lambda d: d.declare(number=1_000),
    "an unknown task": lambda d: d.declare(task="/etc/passwd\n"),
    "another task": lambda d: d.declare(task="token_classification"),
    "another modality": lambda d: d.declare(modality="image"),
    "an unknown field": lambda d: d.declare(**{"/etc/passwd\n" + "x" * 1000: 1}),
    "an embedding with labels": lambda d: d.declare(task="embedding", schema_version=5),
    "an embedding in the schema of all others": lambda d: d.declare(task="embedding", labels=[]),
    "an embedding with golden scores": lambda d: d.declare(task="embedding", labels=[], schema_version=5),
    "a newer schema": lambda d: d.declare(schema_version=99),
    "a backbone that is not there": lambda d: d.declare(backbone={"digest": "0" * 64}),
    "a backbone above": lambda d: d.declare(backbone={"digest": "../letters/1"}),
    "a backbone of the system": lambda d: d.declare(backbone={"digest": "/etc\n"}),
    "features of another number": lambda d: d.declare(backbone={"feature_dim": 8}),
    "more tokens than there are positions": lambda d: d.declare(preprocessor={"max_tokens": 10**9}),
    "no tokens": lambda d: d.declare(preprocessor={"max_tokens": 0}),
    "pairs": lambda d: d.declare(preprocessor={"pair": "separate"}),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forgery_whose_sums_are_right(server: ServerProcess, draft: Draft, forgery: str) -> None:
    FORGERIES[forgery](draft)
    with Placed(server, draft) as placed:
        placed.check_refused()


@pytest.mark.parametrize("kind", TENSOR_FILES)
@pytest.mark.parametrize("file", ["head.safetensors", "golden/features.safetensors"])
def test_tensors_that_are_none_whose_sums_are_right(server: ServerProcess, draft: Draft, file: str, kind: str) -> None:
    draft.put(file, TENSOR_FILES[kind])
    with Placed(server, draft) as placed:
        placed.check_refused()


def other_architecture(draft: Draft) -> None:
    options = {"model_type": "distilbert", "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
    draft.change_backbone(architecture="distilbert", options=options)


def changed_options(**options: object) -> Callable[[Draft], None]:
    def change(draft: Draft) -> None:
        config = json.loads(draft.backbone.joinpath("config.json").read_bytes())
        draft.change_backbone(options={**config["options"], **options})

    return change


BACKBONE_FORGERIES: Mapping[str, Callable[[Draft], object]] = {
    "another architecture": other_architecture,
    "another library": lambda d: d.change_backbone(library="timm", architecture="resnet18"),
    "an unknown architecture": changed_options(model_type="../../etc"),
    "more layers": changed_options(num_hidden_layers=3),
    "other widths": changed_options(hidden_size=32),
    "features of another number": lambda d: d.change_backbone(feature_dim=8),
    "images": lambda d: d.change_backbone(modality="image"),
    "an unknown field": lambda d: d.change_backbone(auto_map={"AutoModel": "code.Model"}),
    "code that came along": lambda d: d.put_backbone("code.py", b"raise SystemExit"),
    "a pickle beside the weights": lambda d: d.put_backbone("pytorch_model.bin", b"\x80\x04."),
    "weights that are not numbers": lambda d: d.put_weights(
        **{"embeddings.LayerNorm.weight": torch.full((16,), torch.nan)}
    ),
    "an extra tensor": lambda d: d.put_weights(more=torch.zeros(3)),
    "a tensor of another shape": lambda d: d.put_weights(**{"embeddings.LayerNorm.weight": torch.ones(17)}),
    "a tokenizer that is none": lambda d: d.put_backbone("tokenizer.json", b'{"model": "/etc/passwd"}'),
    "another backbone": lambda d: d.put_weights(**{"embeddings.LayerNorm.weight": torch.linspace(-1, 1, 16)}),
}


@pytest.mark.parametrize("forgery", BACKBONE_FORGERIES)
def test_a_forged_backbone_whose_digest_is_right(server: ServerProcess, other: Draft, forgery: str) -> None:
    BACKBONE_FORGERIES[forgery](other)
    with Placed(server, other) as placed:
        placed.check_refused()


@pytest.mark.parametrize("kind", TENSOR_FILES)
def test_weights_that_are_none_whose_digest_is_right(server: ServerProcess, other: Draft, kind: str) -> None:
    other.put_backbone("model.safetensors", TENSOR_FILES[kind])
    with Placed(server, other) as placed:
        placed.check_refused()
