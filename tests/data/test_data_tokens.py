"""Texts to tokens window by window: the same tokens as at once, and no byte of the text is lost."""

import numpy as np
import pytest
from tiny_language import SENTENCES, tiny_tokenizer
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tledge.data import tokens

END = 0
SPLIT = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""How the tokenizers of newer models cut texts: signs take the line ends behind them along."""


def texts():
    rng = np.random.default_rng(4)
    words = [*" ".join(SENTENCES).split(), "naïve", "中文字", "👋🏽", "don't", "3.14", "x"]
    spaces = [" ", " ", " ", "  ", "\n", "\n\n", ".\n\n\n", "\r\n", "\t", " — "]
    prose = "".join(words[rng.integers(len(words))] + spaces[rng.integers(len(spaces))] for _ in range(900))
    return {
        "prose": prose,
        "no spaces": "".join("图书馆在火车站的右边每天早上九点开门"[rng.integers(18)] for _ in range(2500)),
        "one letter": "a" * 3000,
        "short": "x",
        "nothing": "",
        "only space": " \n" * 900,
    }


def newer():
    made = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    in_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([split, in_bytes])
    made.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([*SENTENCES, "a.\n\n b.\n\n"], trainer)
    return made


def sentencepiece():
    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=False, fuse_unk=True))
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    made.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=["<unk>"], show_progress=False)
    made.train_from_iterator(SENTENCES, trainer)
    made.post_processor = processors.TemplateProcessing(single="<unk> $A", special_tokens=[("<unk>", 0)])
    return made


def words_alone():
    made = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1, "river": 2}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.enable_truncation(7)
    made.enable_padding()
    return made


TOKENIZERS = {
    "byte level": lambda: tiny_tokenizer().backend_tokenizer,
    "newer": newer,
    "sentencepiece": sentencepiece,
    "words": words_alone,
}


def pieces(text, rng):
    """The text in pieces of 0 to 40 characters."""
    at = 0
    while at < len(text):
        size = int(rng.integers(0, 40))
        yield text[at : at + size]
        at += size


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("name", texts())
@pytest.mark.parametrize(("window", "margin"), [(311, 90), (1000, 200)])
def test_windows_give_the_tokens_of_the_whole_text(kind, name, window, margin, monkeypatch):
    monkeypatch.setattr(tokens, "WINDOW", window)
    monkeypatch.setattr(tokens, "MARGIN", margin)
    text, plain = texts()[name], tokens.plain(TOKENIZERS[kind]())
    found = list(tokens.tokenize(pieces(text, np.random.default_rng(0)), plain, END))
    ids = np.concatenate([each.ids for each in found])
    n_bytes = np.concatenate([each.n_bytes for each in found])
    assert ids.dtype == n_bytes.dtype == np.int32
    assert ids[-1] == END
    assert n_bytes.sum() == len(text.encode())
    assert (n_bytes >= 0).all()
    if name in ("one letter", "only space") and kind in ("byte level", "newer"):
        assert plain.decode(ids[:-1].tolist()) == text  # where to cut a long run is nobody's to say
        return
    assert ids[:-1].tolist() == plain.encode(text, add_special_tokens=False).ids
    assert len(found) >= len(text) / (window + margin)


def test_each_token_has_the_bytes_that_it_stands_for():
    plain = tokens.plain(tiny_tokenizer().backend_tokenizer)
    text = "The ferry, près de la rivière 中 👋"
    (found,) = tokens.tokenize([text], plain, END)
    by_char = dict(zip(*_byte_alphabet(), strict=True))
    expected = [bytes(by_char[char] for char in plain.id_to_token(int(i))) for i in found.ids[:-1]]
    assert b"".join(expected).decode() == text
    at = 0
    for token, n in zip(expected, found.n_bytes[:-1], strict=True):
        # Of several tokens of one character the first has all its bytes.
        whole = len(text.encode()[: at + len(token)].decode(errors="ignore").encode()) == at + len(token)
        assert n == len(token) or not whole or text.encode()[at] >= 0x80
        at += len(token)
    assert found.n_bytes[-1] == 0


def _byte_alphabet():
    """GPT-2's characters for bytes, and the bytes: printable ones are themselves, the rest follow from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(rest))], printable + rest


def test_what_a_tokenizer_adds_around_texts_is_left_out():
    made = sentencepiece()
    assert made.encode("the river").ids[0] == 0
    assert tokens.plain(made).encode("the river").ids == made.encode("the river", add_special_tokens=False).ids
    assert len(tokens.plain(words_alone()).encode("the river " * 9).ids) == 18
