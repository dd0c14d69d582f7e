"""Texts as their tokenizer reads them: rows T01 to T09 of the fault list."""

from __future__ import annotations

import string
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from models.batch import PairRow, TextBatch, TextRow, Words, text_length
from models.errors import ContextLengthExceeded, EmptyText, InputError, InvalidInstances, InvalidUnicode, TextTooLong
from models.features import FeatureKind
from models.preprocessor import PairReading, Preprocessor, RawItem, TextItem, TextPreprocessorConfig
from models.text_preprocessor import MAX_TEXT_BYTES, TextPreprocessor, find_words
from tests.stopwatch import longest_wait, quickest

CLS, SEP, UNK = 2, 3, 1


@pytest.fixture(scope="session")
def tokenizer_file(tiny_text: str) -> Path:
    return Path(tiny_text.removeprefix("dir:")) / "tokenizer.json"


def texts_of(
    tokenizer_file: Path, max_tokens: int = 16, pad_id: int = 0, pair: PairReading | None = None
) -> TextPreprocessor:
    return TextPreprocessor(TextPreprocessorConfig(max_tokens=max_tokens, pad_id=pad_id, pair=pair), tokenizer_file)


def prepare(preprocessor: Preprocessor, item: RawItem, *, truncate: bool = False) -> TextRow:
    row = preprocessor.prepare(item, truncate=truncate)
    assert isinstance(row, TextRow)
    assert len(row.ids) == len(row.segments)
    return row


@pytest.fixture(scope="session")
def texts(tokenizer_file: Path) -> TextPreprocessor:
    return texts_of(tokenizer_file)


@pytest.fixture(scope="session")
def pairs(tokenizer_file: Path) -> TextPreprocessor:
    """Reads pairs as one row."""
    return texts_of(tokenizer_file, pair="joint")


@pytest.fixture(scope="session")
def words(tokenizer_file: Path) -> TextPreprocessor:
    """Knows which token stands for which word."""
    return TextPreprocessor(TextPreprocessorConfig(max_tokens=16), tokenizer_file, FeatureKind.TOKENS)


def ids(letters: str) -> list[int]:
    """The tiny tokenizer numbers letters after its five special tokens."""
    return [5 + string.ascii_lowercase.index(letter) for letter in letters]


def test_a_text_stands_between_its_special_tokens(texts: TextPreprocessor) -> None:
    row = prepare(texts, "A b c")
    assert row == TextRow(ids=[CLS, *ids("abc"), SEP], segments=[0] * 5, truncated=False)


def test_a_pair_is_joined(pairs: TextPreprocessor) -> None:
    row = prepare(pairs, ("a", "b c"))
    assert row.ids == [CLS, *ids("a"), SEP, *ids("bc"), SEP]
    assert row.segments == [0, 0, 0, 1, 1, 1]


def test_texts_of_a_pair_may_stay_apart(tokenizer_file: Path, texts: TextPreprocessor) -> None:
    apart = texts_of(tokenizer_file, pair="separate")
    row = apart.prepare(("a", "b c"))
    assert row == PairRow(first=prepare(texts, "a"), second=prepare(texts, "b c"))
    assert not row.truncated
    assert text_length(row) == 4
    long = "ab " * 20
    for item in ((long, "a"), ("a", long)):
        assert apart.prepare(item, truncate=True).truncated
        with pytest.raises(ContextLengthExceeded, match="the model reads 16"):
            apart.prepare(item)


@pytest.mark.parametrize("text", ["", " ", "\t\n\r", "\u00a0\u2003\u3000", ("a", ""), (" ", "a")])
def test_an_empty_text_is_refused(texts: TextPreprocessor, pairs: TextPreprocessor, text: TextItem) -> None:
    with pytest.raises(EmptyText):
        (texts if isinstance(text, str) else pairs).prepare(text)


def test_a_text_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    preprocessor = texts_of(tmp_path / "tokenizer.json")
    assert prepare(preprocessor, "a").ids == [0]
    with pytest.raises(EmptyText, match="no character"):
        preprocessor.prepare("漢")


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", ("a", "\ud800")])
def test_a_lone_surrogate_is_refused(texts: TextPreprocessor, pairs: TextPreprocessor, text: TextItem) -> None:
    with pytest.raises(InvalidUnicode):
        (texts if isinstance(text, str) else pairs).prepare(text)


def test_a_text_over_the_byte_limit_is_refused_before_tokenising(
    texts: TextPreprocessor, pairs: TextPreprocessor
) -> None:
    for text in ("a" * (10 << 20), "ä" * (MAX_TEXT_BYTES // 2 + 1), ("a", "b" * (MAX_TEXT_BYTES + 1))):

        def refuse(text: TextItem = text) -> None:
            with pytest.raises(TextTooLong, match="1,048,576"):
                (texts if isinstance(text, str) else pairs).prepare(text, truncate=True)

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


letters = st.integers(0, 40).map(lambda count: " ".join("abcdefgh"[i % 8] for i in range(count)))


@given(letters, letters, st.integers(4, 24))
@settings(deadline=None, max_examples=200)
def test_a_cut_text_or_pair_is_what_the_library_cuts(tokenizer_file: Path, first: str, second: str, limit: int) -> None:
    parts = tuple(part for part in (first, second) if part)
    if not parts:
        return
    reference = Tokenizer.from_file(str(tokenizer_file))
    reference.enable_truncation(limit, strategy="longest_first")
    wanted = reference.encode(*parts)
    item: TextItem = parts[0] if len(parts) == 1 else (parts[0], parts[1])
    row = prepare(texts_of(tokenizer_file, limit, pair="joint" if len(parts) > 1 else None), item, truncate=True)
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
@pytest.mark.parametrize("kind", FeatureKind)
def test_a_megabyte_is_tokenised_in_linear_time(tokenizer_file: Path, item: TextItem, kind: FeatureKind) -> None:
    if kind is FeatureKind.TOKENS and not isinstance(item, str):
        return
    config = TextPreprocessorConfig(max_tokens=16, pair=None if isinstance(item, str) else "joint")
    texts = TextPreprocessor(config, tokenizer_file, kind)
    assert len(prepare(texts, item, truncate=True).ids) <= 16
    bound = 2.0 * sum(len(part.encode()) for part in ([item] if isinstance(item, str) else item)) / MAX_TEXT_BYTES
    assert quickest(lambda: prepare(texts, item, truncate=True), bound=bound) < bound


def test_other_threads_run_while_a_text_is_tokenised(texts: TextPreprocessor) -> None:
    long = "a " * 500_000
    assert any(longest_wait(lambda: prepare(texts, long, truncate=True)) < 0.5 for _ in range(3))


def test_threads_do_not_disturb_each_other(texts: TextPreprocessor, pairs: TextPreprocessor) -> None:
    """Cutting is no setting of the shared tokenizer: a row that is cut leaves the others whole."""
    items: list[tuple[RawItem, bool]] = [(" ".join("abc" * n), n > 4) for n in range(1, 9)] * 100
    items += [((" ".join("ab" * n), "c"), True) for n in range(1, 9)] * 50

    def work(entry: tuple[RawItem, bool]) -> TextRow:
        return prepare(texts if isinstance(entry[0], str) else pairs, entry[0], truncate=entry[1])

    alone = [work(entry) for entry in items]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, items)) == alone


def test_rows_are_padded_at_the_end_with_the_backbones_token(tokenizer_file: Path) -> None:
    preprocessor = texts_of(tokenizer_file, pad_id=4)
    rows = [preprocessor.prepare("a b c"), texts_of(tokenizer_file, pair="joint").prepare(("a", "b"))]
    batch = preprocessor.collate([*rows, preprocessor.prepare("a")])
    assert isinstance(batch, TextBatch)
    a, b, c = ids("abc")
    assert batch.ids_BT.tolist() == [[CLS, a, b, c, SEP], [CLS, a, SEP, b, SEP], [CLS, a, SEP, 4, 4]]
    assert batch.mask_BT.tolist() == [[1] * 5, [1] * 5, [1, 1, 1, 0, 0]]
    assert batch.segments_BT.tolist() == [[0] * 5, [0, 0, 0, 1, 1], [0] * 5]


# Words


