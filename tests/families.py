"""Tiny random backbones, of texts with a WordPiece tokenizer and of images, for tests that need a real model."""

import json
from types import SimpleNamespace

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    ConvNextConfig,
    ConvNextForImageClassification,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ResNetForImageClassification,
    RobertaConfig,
    RobertaModel,
    ViTConfig,
    ViTForImageClassification,
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
    built.save_inputs(folder, backbone)
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


def image_backbone(reference="torchvision:mobilenet_v3_small", *, size=64, weights="none", seed=0, **facts):
    """A backbone of images with random weights, small enough for a test where it takes any size."""
    torch.manual_seed(seed)
    unchanged = dict.fromkeys(("resize", "interpolation", "mean", "std"))
    wanted = SimpleNamespace(size=size, **(unchanged | facts))
    weights = weights if ":" in reference else None
    return model.load_backbone(reference, kind="image", weights=weights, preprocessing=wanted)


def image_classifier(reference="torchvision:mobilenet_v3_small", *, labels=LABELS, seed=1, **changes):
    """A classifier of images whose features depend visibly on the image, and the backbone it is made of."""
    settings = {
        "task": "image_classification", "problem_type": "single_label_classification", "dropout_prob": 0.0,
        "head_hidden_size": None,
    }  # fmt: skip
    head = {name: changes.pop(name) for name in list(changes) if name in (*settings, "target_scale")}
    backbone = image_backbone(reference, **changes)
    torch.manual_seed(seed)
    built = model.build(backbone, labels=labels, **(settings | head))
    model.update_batch_norms(built.backbone, [built.example(8)])
    return built, backbone


def save_image_model(family, folder):
    """A Hugging Face folder of a tiny random image classifier of transformers, for 32 x 32 pixels."""
    torch.manual_seed(0)
    facts = {"num_labels": 5, "initializer_range": 0.2}
    made = {
        "vit": lambda: ViTForImageClassification(ViTConfig(
            hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64, image_size=32,
            patch_size=8, **facts,
        )),
        "resnet": lambda: ResNetForImageClassification(ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], layer_type="basic", **facts
        )),
        "convnext": lambda: ConvNextForImageClassification(ConvNextConfig(
            hidden_sizes=[8, 16], depths=[1, 2], num_stages=2, layer_scale_init_value=1.0, **facts
        )),
    }[family]()  # fmt: skip
    made.save_pretrained(folder)
    processor = {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": 32, "width": 32},
        "resample": 3, "do_normalize": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3],
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder
