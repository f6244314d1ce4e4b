"""A small Chinese project: a vocabulary of characters as that of bert-base-chinese, a random BERT, titles of news."""

import itertools
import json

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SENTENCE = "我喜欢户外旅游"
TOPICS = {
    "体育": ["球队赢了比赛", "球员今天训练", "比赛明天开始"],
    "财经": ["股市今天上涨", "银行公布利率", "公司利润上涨"],
    "旅游": ["我喜欢户外旅游", "明天去海边旅游", "户外天气很好"],
}
PLACES = ["北京", "上海", "广州", "成都", "南京"]


def vocabulary():
    """Special tokens, digits, letters with their continuations, and each character of the texts once."""
    characters = dict.fromkeys("".join([*TOPICS, *itertools.chain(*TOPICS.values()), *PLACES, "，。？！"]))
    letters = "abcdefghijklmnopqrstuvwxyz"
    return [*SPECIAL, *"0123456789", *letters, *(f"##{each}" for each in letters), *characters]


def save_tokenizer(folder):
    """`vocab.txt` alone, from which transformers makes BERT's tokenizer, as the Chinese checkpoints have it."""
    from transformers import BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(vocabulary()) + "\n", encoding="utf-8")
    tokenizer = BertTokenizerFast.from_pretrained(folder, model_max_length=64)
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_backbone(folder):
    """A random BERT, 32 wide and two layers deep, with that vocabulary."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(3)
    BertModel(
        BertConfig(
            vocab_size=len(vocabulary()), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=64, max_position_embeddings=64, initializer_range=0.1,
        )
    ).save_pretrained(folder)  # fmt: skip
    save_tokenizer(folder)


def titles(count=90):
    """Titles and their topics."""
    names = list(TOPICS)
    for i in range(count):
        name = names[i % 3]
        yield f"{PLACES[i % 5]}{TOPICS[name][i // 3 % 3]}{i % 10}", name


def write_rows(path, count=90):
    """JSON lines of titles with their labels."""
    rows = (json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in titles(count))
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
