from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
import torch

from models.backbone import Modality
from models.batch import ImageRow, TextRow
from models.errors import EmptyText, ImageUndecodable, InvalidUtf8
from models.head import Head
from models.manifest import Calibration
from models.preprocessor import PairReading
from models.repository import ModelRepository
from service.messages import Embedding, Wish, pack_pair
from service.worker.loaded_version import LoadedVersion
from service.worker.pending import PendingRequest, PendingRow
from service.worker.registry import Registry
from tests.service.echo_engine import NOT_FINITE, SCALE, EchoEngine, decoded, echo_version
from tests.tiny_models import LETTERS, TorchEngines, picture, publish_texts, text_manifest


def waiting(
    version: LoadedVersion,
    *items: bytes,
    top_k: int | None = None,
    truncate: bool = False,
    wish: Wish | None = None,
) -> list[PendingRow]:
    """The rows of a request, ready for the device."""
    request = PendingRequest(
        id=0,
        version=version,
        key=("echo", 1),
        deadline=math.inf,
        wish=wish or Wish(top_k=top_k, truncate=truncate),
        isolated=False,
        results=[None] * len(items),
        missing=len(items),
    )
    prepared = [version.prepare(item, request.wish.form, truncate=truncate) for item in items]
    return [PendingRow(request=request, index=index, **each._asdict()) for index, each in enumerate(prepared)]


@pytest.fixture(scope="module")
def registry(models_on_disk: Path) -> Registry:
    made = Registry(ModelRepository(models_on_disk), TorchEngines())
    for name in ("letters", "moods", "colours"):
        made.load(name, 1)
    return made


def test_a_text_becomes_a_row(registry: Registry) -> None:
    row = registry.get("letters", 1).prepare(b"abc", truncate=False).row
    assert isinstance(row, TextRow)
    assert len(row.ids) == 5  # each letter, between the two special tokens
    assert not row.truncated


def test_an_image_becomes_a_row(registry: Registry) -> None:
    row = registry.get("colours", 1).prepare(picture(1), truncate=False).row
    assert isinstance(row, ImageRow)
    assert row.pixels_CHW.shape == (3, 64, 64)


def test_what_cannot_be_read_is_refused_row_by_row(registry: Registry) -> None:
    for name, item, error in [
        ("letters", b"", EmptyText),
        ("letters", b"\xff\xfe", InvalidUtf8),
        ("colours", b"no image", ImageUndecodable),
    ]:
        with pytest.raises(error):
            registry.get(name, 1).prepare(item, truncate=False)


def test_rows_of_two_models_on_one_backbone_are_one_group(registry: Registry) -> None:
    groups = {
        (name, text): registry.get(name, 1).prepare(text, truncate=False).group
        for name in ("letters", "moods")
        for text in (b"abc", b"xyz", b"abc " * 12)
    }
    assert len(set(groups.values())) == 1  # texts of all lengths
    assert registry.get("colours", 1).prepare(picture(1), truncate=False).group not in groups.values()


@pytest.mark.parametrize("name", ["letters", "colours"])
def test_a_batch_gives_what_the_predictor_gives(registry: Registry, name: str) -> None:
    version = registry.get(name, 1)
    items: Sequence[bytes] = [b"abc", b"xyz", b"12.", b"abd"]
    if name == "colours":
        items = [picture(number) for number in range(4)]
    wanted = version.predictor.predict([item if name == "colours" else item.decode() for item in items])
    labels = version.predictor.labels
    for prediction, scores_C in zip(version.compute(waiting(version, *items)), wanted, strict=True):
        scores = prediction["scores"]
        assert isinstance(scores, dict)
        assert [scores[label] for label in labels] == pytest.approx(scores_C.tolist(), abs=1e-5)
        assert list(scores.values()) == sorted(scores.values(), reverse=True)
        assert prediction["label"] == next(iter(scores)) == labels[int(scores_C.argmax())]
        assert prediction["score"] == scores[prediction["label"]]


