"""Which version answers for a backbone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from models.errors import ModelNotFound, NotReady
from models.manifest import Training
from models.task import Task
from models.version import ModelVersion
from service.api.backbones import Backbones
from service.api.catalog_model import CatalogVersion
from service.api.model_ids import ModelIds
from service.messages import Serving
from tests.service.api.catalog_stage import Stage, play
from tests.service.api.shelf import Shelf


@pytest.fixture
def manifests(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """What manifests of models say otherwise: by name, ``source``, ``task`` or ``strategy``."""
    told: dict[str, dict[str, Any]] = {}
    plain = Shelf.read

    def read(shelf: Shelf, name: str, number: int) -> ModelVersion:
        version = plain(shelf, name, number)
        manifest, wanted = version.manifest, told.get(name, {})
        source = wanted.get("source", "hf:sentence-transformers/all-MiniLM-L6-v2")
        training = Training(
            strategy=wanted.get("strategy", "probe"),
            seed=0,
            validated_on="cross-validation",
            validation_metric="accuracy",
            validation_score=1.0,
            validation_loss=0.0,
        )
        heads = {
            precision: head.model_copy(update={"training": training}) for precision, head in manifest.heads.items()
        }
        backbone = manifest.backbone.model_copy(update={"source": source})
        changed = {"backbone": backbone, "heads": heads, "task": wanted.get("task", manifest.task)}
        return replace(version, manifest=manifest.model_copy(update=changed))

    monkeypatch.setattr(Shelf, "read", read)
    return told


def answering(backbones: Backbones) -> dict[str, str]:
    return {name: str(entry) for name, entry in backbones.names().items()}


def test_a_backbone_is_loaded_with_the_first_version_on_it(manifests: dict[str, dict[str, Any]]) -> None:
    manifests["pictures"] = {"source": "timm:tf_efficientnet_lite0"}

    async def story(stage: Stage) -> None:
        backbones = Backbones(stage.catalog)
        await stage.refresh()
        assert answering(backbones) == {}
        stage.shelf.publish("intents", 1)
        await stage.refresh()
        assert answering(backbones) == {}  # it is being loaded
        await stage.finish("intents", 1)
        await stage.publish("pictures", 1)
        assert answering(backbones) == {"all-MiniLM-L6-v2": "intents:1", "tf_efficientnet_lite0": "pictures:1"}

    play(story)


def test_the_same_version_answers_as_long_as_it_is_served(manifests: dict[str, dict[str, Any]]) -> None:
    async def story(stage: Stage) -> None:
        backbones = Backbones(stage.catalog)
        await stage.publish("b", 1)
        assert answering(backbones) == {"all-MiniLM-L6-v2": "b:1"}
        await stage.publish("a", 1)
        assert answering(backbones) == {"all-MiniLM-L6-v2": "b:1"}
        assert answering(Backbones(stage.catalog)) == {"all-MiniLM-L6-v2": "a:1"}
        stage.shelf.delete("b", 1)
        await stage.refresh()
        assert answering(backbones) == {"all-MiniLM-L6-v2": "a:1"}
        found = backbones.find("all-MiniLM-L6-v2")
        assert str(found) == "a:1"
        stage.shelf.delete("a", 1)
        stage.shelf.publish("c", 1)
        await stage.refresh()
        assert backbones.find("all-MiniLM-L6-v2") is None

    play(story)


def test_one_that_is_computed_in_integers_is_taken_first(manifests: dict[str, dict[str, Any]]) -> None:
    async def story(stage: Stage) -> None:
        for name in ("a", "b"):
            await stage.publish(name, 1)
        stage.catalog.models["b"].versions[1].serving = Serving(engine="e", precision="int8", reason="")
        assert answering(Backbones(stage.catalog)) == {"all-MiniLM-L6-v2": "b:1"}

    play(story)


@pytest.mark.parametrize("wanted", [{"strategy": "full"}, {"strategy": "lora"}, {"task": Task.TOKEN_CLASSIFICATION}])
def test_what_has_other_features_does_not_answer_for_it(
    manifests: dict[str, dict[str, Any]], wanted: dict[str, Any]
) -> None:
    manifests["tuned"] = wanted

    async def story(stage: Stage) -> None:
        await stage.publish("tuned", 1)
        assert answering(Backbones(stage.catalog)) == {}

    play(story)


def test_ids_are_models_versions_aliases_and_backbones(manifests: dict[str, dict[str, Any]]) -> None:
    manifests["other"] = {"source": "dir:/secret/place/mine"}

    async def story(stage: Stage) -> None:
        ids = ModelIds(stage.catalog, Backbones(stage.catalog))
        with pytest.raises(NotReady):
            ids.find("intents")
        await stage.publish("intents", 1)
        await stage.publish("other", 1)
        await stage.promote("intents", "champion", 1)

        def whom(text: str) -> tuple[str, str | None]:
            found = ids.find(text)
            return str(found.reference), found.backbone

        assert whom("intents") == ("intents", None)
        assert whom("intents:1") == ("intents:1", None)
        assert whom("intents@champion") == ("intents@champion", None)
        assert whom("all-MiniLM-L6-v2") == ("intents:1", "all-MiniLM-L6-v2")
        on_the_hub = "sentence-transformers/all-MiniLM-L6-v2"
        assert whom(on_the_hub) == ("intents:1", on_the_hub)
        assert whom("mine") == ("other:1", "mine")
        for unknown in (
            "intent",
            "org/all-MiniLM-L6-v2",
            "place/mine",
            "",
            "a" * 1000,
            "all-MiniLM-L6-v2:1",
            "hf:mine",
        ):
            with pytest.raises(ModelNotFound):
                ids.find(unknown)
        with pytest.raises(ModelNotFound, match="did you mean 'all-MiniLM-L6-v2'"):
            ids.find("all-MiniLM-L6")

    play(story)


def test_a_model_comes_before_a_backbone_of_its_name(manifests: dict[str, dict[str, Any]]) -> None:
    async def story(stage: Stage) -> None:
        await stage.publish("intents", 1)
        await stage.publish("all-MiniLM-L6-v2", 1)
        found = ModelIds(stage.catalog, Backbones(stage.catalog)).find("all-MiniLM-L6-v2")
        assert (str(found.reference), found.backbone) == ("all-MiniLM-L6-v2", None)

    play(story)


def test_a_thousand_models_are_looked_at_once_and_not_for_each_request(
    manifests: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(stage: Stage) -> None:
        await stage.publish("intents", 1)
        backbones, looks = Backbones(stage.catalog), 0
        look = backbones._looked_up

        def counted() -> dict[str, CatalogVersion]:
            nonlocal looks
            looks += 1
            return look()

        monkeypatch.setattr(backbones, "_looked_up", counted)
        for name in ("all-MiniLM-L6-v2", "nobody") * 5:
            backbones.find(name)
        assert looks == 1

    play(story)


def test_backbones_whose_last_names_are_alike_have_their_whole_names(manifests: dict[str, dict[str, Any]]) -> None:
    sources = {
        "a": "hf:BAAI/small",
        "b": "hf:intfloat/small",
        "c": "dir:/one/final",
        "d": "dir:/two/final",
        "e": "hf:lone",
    }
    for name, source in sources.items():
        manifests[name] = {"source": source}

    async def story(stage: Stage) -> None:
        for name in sources:
            stage.shelf.backbone_of[name, 1] = f"{name * 8}0123"
            await stage.publish(name, 1)
        backbones = Backbones(stage.catalog)
        assert answering(backbones) == {
            "BAAI/small": "a:1",
            "final-cccccccc": "c:1",
            "final-dddddddd": "d:1",
            "intfloat/small": "b:1",
            "lone": "e:1",
        }
        for name, version in answering(backbones).items():
            assert str(backbones.find(name)) == version
        for unclear in ("small", "final"):
            assert backbones.find(unclear) is None

    play(story)
