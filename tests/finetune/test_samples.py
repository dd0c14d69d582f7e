from __future__ import annotations

import csv
import io
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from finetune import samples
from finetune.samples import SAMPLES, write_sample
from models.backbone import Modality
from models.errors import Conflict, DatasetInvalid, InvalidParameter, NotFound


def contents(directory: Path) -> dict[str, bytes]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_the_same_every_time(name: str, tmp_path: Path) -> None:
    write_sample(name, tmp_path / "first")
    write_sample(name, tmp_path / "deep" / "again")
    assert contents(tmp_path / "first") == contents(tmp_path / "deep" / "again") != {}


def test_digits_are_ten_folders_of_handwriting(tmp_path: Path) -> None:
    assert write_sample("digits", tmp_path) == tmp_path
    files = sorted(tmp_path.rglob("*.png"))
    assert len(files) == SAMPLES["digits"].count == 600
    assert Counter(file.parent.name for file in files) == {str(digit): 60 for digit in range(10)}
    original = load_digits()
    for file in files[::50]:
        row = int(file.stem)
        assert original.target[row] == int(file.parent.name)
        with Image.open(file) as image:
            assert (image.size, image.mode) == ((64, 64), "L")
            # Shrunk again it is the original digit: bright where the pen was.
            small = np.asarray(image.resize((8, 8), Image.Resampling.BOX), dtype=float)
        assert np.corrcoef(small.ravel(), original.images[row].ravel())[0, 1] > 0.95


@pytest.mark.parametrize("per_class", [1, 174])
def test_fewer_or_more_digits_can_be_asked_for(per_class: int, tmp_path: Path) -> None:
    write_sample("digits", tmp_path, per_class=per_class)
    assert len(list(tmp_path.rglob("*.png"))) == 10 * per_class


def test_photos_are_two_photographs_with_their_authors(tmp_path: Path) -> None:
    assert write_sample("photos", tmp_path) == tmp_path
    photos = sorted(tmp_path.glob("*.jpg"))
    assert [photo.name for photo in photos] == ["china.jpg", "flower.jpg"]
    assert SAMPLES["photos"].count == len(photos)
    for photo in photos:
        with Image.open(photo) as image:
            image.load()
            assert (image.format, image.size) == ("JPEG", (640, 427))
    assert "creativecommons.org/licenses/by" in (tmp_path / "README.txt").read_text()


def read_docs(file: Path) -> list[tuple[str, str]]:
    header, *rows = csv.reader(io.StringIO(file.read_text(encoding="utf-8")))
    assert header == ["text", "label"]
    return [(text, label) for text, label in rows]


def test_docs_are_distinct_sentences_of_eight_topics(tmp_path: Path) -> None:
    file = write_sample("docs", tmp_path)
    assert file == tmp_path / "docs.csv"
    rows = read_docs(file)
    assert len(rows) == SAMPLES["docs"].count == 640
    by_label = Counter(label for _, label in rows)
    assert len(by_label) == 8
    assert set(by_label.values()) == {80}
    assert len({text for text, _ in rows}) == len(rows)
    for text, _ in rows:
        assert 8 <= len(text.split()) <= 60
        assert re.fullmatch(r"[A-Z].*[.!?]", text)


def test_docs_can_be_told_apart(tmp_path: Path) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.model_selection import cross_val_score
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    texts, labels = zip(*read_docs(write_sample("docs", tmp_path)), strict=True)
    classifier = make_pipeline(TfidfVectorizer(), MultinomialNB())
    assert cross_val_score(classifier, texts, labels, cv=3).mean() > 4 * (1 / 8)


def test_a_python_without_sources_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As with a standard library of .pyc files alone.
    monkeypatch.setattr(samples.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DatasetInvalid, match="without sources; try the sample 'digits'"):
        write_sample("docs", tmp_path)


@pytest.mark.parametrize(
    ("name", "message"), [("digit", "did you mean 'digits'"), ("zzz", "there are 'digits', 'photos', 'docs'")]
)
def test_an_unknown_sample_is_answered_with_the_known(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=message):
        write_sample(name, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("name", "per_class"), [("digits", 0), ("digits", 175), ("docs", 81), ("photos", 1)])
def test_rows_that_do_not_exist_cannot_be_asked_for(name: str, per_class: int, tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="rows of each class"):
        write_sample(name, tmp_path / "new", per_class=per_class)
    assert not (tmp_path / "new").exists()


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("precious")
    for target in (tmp_path, file):
        with pytest.raises(Conflict, match="name a new one"):
            write_sample("photos", target)
    assert contents(tmp_path) == {"mine.txt": b"precious"}


def test_samples_describe_themselves() -> None:
    assert {name: sample.modality for name, sample in SAMPLES.items()} == {
        "digits": Modality.IMAGE,
        "photos": Modality.IMAGE,
        "docs": Modality.TEXT,
    }
    for name, sample in SAMPLES.items():
        assert sample.name == name
        assert sample.description.endswith(".")
        assert "\n" not in sample.description