def test_one_pass_serves_the_heads_of_two_versions(registry: Registry) -> None:
    letters, moods = registry.get("letters", 1), registry.get("moods", 1)
    mixed = [*waiting(letters, b"abc"), *waiting(moods, b"abc"), *waiting(letters, b"xyz")]
    alone = [
        version.compute(waiting(version, item))[0]
        for version, item in [(letters, b"abc"), (moods, b"abc"), (letters, b"xyz")]
    ]
    for version in (letters, moods):  # whichever of them is asked
        for found, wanted in zip(version.compute(mixed), alone, strict=True):
            assert found["scores"] == pytest.approx(wanted["scores"], abs=1e-6)


def test_echo_answers_go_through_the_head_of_their_own_version() -> None:
    engine = EchoEngine()
    plain, other = echo_version(engine), echo_version(engine, weight=-2.0)
    found = plain.compute([*waiting(plain, b"1", b"2"), *waiting(other, b"3")])
    assert decoded(found[:2], 1.0) == [1, 2]
    assert decoded(found[2:], -2.0) == [3]
    assert engine.batches == [[1, 2, 3]]


def test_many_heads_of_any_size_share_one_pass() -> None:
    """Each row's scores are those of its own head, by its own temperature, with its own labels, as many as it asked for."""
    engine = EchoEngine()
    versions = []
    for classes in (1, 2, 3, 40, 200):
        weight_CD = torch.zeros(classes, 2)
        weight_CD[:, 0] = torch.linspace(-1.0, 1.0, classes) * classes
        predictor = replace(
            echo_version(engine).predictor,
            head=Head(weight_CD=weight_CD, bias_C=torch.zeros(classes)),
            labels=[f"{index} of {classes}" for index in range(classes)],
            calibration=Calibration(temperature=classes / 10),
        )
        versions.append(replace(echo_version(engine), predictor=predictor))
    rows = []
    for number in range(60):
        rows += waiting(versions[number % 5], b"%d" % (number + 1), top_k=(None, 1, 7)[number % 3])
    for number, prediction in enumerate(versions[0].compute(rows)):
        predictor = versions[number % 5].predictor
        logits_C = predictor.head.weight_CD[:, 0].double() * (number + 1) / SCALE / predictor.calibration.temperature
        wanted = sorted(zip(logits_C.softmax(0).tolist(), predictor.labels, strict=True), reverse=True)
        scores = prediction["scores"]
        assert isinstance(scores, dict)
        assert list(scores) == [label for _, label in wanted][: (None, 1, 7)[number % 3]]
        assert list(scores.values()) == pytest.approx([score for score, _ in wanted][: len(scores)], abs=1e-6)
        assert (prediction["label"], prediction["score"]) == next(iter(scores.items()))
    assert len(engine.batches) == 1


def test_of_equal_scores_the_first_label_comes_first() -> None:
    version = echo_version(EchoEngine())
    for top_k, labels in [(None, ["yes", "no"]), (1, ["yes"])]:
        (prediction,) = version.compute(waiting(version, b"0", top_k=top_k))
        assert prediction["scores"] == dict.fromkeys(labels, 0.5)
        assert list(prediction["scores"]) == labels  # type: ignore[call-overload]


@pytest.mark.parametrize(("top_k", "labels"), [(1, ["yes"]), (2, ["yes", "no"]), (9, ["yes", "no"])])
def test_top_k_lists_the_best_only(top_k: int, labels: list[str]) -> None:
    version = echo_version(EchoEngine())
    (prediction,) = version.compute(waiting(version, b"500", top_k=top_k))
    assert list(prediction["scores"]) == labels  # type: ignore[call-overload]


def test_the_temperature_of_the_version_is_applied() -> None:
    version = echo_version(EchoEngine())
    cool = replace(version, predictor=replace(version.predictor, calibration=Calibration(temperature=2.0)))
    (prediction,) = version.compute(waiting(cool, b"500"))
    assert prediction["score"] == pytest.approx(1 / (1 + math.exp(-500 / SCALE / 2)))


