"""Texts as their tokenizer reads them: rows T01 to T09 of the fault list."""

from __future__ import annotations

import string
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from models.batch import TextBatch, TextRow
from models.errors import ContextLengthExceeded, EmptyText, InvalidUnicode, TextTooLong
from models.preprocessor import Preprocessor, RawItem, TextItem, TextPreprocessorConfig
from models.text_preprocessor import MAX_TEXT_BYTES, TextPreprocessor
from tests.stopwatch import longest_wait, quickest

CLS, SEP, UNK = 2, 3, 1


@pytest.fixture(scope="session")
def tokenizer_file(tiny_text: str) -> Path:
    return Path(tiny_text.removeprefix("dir:")) / "tokenizer.json"


def texts_of(tokenizer_file: Path, max_tokens: int = 16, pad_id: int = 0) -> TextPreprocessor:
    return TextPreprocessor(TextPreprocessorConfig(max_tokens=max_tokens, pad_id=pad_id), tokenizer_file)


def prepare(preprocessor: Preprocessor, item: RawItem, *, truncate: bool = False) -> TextRow:
    row = preprocessor.prepare(item, truncate=truncate)
    assert isinstance(row, TextRow)
    assert len(row.ids) == len(row.segments)
    return row


@pytest.fixture(scope="session")
def texts(tokenizer_file: Path) -> TextPreprocessor:
    return texts_of(tokenizer_file)


def ids(letters: str) -> list[int]:
    """The tiny tokenizer numbers letters after its five special tokens."""
    return [5 + string.ascii_lowercase.index(letter) for letter in letters]


def test_a_text_stands_between_its_special_tokens(texts: TextPreprocessor) -> None:
    row = prepare(texts, "A b c")
    assert row == TextRow(ids=[CLS, *ids("abc"), SEP], segments=[0] * 5, truncated=False)


def test_a_pair_is_joined(texts: TextPreprocessor) -> None:
    row = prepare(texts, ("a", "b c"))
    assert row.ids == [CLS, *ids("a"), SEP, *ids("bc"), SEP]
    assert row.segments == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("text", ["", " ", "\t\n\r", "\u00a0\u2003\u3000", ("a", ""), (" ", "a")])
def test_an_empty_text_is_refused(texts: TextPreprocessor, text: TextItem) -> None:
    with pytest.raises(EmptyText):
        texts.prepare(text)


def test_a_text_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    preprocessor = texts_of(tmp_path / "tokenizer.json")
    assert prepare(preprocessor, "a").ids == [0]
    with pytest.raises(EmptyText, match="no character"):
        preprocessor.prepare("漢")


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", ("a", "\ud800")])
def test_a_lone_surrogate_is_refused(texts: TextPreprocessor, text: TextItem) -> None:
    with pytest.raises(InvalidUnicode):
        texts.prepare(text)


