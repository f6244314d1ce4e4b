"""Tiny random encoders with a head for hidden words, of several families, and texts for them."""

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    ElectraConfig,
    ElectraForMaskedLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)

SUBJECTS = ["the cat", "the dog", "a ferry", "the miller", "a song"]
VERBS = ["sees", "hears", "takes", "likes"]
OBJECTS = ["the river", "a bridge", "the corn", "my house", "the lamp"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, ".", *dict.fromkeys(" ".join([*SUBJECTS, *VERBS, *OBJECTS, "##s"]).split())]
SIZES = {"vocab_size": len(WORDS), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
MORE = {"intermediate_size": 64, "max_position_embeddings": 66, "initializer_range": 0.1}
OF_ROBERTA = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "type_vocab_size": 1}
MODELS = {
    "bert": lambda: BertForMaskedLM(BertConfig(**SIZES, **MORE)),
    "roberta": lambda: RobertaForMaskedLM(RobertaConfig(**SIZES, **MORE, **OF_ROBERTA)),
    "electra": lambda: ElectraForMaskedLM(ElectraConfig(**SIZES, **MORE, embedding_size=16)),
    "distilbert": lambda: DistilBertForMaskedLM(
        DistilBertConfig(
            vocab_size=len(WORDS), dim=32, n_layers=2, n_heads=2, hidden_dim=64, max_position_embeddings=66,
            initializer_range=0.1,
        )
    ),
    "modernbert": lambda: ModernBertForMaskedLM(
        ModernBertConfig(
            **SIZES, intermediate_size=64, max_position_embeddings=66, pad_token_id=0, bos_token_id=2, eos_token_id=3,
            cls_token_id=2, sep_token_id=3,
        )
    ),
}  # fmt: skip


def texts(count=200):
    """Sentences whose words follow from one another now and then."""
    return [f"{SUBJECTS[i % 5]} {VERBS[i % 4]} {OBJECTS[(i + i // 20) % 5]} ." for i in range(count)]


def tiny_tokenizer(**changes):
    """A tokenizer of the words of the texts."""
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **(names | {"mask_token": "[MASK]", "model_max_length": 64} | changes)
    )


def checkpoint(folder, family="bert", seed=0):
    """A folder with a random model of the family and its tokenizer."""
    torch.manual_seed(seed)
    MODELS[family]().save_pretrained(folder)
    types = ["token_type_ids"] if family in ("bert", "electra") else []
    tiny_tokenizer(model_input_names=["input_ids", "attention_mask", *types]).save_pretrained(folder)
    return folder


def write_project(folder, backbone, **changes):
    """`texts.txt` and `recipe.yaml`; gives the recipe's path."""
    import json

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "texts.txt").write_text("\n".join(texts()) + "\n", encoding="utf-8")
    recipe = {
        "name": "masked",
        "task": "masked_lm",
        "data": {"train": "texts.txt", "validation": 0.2, "test": 0.2},
        "model": {"backbone": str(backbone), "max_length": 32},
        "finetune": {
            "strategy": "full", "epochs": 8, "batch_size": 4, "learning_rate": 0.003, "report_to": [],
        },
        "quantize": {"schemes": ["int8_dynamic"]},
        "budget": {"max_metric_drop": 0.5},
        "bench": {"length": [16], "percentile": 50, "duration_s": 0.5},
    }  # fmt: skip
    for key, value in changes.items():
        recipe[key] = {**recipe.get(key, {}), **value} if isinstance(value, dict) else value
    (folder / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    return folder / "recipe.yaml"