def words_of(row: TextRow) -> Words:
    assert row.words is not None
    return row.words


def test_only_rows_for_tokens_know_their_words(texts: TextPreprocessor, words: TextPreprocessor) -> None:
    assert prepare(texts, "ab c").words is None
    assert replace(prepare(words, "ab c"), words=None) == prepare(texts, "ab c")


def test_a_word_is_its_first_token(words: TextPreprocessor) -> None:
    """The tiny tokenizer makes a token of each letter, and of each mark a word of its own."""
    text = " abc\t(d)\n e😀 x-y "
    found = words_of(prepare(words, text))
    assert [text[start:end] for start, end in found.spans] == ["abc", "(d)", "e😀", "x-y"]
    assert found.tokens == [1, 4, 7, 8]
    assert found.text == text


def test_a_word_of_which_nothing_is_left_has_no_token(words: TextPreprocessor) -> None:
    found = words_of(prepare(words, "a \x01\x02 b"))
    assert (found.spans, found.tokens) == ([(0, 1), (2, 4), (5, 6)], [1, -1, 2])


def test_words_that_are_cut_off_are_not_there(words: TextPreprocessor) -> None:
    row = prepare(words, "abcd " * 10, truncate=True)
    assert row.truncated
    assert words_of(row).tokens == [1, 5, 9, 13]  # of the last one, two letters are left


def test_one_token_may_stand_for_two_words() -> None:
    assert find_words("New York x", [(0, 8), (9, 10)]).tokens == [0, 0, 1]
    assert find_words("a b", [(0, 1), (1, 3)]).tokens == [0, 1]  # a token with the white space before it


@given(st.text(st.sampled_from("ab.é漢😀\u0301\x01 \n\u3000"), max_size=40))
@settings(deadline=None, max_examples=300)
def test_words_are_what_stands_between_white_space(words: TextPreprocessor, text: str) -> None:
    if not text.strip():
        return
    row = prepare(words, text, truncate=True)
    found = words_of(row)
    split = text.split()
    assert [text[start:end] for start, end in found.spans] == split[: len(found.spans)]
    tokens = [token for token in found.tokens if token >= 0]
    assert tokens == sorted(tokens)
    assert all(0 < token < len(row.ids) - 1 for token in tokens)  # neither of the special ones
    for word in split[len(found.spans) :] if not row.truncated else ():
        assert not set(word) - {"\x01", "\u0301"}


# Tokens that come as numbers


@given(st.text(string.ascii_lowercase + " ", min_size=1).filter(str.strip), st.booleans(), st.booleans())
def test_tokens_make_the_row_that_their_text_makes(
    texts: TextPreprocessor, pairs: TextPreprocessor, text: str, with_special: bool, by_pairs: bool
) -> None:
    row = prepare(texts, text, truncate=True)
    sent = row.ids if with_special else row.ids[1:-1]
    found = (pairs if by_pairs else texts).prepare_tokens(sent)
    assert (found.ids, found.segments) == (row.ids, row.segments)
    assert pairs.prepare_text(text, truncate=True) == row


@given(st.lists(st.integers(4, 25), min_size=1, max_size=40))
def test_tokens_are_cut_like_texts_or_refused(texts: TextPreprocessor, tokens: list[int]) -> None:
    row = texts.prepare_tokens(tokens, truncate=True)
    assert row.ids == [CLS, *tokens[:14], SEP]
    assert row.truncated is (len(tokens) > 14)
    if row.truncated:
        with pytest.raises(ContextLengthExceeded, match=f"has {len(tokens) + 2} tokens, the model reads 16"):
            texts.prepare_tokens(tokens)


@pytest.mark.parametrize(
    ("tokens", "kind"), [([], EmptyText), ([5, 10**6], InvalidInstances), ([-1], InvalidInstances)]
)
def test_tokens_that_are_none_are_refused(texts: TextPreprocessor, tokens: list[int], kind: type[InputError]) -> None:
    with pytest.raises(kind):
        texts.prepare_tokens(tokens)


def test_a_tokenizer_without_special_tokens_adds_none(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1, "[UNK]": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert texts_of(tmp_path / "tokenizer.json").prepare_tokens([1, 0]).ids == [1, 0]
