"""Tokenizers of several kinds that read every script, and a tiny model that marks words, for tests of spans."""

from __future__ import annotations

import json
import string
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from tledge.inputs.words import WordsInput

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SCRIPTS = {
    "latin": "abcdefghij éüñ ABC",
    "cyrillic": "абвгдежз АБ",
    "greek": "αβγδεζ ΑΒ",
    "arabic": "ابتثجحخ",
    "hebrew": "אבגדהו",
    "devanagari": "कखगघ ि ा ्",
    "chinese": "北京我喜欢户外旅游",
    "korean": "가나다라마",
}
EXTRAS = (
    "👍🏽",
    "👨‍👩‍👧",
    "e\u0301",
    "u\u0308",
    "\r\n",
    "\t",
    "\u00a0",
    "ﬁ",
    "İ",
    "ß",
    "\u200d",
    "\ufeff",
    ".",
    ",",
    "-",
    "'",
)


def word_pieces(texts: str = "".join(SCRIPTS.values()) + string.ascii_letters + string.digits + ".,-'") -> Tokenizer:
    """WordPiece of single characters after BERT's own first step, in lower case and without accents."""
    pieces = dict.fromkeys([*texts, *texts.lower()])
    vocabulary = [*SPECIAL, *pieces, *(f"##{piece}" for piece in pieces)]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def byte_pairs() -> Tokenizer:
    """Bytes, as GPT-2 and RoBERTa read them, without any merge."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def unigrams() -> Tokenizer:
    """Single characters by likelihood, as SentencePiece's unigram models read them, with white space as a mark."""
    pieces = dict.fromkeys(["▁", *"".join(SCRIPTS.values()), *string.ascii_letters, *".,-'"])
    vocabulary = [*((token, 0.0) for token in SPECIAL), *((piece, -2.0) for piece in pieces if piece != " ")]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=1))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


TOKENIZERS = {"word_pieces": word_pieces, "byte_pairs": byte_pairs, "unigrams": unigrams}


def save_inputs(
    folder: Path, tokenizer: Tokenizer, *, max_length: int = 16, stride: int = 4, aggregation: str = "first"
) -> Path:
    """The files that a checkpoint has of its words."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "model_max_length": max_length,
        "pad_token": "[PAD]",
        "model_input_names": ["input_ids", "attention_mask"],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    settings = {"stride": stride, "aggregation": aggregation}
    (folder / "windows.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def words_input(folder: Path, tokenizer: Tokenizer, **settings) -> WordsInput:
    """The preprocessing of such files."""
    return WordsInput.load(save_inputs(folder, tokenizer, **settings))


def save_backbone(folder: Path) -> None:
    """A random BERT, 32 wide and two layers deep, that reads words in pieces of single characters."""
    import torch
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    tokenizer = word_pieces()
    torch.manual_seed(5)
    BertModel(
        BertConfig(
            vocab_size=tokenizer.get_vocab_size(), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=64, max_position_embeddings=64, initializer_range=0.1,
        )
    ).save_pretrained(folder)  # fmt: skip
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
