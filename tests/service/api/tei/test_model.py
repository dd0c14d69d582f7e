from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from models.backbone import Modality
from models.errors import ModelNotFound, NotReady, UnsuitableModel
from models.task import Task
from models.version import Reference
from service.api.model_ids import Addressee
from service.api.tei.model import ModelKind, TeiModel, model_kind
from tests.service.api.tei.scripted_question import manifest
from tests.tiny_models import text_manifest


def entry(name: str, modality: Modality = Modality.TEXT) -> Any:
    return SimpleNamespace(name=name, number=2, version=SimpleNamespace(manifest=text_manifest(name, 2, modality)))


def tei_model(named: str | None = None, *, loaded: Any = None, reason: str | None = None) -> TeiModel:
    """With these backbones and nothing else."""

    def find(text: str) -> Addressee:
        if text != "letters":
            raise ModelNotFound(f"there is no model '{text}'")
        return Addressee(reference=Reference(name="letters"))

    backbones = SimpleNamespace(names=lambda: loaded or {})
    catalog = SimpleNamespace(not_ready_reason=lambda: reason)
    return TeiModel(named, cast("Any", SimpleNamespace(find=find)), cast("Any", backbones), cast("Any", catalog))


def test_the_one_that_was_named_is_asked_whatever_is_loaded() -> None:
    assert tei_model("letters", loaded={"bert": entry("moods")}).find().reference == Reference(name="letters")


def test_without_a_name_it_is_the_one_language_backbone() -> None:
    loaded = {"bert": entry("moods"), "resnet": entry("colours", Modality.IMAGE)}
    assert tei_model(loaded=loaded).find() == Addressee(reference=Reference(name="moods", number=2), backbone="bert")


def test_of_several_one_has_to_be_named() -> None:
    loaded = {"bert": entry("moods"), "gpt": entry("letters")}
    with pytest.raises(UnsuitableModel, match=r"\(bert, gpt\).*--tei-model"):
        tei_model(loaded=loaded).find()


@pytest.mark.parametrize("loaded", [{}, {"resnet": entry("colours", Modality.IMAGE)}])
@pytest.mark.parametrize("reason", [None, "models are being loaded"])
def test_there_may_be_none_yet(loaded: Any, reason: str | None) -> None:
    with pytest.raises(NotReady, match=f"{reason or 'no language backbone'}.*--tei-model"):
        tei_model(loaded=loaded, reason=reason).find()


def test_a_name_that_nobody_has_is_said_once_all_is_loaded() -> None:
    with pytest.raises(NotReady, match="being loaded"):
        tei_model("bert", reason="models are being loaded").find()
    with pytest.raises(UnsuitableModel, match="'bert'; it is what --tei-model names"):
        tei_model("bert").find()


@pytest.mark.parametrize(
    ("task", "pair", "kind"),
    [
        (Task.EMBEDDING, None, ModelKind.EMBEDDING),
        (Task.SINGLE_LABEL, None, ModelKind.CLASSIFIER),
        (Task.MULTI_LABEL, None, ModelKind.CLASSIFIER),
        (Task.SINGLE_LABEL, "joint", ModelKind.CLASSIFIER),
        (Task.REGRESSION, None, ModelKind.CLASSIFIER),
        (Task.REGRESSION, "joint", ModelKind.RERANKER),
        (Task.REGRESSION, "separate", ModelKind.RERANKER),
    ],
)
def test_a_models_kind_is_by_its_task(task: Task, pair: Any, kind: ModelKind) -> None:
    assert model_kind(manifest(task, pair=pair), None) is kind
    assert model_kind(manifest(task, pair=pair), "bert") is ModelKind.EMBEDDING


@pytest.mark.parametrize("of", [manifest(Task.TOKEN_CLASSIFICATION), text_manifest("photos", 1, Modality.IMAGE)])
def test_what_labels_words_or_reads_images_has_none(of: Any) -> None:
    with pytest.raises(UnsuitableModel, match="--tei-model"):
        model_kind(of, None)


def test_the_one_that_there_was_stays_the_one_whatever_is_loaded_later() -> None:
    loaded = {"gpt": entry("letters")}
    model = tei_model(loaded=loaded)
    assert model.find().backbone == "gpt"
    loaded["bert"] = entry("moods")
    assert model.find().backbone == "gpt"
    del loaded["gpt"]
    assert model.find().backbone == "bert"