def test_an_answer_says_that_its_text_was_cut(registry: Registry) -> None:
    version = registry.get("letters", 1)
    long, short = waiting(version, b"ab " * 100, b"ab", truncate=True)
    assert version.compute([long])[0].get("truncated") is True
    assert "truncated" not in version.compute([short])[0]


def test_a_feature_that_is_not_finite_is_an_error_and_no_answer() -> None:
    version = echo_version(EchoEngine())
    with pytest.raises(FloatingPointError):
        version.compute(waiting(version, b"1", b"%d" % NOT_FINITE))
    assert decoded(version.compute(waiting(version, b"1")), 1.0) == [1]


def test_an_image_model_gets_bytes_and_a_text_model_text() -> None:
    class Preprocessor:
        def prepare(self, item: object, *, truncate: bool = False) -> TextRow:
            seen.append(item)
            return TextRow(ids=[1], segments=[0])

        def collate(self, rows: object) -> None:
            raise AssertionError

    seen: list[object] = []
    version = echo_version(EchoEngine())
    predictor = replace(version.predictor, preprocessor=Preprocessor())  # type: ignore[arg-type]
    for modality in Modality:
        manifest = text_manifest("echo", 1, modality)
        replace(version, manifest=manifest, predictor=predictor).prepare(b"abc", truncate=False)
    assert seen == [b"abc" if modality is Modality.IMAGE else "abc" for modality in Modality]


# Tasks


@pytest.fixture(scope="module")
def tasks(tasks_on_disk: Path) -> Registry:
    made = Registry(ModelRepository(tasks_on_disk), TorchEngines())
    for name in ("letters", "topics", "prices", "names", "follows", "likeness", "vectors"):
        made.load(name, 1)
    return made


def test_single_texts_and_pairs_of_many_tasks_share_one_pass(tasks: Registry) -> None:
    asked = [
        ("letters", b"abc"),
        ("likeness", pack_pair(b"abc", b"de f")),
        ("topics", b"abc"),
        ("follows", pack_pair(b"abc", b"de f")),
        ("prices", b"xyz 12"),
        ("likeness", pack_pair(b"x", b"y")),
    ]
    rows = [row for name, item in asked for row in waiting(tasks.get(name, 1), item)]
    assert len({row.group for row in rows}) == 1
    together = tasks.get("letters", 1).compute(rows)
    for row, found in zip(rows, together, strict=True):
        (alone,) = row.request.version.compute([row])
        assert found.keys() == alone.keys()
        for key in ("score", "value", "interval", "scores"):
            assert found.get(key) == pytest.approx(alone.get(key), abs=1e-5)


def test_what_has_no_head_shares_the_pass_of_what_has_one(tasks: Registry) -> None:
    vectors, letters = tasks.get("vectors", 1), tasks.get("letters", 1)
    wanted = vectors.predictor.features(["abc", "de f"]).tolist()
    mixed = [*waiting(vectors, b"abc"), *waiting(letters, b"abc"), *waiting(vectors, b"de f", top_k=1)]
    (label,) = letters.compute(waiting(letters, b"abc"))
    for version in (vectors, letters):  # whichever of them is asked
        first, second, third = version.compute(mixed)
        assert second["scores"] == pytest.approx(label["scores"], abs=1e-6)
        for found, features_D in zip((first, third), wanted, strict=True):
            assert orjson.loads(orjson.dumps(found)) == {"embedding": pytest.approx(features_D, abs=1e-5)}


def test_the_embedding_of_what_has_no_head_is_that_of_any_version_on_its_backbone(tasks: Registry) -> None:
    for wish in (Embedding(), Embedding(normalize=False, dimensions=4)):
        found = []
        for name in ("vectors", "letters"):
            (row,) = waiting(tasks.get(name, 1), b"abc")
            row.request.wish = Wish(embedding=wish)
            found += row.request.version.compute([row])
        assert found[0] == found[1]


