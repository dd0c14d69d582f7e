from __future__ import annotations

import io
import threading
from pathlib import Path

import pytest
from PIL import Image

from finetune.checks import Policy, check, inspect
from finetune.dataset import Dataset, Split, load_dataset
from finetune.example import Label
from finetune.findings import Finding
from models.errors import DatasetInvalid, ImageUndecodable
from models.task import Task
from tests.finetune.datasets import dataset


def texts(**sizes: int) -> list[tuple[Split, str, str]]:
    return [("train", f"{label} {index}", label) for label, size in sizes.items() for index in range(size)]


def codes(findings: tuple[Finding, ...]) -> set[str]:
    return {finding.code for finding in findings if finding.code != "no_test_split"}


def by_code(findings: tuple[Finding, ...], code: str) -> Finding:
    (finding,) = (finding for finding in findings if finding.code == code)
    return finding


def decode(content: bytes) -> Image.Image:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.convert("RGB")
    except OSError as error:
        raise ImageUndecodable("no image") from error


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two classes of 100 distinct images each."""
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for index in range(100):
            colour = (index, 0 if label == "cat" else 255, 0)
            Image.new("RGB", (4, 4), colour).save(tmp_path / label / f"{index:03}.png")
    return tmp_path


def load(path: Path) -> Dataset:
    return load_dataset(path)[0]


def test_good_images_are_nothing_to_report(images: Path) -> None:
    data = load(images)
    calls: list[tuple[int, int]] = []
    checked, findings = check(data, decode=decode, progress=lambda done, total: calls.append((done, total)))
    assert checked == data
    assert codes(findings) == set()
    assert calls == [(done, 200) for done in range(1, 201)]


def test_a_corrupt_image_is_left_out_and_listed(images: Path) -> None:
    victim = images / "cat" / "007.png"
    victim.write_bytes(victim.read_bytes()[:40])
    (images / "dog" / "003.png").write_bytes(b"")
    checked, findings = check(load(images), decode=decode)
    finding = by_code(findings, "unreadable_file")
    assert (finding.severity, finding.count) == ("warning", 2)
    assert finding.examples == ("cat/007.png", "dog/003.png")
    assert checked.counts["train"] == {"cat": 99, "dog": 99}


def test_too_many_corrupt_images_fail(images: Path) -> None:
    for index in range(3):
        (images / "cat" / f"{index:03}.png").write_bytes(bytes([index]))
    data = load(images)
    with pytest.raises(DatasetInvalid, match=r"3 of 200 images .* more than the 1.0% .*cat/000.png"):
        check(data, decode=decode)
    checked, _ = check(data, decode=decode, policy=Policy(max_unreadable_ratio=0.02))
    assert len(checked.split("train")) == 197


def test_a_single_corrupt_image_fails_when_asked_to(images: Path) -> None:
    (images / "cat" / "000.png").write_bytes(b"")
    with pytest.raises(DatasetInvalid, match="--on-unreadable skip"):
        check(load(images), decode=decode, policy=Policy(on_unreadable="fail"))


def test_images_are_decoded_on_several_threads(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    meeting = threading.Barrier(2, timeout=10)  # passes only when two decode at once

    def decode_together(content: bytes) -> Image.Image:
        meeting.wait()
        return decode(content)

    check(load(images), decode=decode_together)


def test_a_file_that_changes_between_load_and_check_is_an_error(images: Path) -> None:
    data = load(images)
    (images / "cat" / "000.png").write_bytes(b"other")
    with pytest.raises(DatasetInvalid, match=r"^cat/000.png: the file changed"):
        check(data, decode=decode)


def test_images_need_not_be_decoded(images: Path) -> None:
    (images / "cat" / "000.png").write_bytes(b"")
    assert codes(check(load(images), decode=None)[1]) == set()


def test_empty_texts_are_left_out_and_counted() -> None:
    data = dataset(*texts(x=100, y=100), ("train", " \n", "x"), ("train", "", "y"))
    checked, findings = check(data, decode=None)
    finding = by_code(findings, "empty_text")
    assert (finding.severity, finding.count) == ("warning", 2)
    assert len(checked.split("train")) == 200


def test_a_pair_with_one_empty_text_is_left_out(tmp_path: Path) -> None:
    rows = [f"left {number},right {number},{number % 2}.5\n" for number in range(200)]
    (tmp_path / "pairs.csv").write_text("text_a,text_b,score\n" + "".join(rows) + "left, ,1\n")
    checked, findings = check(load(tmp_path / "pairs.csv"), decode=None)
    assert by_code(findings, "empty_text").examples == ("pairs.csv:202",)
    assert len(checked.split("train")) == 200


def test_words_without_one_are_left_out() -> None:
    rows: list[tuple[Split, str, Label]] = [("train", f"word {number}", ("O", "B-x")) for number in range(200)]
    checked, findings = check(dataset(*rows, ("train", "", ()), task=Task.TOKEN_CLASSIFICATION), decode=None)
    assert by_code(findings, "empty_text").count == 1
    assert checked.counts["train"] == {"O": 200, "B-x": 200}


def test_slips_in_labels_of_many_and_in_types_of_entities_are_reported() -> None:
    many: list[tuple[Split, str, Label]] = [
        ("train", f"t{n}", ("cat", "dog") if n % 2 else ("cat",)) for n in range(40)
    ]
    many += [("train", "u", ("Cat",)), ("train", "v", ())]
    _, findings = inspect(dataset(*many, task=Task.MULTI_LABEL), decode=None)
    assert by_code(findings, "label_case").examples == ("u",)
    tags: list[tuple[Split, str, Label]] = [("train", f"t{n}", ("B-place",)) for n in range(40)]
    tags += [("train", "u", ("B-plcae",))]
    _, findings = inspect(dataset(*tags, task=Task.TOKEN_CLASSIFICATION), decode=None)
    assert "'plcae' beside 'place'" in by_code(findings, "label_typo").message


@pytest.mark.parametrize(
    ("rows", "words"),
    [([], "no training examples"), ([("test", "a", "x")], "no training examples"), (texts(x=5), "labelled 'x'")],
)
def test_fewer_than_two_classes_fail_before_anything_is_decoded(rows: list[tuple[Split, str, str]], words: str) -> None:
    with pytest.raises(DatasetInvalid, match=words):
        check(dataset(*rows), decode=None)


def test_one_class_of_images_fails_before_anything_is_decoded(images: Path) -> None:
    def forbidden(content: bytes) -> Image.Image:
        raise AssertionError("decoded")

    for path in (images / "dog").iterdir():
        path.unlink()
    with pytest.raises(DatasetInvalid, match="labelled 'cat'"):
        check(load(images), decode=forbidden)


def test_a_class_with_one_example_fails_or_is_left_out() -> None:
    data = dataset(*texts(positive=5, negative=5, postive=1), ("test", "t", "postive"))
    with pytest.raises(DatasetInvalid, match=r"'postive'; did you mean 'positive'\?; .*--drop-small-classes"):
        check(data, decode=None)
    checked, findings = check(data, decode=None, policy=Policy(drop_small_classes=True))
    assert checked.classes == ("negative", "positive")
    assert checked.split("test") == ()
    assert by_code(findings, "class_too_small").severity == "warning"


def test_dropping_small_classes_must_leave_two() -> None:
    with pytest.raises(DatasetInvalid, match="labelled 'x'"):
        check(dataset(*texts(x=5, y=1)), decode=None, policy=Policy(drop_small_classes=True))


def test_the_least_size_of_a_class_can_be_set() -> None:
    data = dataset(*texts(x=5, y=4))
    with pytest.raises(DatasetInvalid, match="fewer than 5 training examples: 'y'"):
        check(data, decode=None, policy=Policy(min_class_size=5))


def test_a_class_that_is_only_tested_fails_or_is_left_out() -> None:
    data = dataset(*texts(x=5, y=5), ("test", "a", "x"), ("test", "b", "z"))
    with pytest.raises(DatasetInvalid, match="not in train: 'z'"):
        check(data, decode=None)
    checked, _ = check(data, decode=None, policy=Policy(drop_small_classes=True))
    assert checked.classes == ("x", "y")


def test_a_class_that_is_never_tested_is_said() -> None:
    _, findings = check(dataset(*texts(x=5, y=5), ("test", "a", "x")), decode=None)
    assert "'y'" in by_code(findings, "class_not_in_test").message


def test_imbalance_recommends_macro_f1() -> None:
    _, findings = check(dataset(*texts(ham=50, spam=5)), decode=None)
    assert "macro F1" in by_code(findings, "imbalance").message
    assert codes(check(dataset(*texts(ham=49, spam=5)), decode=None)[1]) == set()


def test_typos_are_reported_though_their_class_is_dropped_and_never_merged() -> None:
    data = dataset(*texts(positive=20, negative=20, positve=1))
    checked, findings = check(data, decode=None, policy=Policy(drop_small_classes=True))
    assert codes(findings) == {"label_typo", "class_too_small"}
    assert len(checked.split("train")) == 40


def test_leaks_fail_only_when_strict() -> None:
    data = dataset(*texts(x=5, y=5), ("test", "x 0", "x"), ("test", "y", "y"))
    assert codes(check(data, decode=None)[1]) == {"duplicates_across_splits"}
    with pytest.raises(DatasetInvalid, match="more than one split"):
        check(data, decode=None, policy=Policy(strict=True))


def test_all_errors_are_found_at_once_and_counted() -> None:
    data = dataset(*texts(x=5, y=5, z=1), ("test", "x 0", "x"), ("test", "b", "w"))
    checked, findings = inspect(data, decode=None, policy=Policy(strict=True))
    errors = [finding.code for finding in findings if finding.severity == "error"]
    assert errors == ["class_too_small", "class_not_in_training", "duplicates_across_splits"]
    assert checked == data
    with pytest.raises(DatasetInvalid, match="2 more: 'graftwork doctor' lists them"):
        check(data, decode=None, policy=Policy(strict=True))
