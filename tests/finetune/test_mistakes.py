from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from finetune.example import Example, Label, image_example, text_example
from finetune.mistakes import Mistakes, find_mistakes
from finetune.predictions import Predictions
from models.preprocessor import TextItem
from models.task import Task
from tests.finetune.markdown import HOSTILE, html_of
from tests.finetune.pictures import pixels
from tests.tiny_models import picture


def texts(*labelled: tuple[TextItem, Label]) -> list[Example]:
    return [
        text_example(text, label=label, source=f"test.csv:{line}") for line, (text, label) in enumerate(labelled, 2)
    ]


def single(
    examples: list[Example], scores_NC: list[list[float]], classes: tuple[str, ...] = ("ham", "spam")
) -> Mistakes:
    scores = [np.array(scores_C) for scores_C in scores_NC]
    return find_mistakes(examples, Predictions(task=Task.SINGLE_LABEL, classes=classes, scores=scores))


def shown(mistakes: Mistakes) -> list[tuple[str, str, str, str, float]]:
    return [(each.example.source, each.about, each.true, each.predicted, each.size) for each in mistakes.largest]


def test_the_surest_wrong_class_comes_first_and_right_ones_are_left_out() -> None:
    examples = texts(("win money", "ham"), ("see you", "ham"), ("hello", "spam"), ("lunch?", "ham"))
    mistakes = single(examples, [[0.01, 0.99], [0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    assert (mistakes.rows, mistakes.wrong) == (4, 3)
    assert shown(mistakes) == [
        ("test.csv:2", "", "ham", "spam", 0.99),
        ("test.csv:5", "", "ham", "spam", 0.8),
        ("test.csv:4", "", "spam", "ham", 0.6),
    ]
    text, *_ = mistakes.markdown()
    assert "3 of 4 test rows are not answered as they are labelled" in text
    assert "the label may be the mistake" in text


def test_a_label_too_many_or_too_few_is_a_mistake_and_each_example_has_one() -> None:
    examples = texts(("the war of art", ("art", "war")), ("a meal", ()), ("a match", ("sport",)))
    scores_NC = [[0.9, 0.1, 0.0, 0.02], [0.0, 0.95, 0.6, 0.0], [0.1, 0.1, 0.7, 0.1]]
    predictions = Predictions(
        task=Task.MULTI_LABEL,
        classes=("art", "food", "sport", "war"),
        scores=[np.array(scores_C) for scores_C in scores_NC],
        threshold=0.5,
    )
    mistakes = find_mistakes(examples, predictions)
    assert mistakes.wrong == 2
    assert shown(mistakes) == [
        ("test.csv:2", "war", "yes", "no", 0.98),
        ("test.csv:3", "food", "no", "yes", 0.95),
    ]
    assert "| test.csv:3 | a meal | food | no | yes | 0.950 |" in mistakes.markdown()[1]


def test_of_values_the_largest_differences_count() -> None:
    examples = texts((("a", "b"), 1.0), (("c", "d"), 4.5), (("e", "f"), 3.0), (("g", "h"), 250_000.0))
    scores = [np.array([value]) for value in (1.54321, 0.5, 3.0, 123_456.7)]
    predictions = Predictions(task=Task.REGRESSION, classes=("likeness",), scores=scores)
    mistakes = find_mistakes(examples, predictions)
    assert mistakes.wrong is None
    assert [each.example.source for each in mistakes.largest] == ["test.csv:5", "test.csv:3", "test.csv:2"]
    assert mistakes.largest[1].size == 4.0
    head, rows = mistakes.markdown()
    assert head.startswith("The 3 test rows whose values are furthest")
    assert rows.splitlines()[2:] == [
        "| test.csv:5 | g / h | 250,000 | 123,457 | 126,543 |",
        "| test.csv:3 | c / d | 4.5 | 0.5 | 4 |",
        "| test.csv:2 | a / b | 1 | 1.543 | 0.5432 |",
    ]


def test_of_words_the_surest_wrong_tag_counts_and_its_neighbours_are_shown() -> None:
    words = [f"w{number}" for number in range(30)]
    tags = ["O"] * 30
    tags[20] = "B-name"
    scores_WC = np.tile([0.9, 0.1], (25, 1))  # the last five words are not read
    scores_WC[3] = [0.3, 0.7]
    scores_WC[5] = np.nan  # nor is this one
    examples = texts((" ".join(words), tuple(tags)), ("all is well", ("O", "O", "O")))
    predictions = Predictions(
        task=Task.TOKEN_CLASSIFICATION, classes=("O", "B-name"), scores=[scores_WC, np.tile([0.9, 0.1], (3, 1))]
    )
    mistakes = find_mistakes(examples, predictions)
    assert shown(mistakes) == [("test.csv:2", "w20", "B-name", "O", 0.9)]
    assert mistakes.largest[0].text == f"… {' '.join(words[12:29])} …"


def test_words_that_are_not_read_are_no_mistakes() -> None:
    examples = texts(("a b", ("O", "B-name")))
    predictions = Predictions(task=Task.TOKEN_CLASSIFICATION, classes=("O", "B-name"), scores=[np.array([[0.9, 0.1]])])
    assert predictions.answers != [examples[0].label]
    assert find_mistakes(examples, predictions).largest == []


def test_copies_are_shown_once_and_no_more_than_asked_for() -> None:
    examples = texts(*[("the same", "ham")] * 3, *[(f"text {index}", "ham") for index in range(20)])
    mistakes = single(examples, [[0.1, 0.9]] * 3 + [[0.2, 0.8]] * 20)
    assert mistakes.wrong == 23
    assert len(mistakes.largest) == 12
    assert [each.text for each in mistakes.largest][:2] == ["the same", "text 0"]


def test_any_text_and_label_keeps_the_table_whole() -> None:
    mistakes = single(texts((HOSTILE * 9, HOSTILE), ("b | c", "ham")), [[0.1, 0.9], [0.2, 0.8]], ("ham", "a|b"))
    html = html_of(mistakes.markdown()[1])
    assert (html.count("<tr>"), html.count("<td>")) == (3, 10)
    assert "<script" not in html
    assert json.loads(mistakes.files()["report/mistakes.json"])["largest"][1]["text"] == "b | c"
    assert list(mistakes.files()) == ["report/mistakes.json"]


def test_without_mistakes_it_says_so() -> None:
    mistakes = single(texts(("see you", "ham")), [[0.9, 0.1]])
    assert mistakes.markdown() == ["All 1 test rows are answered as they are labelled."]
    assert set(mistakes.files()) == {"report/mistakes.json"}


@pytest.fixture
def photos(tmp_path: Path) -> list[Example]:
    found = []
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
        found.append(
            image_example(tmp_path, Path(f"{number}.png"), label="猫" if number else "$x^", file=f"{number}.png")
        )
    return found


def test_images_are_shown_as_thumbnails(photos: list[Example]) -> None:
    mistakes = single(photos, [[0.1, 0.9]] * 6)
    files = mistakes.files()
    height, width, _ = pixels(files["report/mistakes.png"]).shape
    assert 400 < width < 1200
    assert 400 < height < 900
    assert mistakes.files() == files
    _, rows, image = mistakes.markdown()
    assert image.endswith("(report/mistakes.png)")
    assert "| 0.png | \\$x^ | spam | 0.900 |" in rows
    assert "text" not in rows.splitlines()[0]


def test_an_image_that_is_gone_leaves_an_empty_frame(photos: list[Example]) -> None:
    whole = single(photos[:1], [[0.1, 0.9]]).files()["report/mistakes.png"]
    assert photos[0].path is not None
    photos[0].path.unlink()
    empty = single(photos[:1], [[0.1, 0.9]]).files()["report/mistakes.png"]
    assert hashlib.sha256(whole).digest() != hashlib.sha256(empty).digest()
    assert pixels(empty).std() < pixels(whole).std()
