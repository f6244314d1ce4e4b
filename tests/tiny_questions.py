"""Questions about short Chinese texts, and a backbone small enough to learn to answer them in seconds."""

import json

PEOPLE = ("我", "你", "他", "小王", "老李", "张三", "妈妈", "医生")
TOWNS = ("北京", "上海", "广州", "南京", "成都", "天津", "西安", "大连")
DEEDS = ("工作", "学习")
ASKED = {"我": "你", "你": "我"}
"""Who is meant by another word where somebody else asks."""
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def rows(count=400, *, with_none=True):
    """Rows of question, context and answers: where, who, and where for a deed that the context does not tell."""
    for i in range(count):
        person, town, deed = PEOPLE[i % 8], TOWNS[(i // 8 + 3 * i) % 8], DEEDS[(i // 3) % 2]
        before, behind = (f"{i}：", "", f"今天是{i}号，")[i % 3], ("。", "", "。下雨了。")[i // 2 % 3]
        who, mark = ASKED.get(person, person), "？?"[i % 2]
        asked = [(f"{who}在哪里{deed}{mark}", town), (f"谁在{town}{deed}{mark}", person)]
        if with_none:
            asked.append((f"{who}在哪里{DEEDS[deed == DEEDS[0]]}{mark}", ""))
        question, answer = asked[(i // 2) % len(asked)]
        context = f"{before}{person}在{town}{deed}{behind}"
        answers = {"text": [answer], "answer_start": [context.index(answer)]} if answer else {}
        yield {"question": question, "context": context, "answers": answers or {"text": [], "answer_start": []}}


def write_rows(path, given):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in given), encoding="utf-8")


def save_backbone(folder, *, hidden=64, max_positions=64):
    """A random BERT with a vocabulary of characters, as bert-base-chinese has one."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    characters = sorted({c for row in rows() for c in row["question"] + row["context"]})
    words = [*SPECIAL, *characters, *"?!.,abcdefghijklmnopqrstuvwxyz"]
    words = list(dict.fromkeys([*words, *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789")]))
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    torch.manual_seed(5)
    BertModel(
        BertConfig(
            vocab_size=len(words), hidden_size=hidden, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=2 * hidden, max_position_embeddings=max_positions, initializer_range=0.1,
        )
    ).save_pretrained(folder)  # fmt: skip
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)  # fmt: skip


RECIPE = {
    "name": "towns",
    "task": "question_answering",
    "data": {"train": "rows.jsonl", "validation": 0.2, "test": 0.2},
    "model": {"backbone": "backbone", "max_length": 40, "stride": 6, "max_answer_length": 4},
    "finetune": {"strategy": "full", "epochs": 8, "batch_size": 16, "learning_rate": 0.003, "report_to": []},
    "quantize": {"schemes": ["int8_dynamic"]},
    "budget": {"max_metric_drop": 0.9},
    "bench": {"length": [16], "percentile": 50, "duration_s": 0.5},
}
