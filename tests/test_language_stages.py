"""The stages `data` and `train` of a language model, from a text file to a checkpoint that loads."""

import dataclasses
import json
import math
import re

import numpy as np
import pytest
import torch
from tiny_language import checkpoint, tiny_gpt2, tiny_tokenizer
from transformers import AutoModelForCausalLM

from tledge import pipeline, stages
from tledge.data import open_blocks
from tledge.errors import ModelError
from tledge.evaluate import score
from tledge.model import load_language
from tledge.recipe.schema import Recipe
from tledge.stages import Job
from tledge.stages.rows.blocks import BlockInput
from tledge.tasks import causal_lm

TEXT = "The ferry leaves the harbour, and the miller sings.\n" * 300


@pytest.fixture
def job(tmp_path, monkeypatch):
    """`job(model={...}, finetune={...})` is a run in a folder that holds `text.txt` and a checkpoint `model`."""
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    checkpoint(tmp_path / "model", "gpt2", initializer_range=0.02)

    def make(**sections):
        settings = {
            "name": "tiny",
            "task": "causal_lm",
            "data": {"train": "text.txt", "validation": 0.1, "test": 0.1},
            "model": {"backbone": "model", "max_length": 32},
            "finetune": {"strategy": "full", "epochs": 1, "batch_size": 8, "learning_rate": 0.005, "report_to": []},
        }
        for name, value in sections.items():
            settings[name] = {**settings[name], **value} if isinstance(value, dict) and name in settings else value
        return Job(Recipe(**settings), tmp_path / "run")

    return make


def run(job, name):
    folder = job.stage(name)
    folder.mkdir(parents=True, exist_ok=True)
    return stages.load(name).stage(job, folder)


def trained(job):
    return json.loads((job.stage("train") / "train.json").read_text())


def validation_loss(job):
    module = AutoModelForCausalLM.from_pretrained(job.checkpoint).eval()

    def logits(feeds):
        with torch.inference_mode():
            return {"logits": module(torch.from_numpy(feeds["input_ids"])).logits.numpy()}

    blocks = open_blocks(job.stage("data"))
    rate = blocks.bytes_per_token["validation"]
    found = score(logits, BlockInput(rate), blocks.validation, blocks.validation, causal_lm, batch_size=16)
    return found.metrics


def test_a_text_file_becomes_a_model_that_has_learnt_it(job):
    this = job()
    line = run(this, "data")
    blocks = open_blocks(this.stage("data"))
    assert line == (
        f"{blocks.train.size:,} train tokens, {blocks.validation.size:,} validation tokens, "
        f"{blocks.test.size:,} test tokens in blocks of 32"
    )
    line = run(this, "train")
    record = trained(this)
    (phase,) = record["phases"]
    assert line.startswith(f"full, validation loss {phase['best_metric']:.3f} at epoch 1, ")
    assert re.search(r" \d+ rows/s, \d+% of the time waiting for data$", line)
    assert phase["best_metric"] < 0.75 * math.log(320)
    found = validation_loss(this)
    assert found["loss"] == pytest.approx(phase["best_metric"], rel=1e-4)
    assert record["parameters"] == record["trained_parameters"] == sum(p.numel() for p in tiny_gpt2().parameters())
    assert record["backbone"] == "model"
    assert len(record["backbone_sha256"]) == 64
    assert (record["pooling"], record["input"], record["notes"]) == ("", {}, [])
    assert (
        load_language(str(this.checkpoint)).tokenizer("The ferry").input_ids == tiny_tokenizer()("The ferry").input_ids
    )


@pytest.mark.parametrize(
    "finetune",
    [{"strategy": "partial", "unfreeze": 1}, {"strategy": "lora", "lora": {"rank": 4, "targets": ["c_attn"]}}],
    ids=lambda settings: settings["strategy"],
)
def test_parts_and_adapters_train_and_leave_a_plain_checkpoint(job, finetune):
    this = job(finetune=finetune, metric="bits_per_byte")
    run(this, "data")
    line = run(this, "train")
    record = trained(this)
    assert 0 < record["trained_parameters"] < record["parameters"] == sum(p.numel() for p in tiny_gpt2().parameters())
    found = validation_loss(this)
    assert found["loss"] < math.log(320)
    assert record["phases"][0]["best_metric"] == pytest.approx(found["bits_per_byte"], rel=1e-4)
    assert line.startswith(f"{finetune['strategy']}, validation bits_per_byte ")


