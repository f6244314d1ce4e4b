"""Training texts that the vocabulary does not know: refused, said, and told by what is read from the run."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_project

from tledge import evidence, inputs, pipeline
from tledge.artifacts import read_json
from tledge.errors import DataError
from tledge.recipe import load_recipe
from tledge.stages import Job, vocabulary

HEAD = "text,label\n"


def written(folder, backbone, texts):
    path = tiny_project.write_project(folder, backbone)
    rows = [f"{text.format(chr(0x4E00 + i))},{'light' if i % 2 else 'heat'}" for i, text in enumerate(texts * 20)]
    (folder / "rows.csv").write_text(HEAD + "\n".join(rows), encoding="utf-8")
    return path


def trained(path, *overrides):
    lines = []
    recipe = load_recipe(path, ["finetune.epochs=1", f"data.train={path.parent / 'rows.csv'}", *overrides])
    return pipeline.run(recipe, path.parent / "run", until="train", say=lines.append), lines


def test_texts_of_another_language_are_refused_unless_they_are_wanted(tmp_path, tiny_backbone, feature_cache):
    path = written(tmp_path / "p", tiny_backbone, ["{}火车", "很好 {}"])
    with pytest.raises(DataError) as error:
        trained(path)
    assert re.fullmatch(
        r"100\.0% of the tokens of the training texts are unknown to the vocabulary of \S+ "
        r"\(\d+ characters, \d+ different ones, such as '.', '.', '.', '.', '.'\), more than "
        r"model\.max_unknown: 0\.3; take a backbone whose tokenizer knows the language, or raise model\.max_unknown",
        str(error.value),
    )
    run, lines = trained(path, "model.max_unknown=1")
    assert read_json(run / "train" / "train.json")["unknown_tokens"] == 1
    assert [line.partition(":")[0] for line in lines] == ["data", "warning", "train"]


def test_some_unknown_tokens_are_said(tmp_path, tiny_backbone, feature_cache):
    run, lines = trained(written(tmp_path / "p", tiny_backbone, ["lamp bright {}", "the stove now {}"]))
    share = read_json(run / "train" / "train.json")["unknown_tokens"]
    assert 0.25 < share < 0.34, "one of three tokens, or one of four"
    assert lines[1].startswith(
        f"warning: {share:.1%} of the tokens of the training texts are unknown to the vocabulary"
    )
    assert evidence._unknown(run / "train" / "train.json") == (
        f"{share:.1%} of the tokens of the training texts are unknown to the vocabulary, and alike to the model.",
    )


def test_nothing_is_said_of_known_tokens(tmp_path, tiny_backbone, feature_cache):
    run, lines = trained(tiny_project.write_project(tmp_path / "p", tiny_backbone))
    assert read_json(run / "train" / "train.json")["unknown_tokens"] == 0
    assert [line.partition(":")[0] for line in lines] == ["data", "train"]
    assert evidence._unknown(run / "train" / "train.json") == ()


def test_a_vocabulary_of_bytes_knows_everything(tmp_path):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE({each: i for i, each in enumerate(pre_tokenizers.ByteLevel.alphabet())}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<pad>"])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", model_max_length=64).save_pretrained(
        tmp_path
    )
    assert inputs.load("text", tmp_path).unknown_share(["很好的火车", ""]) == 0


def test_a_unigram_vocabulary_names_its_unknown_token_by_number(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = [("<pad>", 0.0), ("<unk>", 0.0), ("lamp", -1.0), ("bright", -2.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=1, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", model_max_length=64).save_pretrained(
        tmp_path
    )
    assert inputs.load("text", tmp_path).unknown_share(["lamp 火", "lamp bright"]) == 0.25


@pytest.mark.parametrize(
    ("unknown", "end", "found"),
    [(3, 1, 0.25), (None, 1, None), (1, 1, None)],
    ids=["a token of its own", "none", "the token that ends texts"],
)
def test_blocks_of_tokens_are_looked_at_too(unknown, end, found, tmp_path, tiny_backbone):
    lines = []
    path = tiny_project.write_project(tmp_path / "p", tiny_backbone)
    job = Job(load_recipe(path), tmp_path / "run", say=lines.append)
    tokenizer = SimpleNamespace(unk_token_id=unknown, eos_token_id=end, bos_token_id=None)
    blocks = np.array([[3, 1, 2, 4], [1, 1, 3, 5]] * 5, np.int32)
    assert vocabulary.unknown_share_of(job, blocks, tokenizer) == found
    assert len(lines) == (found is not None)
    strict = Job(load_recipe(path, ["model.max_unknown=0.1"]), tmp_path / "run")
    if found is not None:
        with pytest.raises(DataError, match=r"25\.0% of the tokens"):
            vocabulary.unknown_share_of(strict, blocks, tokenizer)