def test_rows_of_tokens_have_batches_of_their_own(tasks: Registry) -> None:
    assert waiting(tasks.get("names", 1), b"abc")[0].group != waiting(tasks.get("letters", 1), b"abc")[0].group


def test_two_texts_that_are_read_one_by_one_are_two_rows(tasks: Registry) -> None:
    prepared = {
        name: tasks.get(name, 1).prepare(pack_pair(b"a", b"b c d"), truncate=False) for name in ("follows", "likeness")
    }
    assert (prepared["follows"].rows, prepared["follows"].length) == (1, 7)
    assert (prepared["likeness"].rows, prepared["likeness"].length) == (2, 5)


def test_a_text_that_has_no_word_with_a_token_has_no_entities(tasks: Registry) -> None:
    version = tasks.get("names", 1)
    mixed = waiting(version, b"\x01", b"ab cd ef", b"\x02 \x03")
    found = version.compute(mixed)
    assert [each["entities"] for each in found[::2]] == [[], []]
    assert version.compute([mixed[0]]) == [{"entities": []}]
    assert found[1] == version.compute([mixed[1]])[0]


def test_a_cut_pair_says_so(tasks: Registry) -> None:
    for name in ("follows", "likeness"):
        version = tasks.get(name, 1)
        pairs = [pack_pair(b"ab " * 100, b"c"), pack_pair(b"c", b"ab " * 100), pack_pair(b"a", b"b")]
        found = version.compute(waiting(version, *pairs, truncate=True))
        assert [each.get("truncated") for each in found] == [True, True, None]


@pytest.mark.parametrize("name", ["follows", "likeness"])
def test_bytes_of_a_pair_that_are_no_text_are_refused(tasks: Registry, name: str) -> None:
    for pair in (pack_pair(b"\xff", b"a"), pack_pair(b"a", b"\xff")):
        with pytest.raises(InvalidUtf8):
            tasks.get(name, 1).prepare(pair, truncate=False)


def test_embeddings_share_a_pass_with_predictions_and_leave_out_the_head() -> None:
    engine = EchoEngine()
    version = echo_version(engine)
    rows = [*waiting(version, b"1"), *waiting(version, b"2", b"3", wish=Wish(form="text", embedding=Embedding()))]
    rows += waiting(
        version, array("i", [4, 0]).tobytes(), wish=Wish(form="tokens", embedding=Embedding(normalize=False))
    )
    prediction, *found = version.compute(rows)
    assert isinstance(prediction, dict)
    assert decoded([prediction], 1.0) == [1]
    assert engine.batches == [[1, 2, 3, 4]]
    vectors = [np.frombuffer(row[0], "<f4") for row in found if not isinstance(row, dict)]
    ratios = [round(float(first / second) * SCALE, 1) for first, second in vectors]
    assert ratios == [2, 3, 4]
    assert vectors[2].tolist() == pytest.approx([4 / SCALE, 1])
    assert np.linalg.norm(vectors[0]) == pytest.approx(1)
    assert [row.tokens for row in rows] == [1, 1, 1, 2]


@pytest.mark.parametrize("pair", ["joint", "separate"])
def test_a_model_of_pairs_has_embeddings_of_single_texts(
    tmp_path: Path, tiny_text: str, registry: Registry, pair: PairReading
) -> None:
    repository = ModelRepository(tmp_path)
    publish_texts(repository, tiny_text, "pairs", LETTERS, seed=1, pair=pair)
    version = Registry(repository, TorchEngines()).load("pairs", 1)
    rows = waiting(version, b"where is my card?", wish=Wish(form="text", embedding=Embedding(normalize=False)))
    ((raw,),) = version.compute(rows)
    expected = registry.get("letters", 1).predictor.features(["where is my card?"])
    assert np.frombuffer(raw, "<f4") == pytest.approx(expected[0].numpy(), abs=1e-6)