def test_a_model_is_taken_as_it_is(job):
    this = job(finetune={"strategy": "none"})
    run(this, "data")
    assert run(this, "train") == "the checkpoint is taken as it is"
    record = trained(this)
    assert (record["phases"], record["trained_parameters"], record["notes"]) == ([], 0, ["taken as it is"])
    ids = torch.arange(12)[None]
    with torch.inference_mode():
        ours = load_language(str(this.checkpoint)).module(ids).logits
        theirs = load_language("model").module(ids).logits
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_random_weights_learn_with_the_context_of_their_blocks(job):
    shape = {"n_layers": 1, "hidden_size": 32, "n_heads": 2, "intermediate_size": 48}
    this = job(model={"backbone": "fresh:llama", "shape": shape, "tokenizer": "model", "max_length": 24})
    run(this, "data")
    run(this, "train")
    config = json.loads((this.checkpoint / "config.json").read_text())
    assert (config["max_position_embeddings"], config["vocab_size"], config["num_hidden_layers"]) == (24, 320, 1)
    assert json.loads((this.checkpoint / "tokenizer_config.json").read_text())["model_max_length"] == 24
    assert validation_loss(this)["loss"] < 0.8 * math.log(320)


def test_training_twice_gives_the_same_weights_and_takes_up_what_is_whole(job):
    this = job()
    run(this, "data")
    run(this, "train")
    first = (this.checkpoint / "model.safetensors").read_bytes()
    run(this, "train")  # its training is whole and only loaded
    assert (this.checkpoint / "model.safetensors").read_bytes() == first


def test_a_block_longer_than_the_context_is_refused_before_anything_is_read(job):
    this = job(model={"max_length": 65}, data={"train": "gone.txt"})
    with pytest.raises(ModelError, match=r"model.max_length: got 65, but 'model' reads at most 64 tokens"):
        run(this, "data")


def test_blocks_of_another_tokenizer_or_length_are_refused(job, tmp_path):
    this = job()
    run(this, "data")
    shorter = dataclasses.replace(this, recipe=job(model={"max_length": 16}).recipe)
    with pytest.raises(ModelError, match=r"blocks of 32 tokens were made with another tokenizer or model.max_length"):
        run(shorter, "train")
    other = tiny_tokenizer()
    other.backend_tokenizer.add_tokens(["ferry"])
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(ModelError, match="the embedding of 'model' has 320"):
        run(dataclasses.replace(this, recipe=job(model={"tokenizer": "other"}).recipe), "train")


def test_what_makes_other_blocks_makes_the_stage_data_run_again(job, tmp_path):
    key = pipeline._plan("data", job().recipe, {}).key
    assert pipeline._plan("data", job(finetune={"epochs": 5}, model={"pooling": "mean"}).recipe, {}).key == key
    for change in ({"max_length": 16}, {"tokenizer": "model"}, {"revision": "v2"}, {"backbone": "other"}):
        assert pipeline._plan("data", job(model=change).recipe, {}).key != key
    (tmp_path / "model" / "tokenizer.json").write_text("{}")
    assert pipeline._plan("data", job().recipe, {}).key != key


def test_keys_about_labels_are_refused(job):
    for key, value in (("class_weights", "balanced"), ("head_learning_rate", 0.1)):
        this = job(finetune={key: value})
        if not this.stage("data").exists():
            run(this, "data")
        with pytest.raises(ModelError, match=f"finetune.{key}: a language model has neither labels nor a new head"):
            run(this, "train")


def test_the_same_seed_packs_the_same_blocks(job):
    this = job()
    run(this, "data")
    first = np.array(open_blocks(this.stage("data")).train)
    run(this, "data")
    np.testing.assert_array_equal(open_blocks(this.stage("data")).train, first)
