"""Chinese with a vocabulary of characters: ids of a sentence, a training, and what an English one makes of it."""

import json

import pytest
import tiny_chinese
from transformers import AutoTokenizer

from tledge import Predictor, inputs, pipeline
from tledge.artifacts import read_json
from tledge.errors import DataError
from tledge.recipe import load_recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chinese")
    tiny_chinese.save_backbone(folder)
    return folder


def recipe(tmp_path, backbone, **changes):
    tiny_chinese.write_rows(tmp_path / "titles.jsonl")
    settings = {
        "name": "titles",
        "task": "text_classification",
        "data": {"train": "titles.jsonl", "validation": 0.2, "test": 0.2},
        "model": {"backbone": str(backbone), "max_length": 16, "pooling": "mean"},
        "finetune": {"strategy": "full", "epochs": 8, "batch_size": 8, "learning_rate": 0.003, "report_to": []},
        "quantize": {"schemes": ["int8_dynamic"]},
        "budget": {"max_metric_drop": 0.9},
        "bench": {"length": [8], "percentile": 50, "duration_s": 0.5},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(settings | changes, ensure_ascii=False), encoding="utf-8")
    return load_recipe(tmp_path / "recipe.yaml")


def test_each_character_is_a_token(folder):
    known = {token: number for number, token in enumerate(tiny_chinese.vocabulary())}
    ours = inputs.load("text", folder).encode([tiny_chinese.SENTENCE])
    assert ours["input_ids"].tolist() == [[2, *(known[each] for each in "我喜欢户外旅游"), 3]]
    theirs = AutoTokenizer.from_pretrained(folder)([tiny_chinese.SENTENCE])
    assert ours["input_ids"].tolist() == theirs["input_ids"]
    assert ours["attention_mask"].tolist() == theirs["attention_mask"]


def test_characters_mixed_with_other_scripts_and_unknown_ones(folder):
    known = {token: number for number, token in enumerate(tiny_chinese.vocabulary())}
    ids = inputs.load("text", folder).encode(["我喜欢 GPS，旅游2天 龘"])["input_ids"][0].tolist()
    expected = ["[CLS]", *"我喜欢", "g", "##p", "##s", "，", *"旅游", "[UNK]", "[UNK]", "[SEP]"]
    assert ids == [known[each] for each in expected[:-3]] + [known["2"], known["天"], 1, 3]


def test_the_characters_of_unknown_tokens_are_counted(folder):
    texts = inputs.load("text", folder)
    assert texts.unknown_characters(["我喜欢龘", "龘 靐 旅游", tiny_chinese.SENTENCE]) == {"龘": 2, "靐": 1}
    pairs = inputs.load("text_pair", folder)
    assert pairs.unknown_characters([("旅游靐", "a 龘"), ("我", "龘")]) == {"龘": 2, "靐": 1}


def test_titles_are_learnt_and_answered_on_the_device(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = []
    run = pipeline.run(recipe(tmp_path, folder), tmp_path / "run", until="bundle", say=lines.append)
    assert not [line for line in lines if line.startswith("warning")]
    assert read_json(run / "train" / "train.json")["unknown_tokens"] == 0
    predictor = Predictor.load(run / "bundle", variant="fp32")
    right = [predictor.predict(text)["label"] == label for text, label in tiny_chinese.titles(30)]
    assert sum(right) > 25


def test_an_english_vocabulary_is_refused_for_chinese(tiny_backbone, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = recipe(tmp_path, tiny_backbone)
    with pytest.raises(DataError, match=r"100\.0% of the tokens .* more than model\.max_unknown: 0\.3; take a back"):
        pipeline.run(asked, tmp_path / "run", until="train")
    lines = []
    wanted = load_recipe(tmp_path / "recipe.yaml", ["model.max_unknown=1", "finetune.epochs=1"])
    pipeline.run(wanted, tmp_path / "run", until="train", say=lines.append)
    assert any(line.startswith("warning: 100.0%") and "56 different ones" in line for line in lines)
