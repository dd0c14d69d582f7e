"""What is not pretrained is made of the texts and the seed, and of nothing else."""

from __future__ import annotations

import pytest
import torch

from finetune.from_scratch import VOCABULARY, lstm_checkpoint, train_tokenizer
from models.backbone_store import build_backbone
from models.batch import TextRow, collate
from models.features import FeatureKind

TEXTS = ["the cat sat on the mat", "the dog sat on the log", "a cat and a dog, and a log", "Straße, naïve, 日本語 🙂"]


def test_the_same_texts_and_seed_give_the_same_backbone() -> None:
    state = torch.random.get_rng_state()
    one, other = lstm_checkpoint(TEXTS, seed=1), lstm_checkpoint(list(reversed(TEXTS)), seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)  # nobody else's numbers depend on it
    assert one.tokenizer_json == other.tokenizer_json
    assert one.config == other.config
    assert all(torch.equal(one.state[name], other.state[name]) for name in one.state)
    another = lstm_checkpoint(TEXTS, seed=2)
    assert another.tokenizer_json == one.tokenizer_json
    assert not torch.equal(another.state["embedding.weight"], one.state["embedding.weight"])


def test_the_same_texts_give_the_same_tokenizer_each_time() -> None:
    """Although the library's hash maps are in another order each time."""
    texts = [f"{text} {other}" for text in TEXTS for other in TEXTS]
    assert len({train_tokenizer(texts).to_str() for _ in range(8)}) == 1


@pytest.mark.parametrize(
    "text", ["the cat", "THE CAT", "Ünknown wörds 🙂", "日本語", "1 + 1 = 2!", "\N{ZERO WIDTH SPACE}"]
)
def test_no_text_holds_anything_unknown(text: str) -> None:
    tokenizer = train_tokenizer(TEXTS)
    encoding = tokenizer.encode(text)
    assert encoding.ids
    decoded = b"".join(bytes([_bytes()[letter]]) for token in encoding.tokens for letter in token)
    assert decoded.decode().strip() == text.lower().strip()
    assert tokenizer.get_vocab_size() <= VOCABULARY


def _bytes() -> dict[str, int]:
    """The byte of each letter of byte-level tokens (Radford et al. 2019): those that can be printed stand for themselves."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(others)}


def test_words_that_occur_often_are_one_token() -> None:
    assert len(train_tokenizer(TEXTS).encode("the cat").ids) == 2


def test_a_pair_is_two_segments_with_a_separator() -> None:
    tokenizer = train_tokenizer(TEXTS)
    encoding = tokenizer.encode("the cat", "the dog")
    assert encoding.tokens == ["Ġthe", "Ġcat", "[SEP]", "Ġthe", "Ġdog"]
    assert encoding.type_ids == [0, 0, 0, 1, 1]
    assert tokenizer.encode("the cat").tokens == ["Ġthe", "Ġcat"]


def test_pairs_are_read_too() -> None:
    pairs = [(TEXTS[0], TEXTS[1]), (TEXTS[2], TEXTS[3])]
    assert lstm_checkpoint(pairs, seed=0).tokenizer_json == lstm_checkpoint(TEXTS, seed=0).tokenizer_json


def test_it_can_learn() -> None:
    """Which of two words comes first: no bag of words tells."""
    checkpoint = lstm_checkpoint(TEXTS, seed=0)
    backbone = build_backbone(checkpoint.config, checkpoint.state, dropout=0.0).train()
    batch = collate([TextRow(ids=[5, 9, 6, 9], segments=[0] * 4), TextRow(ids=[6, 9, 5, 9], segments=[0] * 4)])
    head = torch.nn.Linear(checkpoint.config.feature_dim, 2)
    optimiser = torch.optim.Adam([*backbone.parameters(), *head.parameters()], lr=1e-2)
    for _ in range(20):
        logits_BC = head(backbone(batch, FeatureKind.POOLED).values)
        loss = torch.nn.functional.cross_entropy(logits_BC, torch.tensor([0, 1]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.05
