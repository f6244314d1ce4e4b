"""Tiny random backbones of four families, with a WordPiece tokenizer, for tests that need a real transformers model."""

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from tledge import inputs, model

torch.set_num_threads(1)  # threads cost more than they give on tensors this small
FAMILIES = ("bert", "distilbert", "roberta", "gpt2")
GOOD = ("warm", "bright", "lovely", "calm", "fresh")
BAD = ("cold", "dull", "awful", "noisy", "stale")
PLAIN = ("the", "room", "is", "and", "was", "tea", "with", "a", "very", "garden", "light", "we")
TEXTS = (
    "the room is warm",
    "awful",
    "a garden with bright light and fresh tea and a calm room",
    "we was noisy and dull",
    "lovely lovely tea",
    "the tea was cold and the room is stale and very dull",
)
LABELS = ("bad", "good")


def vocabulary(family):
    special = {"gpt2": ["<|end|>", "<unk>"], "roberta": ["<s>", "<pad>", "</s>", "<unk>"]}.get(
        family, ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    )
    letters = "abcdefghilmnorstuvwy"
    return special + list(GOOD + BAD + PLAIN) + [c for c in letters if c != "a"] + [f"##{c}" for c in letters]


def tokenizer(family):
    """A WordPiece tokenizer of about 60 pieces; that of `gpt2` has no padding token, as the original."""
    words = {word: i for i, word in enumerate(vocabulary(family))}
    unknown = "[UNK]" if "[UNK]" in words else "<unk>"
    made = Tokenizer(models.WordPiece(words, unk_token=unknown))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    names = ["input_ids", "attention_mask"]
    if family == "gpt2":
        return PreTrainedTokenizerFast(
            tokenizer_object=made, unk_token="<unk>", eos_token="<|end|>", model_input_names=names
        )
    first, last, pad = ("<s>", "</s>", "<pad>") if family == "roberta" else ("[CLS]", "[SEP]", "[PAD]")
    made.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(first, words[first]), (last, words[last])]
    )
    if family == "bert":
        names.insert(1, "token_type_ids")
    return PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token=unknown, pad_token=pad, cls_token=first, sep_token=last,
        model_input_names=names,
    )  # fmt: skip


def module(family, *, n_layers=3, seed=0, **changes):
    """A random model whose features depend visibly on the text: its weights are ten times larger than is usual."""
    torch.manual_seed(seed)
    size = len(vocabulary(family))
    if family == "gpt2":
        facts = {"n_embd": 32, "n_layer": n_layers, "n_head": 2, "n_positions": 64, "initializer_range": 0.2}
        ends = {"bos_token_id": 0, "eos_token_id": 0}
        return GPT2LMHeadModel(GPT2Config(vocab_size=size, **(facts | ends | changes))).eval()
    if family == "distilbert":
        facts = {"dim": 32, "n_layers": n_layers, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": 64}
        return DistilBertModel(DistilBertConfig(vocab_size=size, initializer_range=0.2, **(facts | changes))).eval()
    facts = {
        "hidden_size": 32, "num_hidden_layers": n_layers, "num_attention_heads": 2, "intermediate_size": 64,
        "max_position_embeddings": 64, "initializer_range": 0.2,
    }  # fmt: skip
    if family == "roberta":
        facts |= {"max_position_embeddings": 66, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
        return RobertaModel(RobertaConfig(vocab_size=size, **(facts | changes))).eval()
    return BertModel(BertConfig(vocab_size=size, **(facts | changes))).eval()


def save(family, folder, **changes):
    """A Hugging Face model folder of such a backbone."""
    module(family, **changes).save_pretrained(folder)
    tokenizer(family).save_pretrained(folder)
    return folder


def classifier(folder, *, pooling="auto", max_length=24, dropout_prob=0.0, head_hidden_size=None, seed=1):
    """A classifier on the backbone of a folder, with a head of visible size; and the backbone it is made of."""
    torch.manual_seed(seed)
    backbone = model.load_backbone(str(folder))
    built = model.build(
        backbone,
        task="text_classification",
        problem_type="single_label_classification",
        labels=LABELS,
        pooling=backbone.pooling if pooling == "auto" else pooling,
        max_length=max_length,
        dropout_prob=dropout_prob,
        head_hidden_size=head_hidden_size,
    )
    return built, backbone


def encoder(built, backbone, folder):
    """The preprocessing of a classifier, by way of the files that it is saved with."""
    model.save_inputs(built, backbone, folder)
    return inputs.load("text", folder)


def rows(count, seed=0):
    """Short texts of plain words with one telling word, and whether it is a good one."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, count)
    texts = []
    for target in targets:
        words = list(rng.choice(PLAIN, rng.integers(1, 8)))
        words.insert(int(rng.integers(0, len(words) + 1)), str(rng.choice(GOOD if target else BAD)))
        texts.append(" ".join(words))
    return model.Rows(texts, targets.astype(np.int64))
