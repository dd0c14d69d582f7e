"""Backbones that are not pretrained, made to learn from the user's own data alone: the baseline of every other one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn

from models.backbone import BackboneConfig, Modality
from models.checkpoint import Checkpoint
from models.lstm_backbone import LstmEncoder
from models.preprocessor import TextItem, TextPreprocessorConfig
from models.sources import SCRATCH_LSTM

VOCABULARY = 8192
EMBEDDING_DIM, HIDDEN_DIM = 256, 256
DROPOUT = 0.5  # of the medium network of Zaremba et al. 2014
MOST_TOKENS = 512

_PADDING, _SEPARATOR = "[PAD]", "[SEP]"


def lstm_checkpoint(texts: Iterable[TextItem], seed: int) -> Checkpoint:
    """A bidirectional LSTM with random weights, and a tokenizer that was trained on the texts.

    Args:
        texts: of the training data, in any order; pairs count as two.
        seed: of the weights.

    Returns:
        The same for the same texts and seed.
    """
    tokenizer = train_tokenizer(_single(texts))
    options: dict[str, Any] = {
        "vocab_size": tokenizer.get_vocab_size(),
        "embedding_dim": EMBEDDING_DIM,
        "hidden_dim": HIDDEN_DIM,
        "dropout": DROPOUT,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = LstmEncoder(**options)
        _initialise(encoder)
    return Checkpoint(
        config=BackboneConfig(
            source=SCRATCH_LSTM,
            library="graftwork",
            architecture="lstm",
            modality=Modality.TEXT,
            feature_dim=2 * HIDDEN_DIM,
            options=options,
            pooling="mean",
        ),
        state=dict(encoder.state_dict()),
        preprocessor=TextPreprocessorConfig(max_tokens=MOST_TOKENS, pad_id=tokenizer.token_to_id(_PADDING)),
        tokenizer_json=tokenizer.to_str().encode(),
    )


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Byte pairs (Sennrich et al. 2016; of bytes, as in GPT-2): no text has a character that it does not know.

    Args:
        texts: in any order.

    Returns:
        A tokenizer of lower-case text with at most `VOCABULARY` tokens; a pair has a separator between its parts.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=2,
        special_tokens=[_PADDING, _SEPARATOR],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(texts), trainer)
    pair = processors.TemplateProcessing(
        single="$A",
        pair=f"$A {_SEPARATOR} $B:1",
        special_tokens=[(_SEPARATOR, tokenizer.token_to_id(_SEPARATOR))],
    )
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), pair])
    return tokenizer


def _single(texts: Iterable[TextItem]) -> Iterator[str]:
    for text in texts:
        yield from (text,) if isinstance(text, str) else text


def _initialise(encoder: LstmEncoder) -> None:
    """Embeddings of length about 1; each gate by Glorot & Bengio 2010, orthogonal from state to state (Saxe et al. 2014).

    Nothing is forgotten at first: the forget gate's bias is 1 (Jozefowicz et al. 2015).
    """
    nn.init.normal_(encoder.embedding.weight, std=encoder.embedding.embedding_dim**-0.5)
    for lstm in (encoder.ahead, encoder.back):
        for name, parameter in lstm.named_parameters():
            gates = parameter.data.chunk(4)  # input, forget, cell, output
            if name.startswith("bias"):
                nn.init.zeros_(parameter)
            if name == "bias_ih_l0":  # the other one is added to it
                nn.init.ones_(gates[1])
            if name == "weight_ih_l0":
                for gate in gates:
                    nn.init.xavier_uniform_(gate)
            if name == "weight_hh_l0":
                for gate in gates:
                    nn.init.orthogonal_(gate)