def test_a_text_over_the_byte_limit_is_refused_before_tokenising(texts: TextPreprocessor) -> None:
    for text in ("a" * (10 << 20), "ä" * (MAX_TEXT_BYTES // 2 + 1), ("a", "b" * (MAX_TEXT_BYTES + 1))):

        def refuse(text: TextItem = text) -> None:
            with pytest.raises(TextTooLong, match="1,048,576"):
                texts.prepare(text, truncate=True)

        assert quickest(refuse, bound=0.1) < 0.1
    assert prepare(texts, "a" * MAX_TEXT_BYTES).ids == [CLS, UNK, SEP]


def test_a_text_over_the_token_limit_is_refused_or_cut(texts: TextPreprocessor) -> None:
    exactly = " ".join(string.ascii_lowercase[:14])
    assert prepare(texts, exactly, truncate=True).truncated is False
    assert len(prepare(texts, exactly).ids) == 16
    longer = exactly + " z"
    with pytest.raises(ContextLengthExceeded, match="17 tokens, the model reads 16"):
        texts.prepare(longer)
    cut = prepare(texts, longer, truncate=True)
    assert cut == TextRow(ids=prepare(texts, exactly).ids, segments=[0] * 16, truncated=True)


words = st.integers(0, 40).map(lambda count: " ".join("abcdefgh"[i % 8] for i in range(count)))


@given(words, words, st.integers(4, 24))
@settings(deadline=None, max_examples=200)
def test_a_cut_text_or_pair_is_what_the_library_cuts(tokenizer_file: Path, first: str, second: str, limit: int) -> None:
    parts = tuple(part for part in (first, second) if part)
    if not parts:
        return
    reference = Tokenizer.from_file(str(tokenizer_file))
    reference.enable_truncation(limit, strategy="longest_first")
    wanted = reference.encode(*parts)
    item: TextItem = parts[0] if len(parts) == 1 else (parts[0], parts[1])
    row = prepare(texts_of(tokenizer_file, limit), item, truncate=True)
    assert list(row.ids) == wanted.ids
    assert list(row.segments) == wanted.type_ids
    assert row.truncated == bool(wanted.overflowing)
    assert row.ids[0] == CLS
    assert row.ids[-1] == SEP


@pytest.mark.parametrize("special", ["[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]", "</s>", "<|endoftext|>", "<image>"])
def test_special_tokens_spelled_out_are_text(texts: TextPreprocessor, special: str) -> None:
    row = prepare(texts, f"a{special}b", truncate=True)
    inner = row.ids[1:-1]
    assert not {0, CLS, SEP, 4} & set(inner)  # neither padding, start, end nor mask
    assert len(inner) > 3  # many tokens of text, not one of its own


@given(st.text(max_size=80))
@settings(deadline=None, max_examples=300)
def test_any_text_is_a_row_within_the_limit_or_refused(texts: TextPreprocessor, text: str) -> None:
    try:
        row = prepare(texts, text, truncate=True)
    except (EmptyText, InvalidUnicode):
        assert not text.strip() or any("\ud800" <= letter <= "\udfff" for letter in text)
        return
    assert 2 <= len(row.ids) <= 16
    assert max(row.ids) < 85
    assert row == texts.prepare(text, truncate=True)


@pytest.mark.parametrize(
    "text", ["\0", "a\0b", "\x01\x9f", "\ufeffa", "\ufffe", "\u202eabc", "👩\u200d👩\u200d👧", "e" + "\u0301" * 10_000]
)
def test_odd_characters_are_text(texts: TextPreprocessor, text: str) -> None:
    assert prepare(texts, text, truncate=True).ids[0] == CLS


def test_composed_and_decomposed_letters_are_left_to_the_tokenizer(texts: TextPreprocessor) -> None:
    """No normalisation of ours: BERT's strips accents, in either form; a cased one may tell them apart."""
    assert prepare(texts, "é").ids == prepare(texts, "e\u0301").ids == [CLS, *ids("e"), SEP]


@pytest.mark.parametrize(
    "item",
    [
        "a" * 1_000_000,
        "a " * 500_000,
        "漢" * 340_000,
        "e" + "\u0301" * 500_000,
        "😀" * 260_000,
        "\0" * 1_000_000,
        ("a " * 500_000, "b " * 500_000),
    ],
    ids=["letters", "words", "han", "marks", "emoji", "nul", "pair"],
)
def test_a_megabyte_is_tokenised_in_linear_time(texts: TextPreprocessor, item: TextItem) -> None:
    assert len(prepare(texts, item, truncate=True).ids) <= 16
    bound = 2.0 * sum(len(part.encode()) for part in ([item] if isinstance(item, str) else item)) / MAX_TEXT_BYTES
    assert quickest(lambda: prepare(texts, item, truncate=True), bound=bound) < bound


def test_other_threads_run_while_a_text_is_tokenised(texts: TextPreprocessor) -> None:
    long = "a " * 500_000
    assert any(longest_wait(lambda: prepare(texts, long, truncate=True)) < 0.5 for _ in range(3))


def test_threads_do_not_disturb_each_other(texts: TextPreprocessor) -> None:
    """Cutting is no setting of the shared tokenizer: a row that is cut leaves the others whole."""
    items: list[tuple[RawItem, bool]] = [(" ".join("abc" * n), n > 4) for n in range(1, 9)] * 100
    items += [((" ".join("ab" * n), "c"), True) for n in range(1, 9)] * 50

    def work(entry: tuple[RawItem, bool]) -> TextRow:
        return prepare(texts, entry[0], truncate=entry[1])

    alone = [work(entry) for entry in items]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, items)) == alone


def test_rows_are_padded_at_the_end_with_the_backbones_token(tokenizer_file: Path) -> None:
    preprocessor = texts_of(tokenizer_file, pad_id=4)
    rows = [preprocessor.prepare("a b c"), preprocessor.prepare(("a", "b"))]
    batch = preprocessor.collate([*rows, preprocessor.prepare("a")])
    assert isinstance(batch, TextBatch)
    a, b, c = ids("abc")
    assert batch.ids_BT.tolist() == [[CLS, a, b, c, SEP], [CLS, a, SEP, b, SEP], [CLS, a, SEP, 4, 4]]
    assert batch.mask_BT.tolist() == [[1] * 5, [1] * 5, [1, 1, 1, 0, 0]]
    assert batch.segments_BT.tolist() == [[0] * 5, [0, 0, 0, 1, 1], [0] * 5]
