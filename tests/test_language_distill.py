"""The stage `distill` of a language model."""

import json
import math

import pytest
import torch
from tiny_language import checkpoint
from transformers import AutoModelForCausalLM

from tledge import stages
from tledge.artifacts import read_json
from tledge.errors import ModelError
from tledge.recipe.schema import Recipe
from tledge.stages import Job
from tledge.stages.rows.blocks import MOST, some

TEXT = "".join(f"The ferry {i % 7} leaves the harbour, and miller {i % 5} sings.\n" for i in range(240))


@pytest.fixture
def taught(tmp_path, monkeypatch):
    """`taught(distill={...})` is a run whose stages up to `distill` are done."""
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    checkpoint(tmp_path / "model", "gpt2", initializer_range=0.02)

    def make(**distill):
        training = {"epochs": 1, "batch_size": 8, "learning_rate": 0.005, "report_to": []}
        job = Job(
            Recipe(
                name="tiny",
                task="causal_lm",
                data={"train": "text.txt", "validation": 0.1, "test": 0.1},
                model={"backbone": "model", "max_length": 32},
                finetune={"strategy": "full", **training},
                distill={**training, **distill},
            ),
            tmp_path / "run",
        )
        for name in ("data", "train", "distill"):
            folder = job.stage(name)
            folder.mkdir(parents=True, exist_ok=True)
            stages.load(name).stage(job, folder)
        return read_json(job.stage("distill") / "distill.json"), job

    return make


def test_a_student_of_one_layer_learns_with_and_without_its_teacher(taught):
    facts, job = taught(seeds=2)
    teacher, alone, student = facts["contenders"]
    assert [row["name"] for row in facts["contenders"]] == ["teacher", "student alone", "student with teacher"]
    for row in (teacher, alone, student):
        assert row["mean"]["loss"] < 0.9 * math.log(320)
        if len(row["metrics"]) == 1:
            assert row["mean"]["perplexity"] == pytest.approx(math.exp(row["mean"]["loss"]))
    assert facts["losses"] == {"soft_targets": 1.0, "hard_labels": 0.5, "hidden_cosine": 1.0}
    assert {gain["metric"] for gain in facts["gains"]} == {"loss", "perplexity", "bits_per_byte"}
    config = json.loads((job.checkpoint / "config.json").read_text())
    assert config["n_layer"] == 1
    assert AutoModelForCausalLM.from_pretrained(job.checkpoint).num_parameters() == facts["parameters"]


def test_a_shape_makes_a_student_too(taught):
    facts, job = taught(student={"shape": {"n_layers": 1, "hidden_size": 16, "n_heads": 2}}, baseline=False)
    assert facts["student"] == "n_layers 1, hidden_size 16, n_heads 2"
    assert json.loads((job.checkpoint / "config.json").read_text())["n_embd"] == 16


def test_another_vocabulary_is_refused_by_name(taught, tmp_path):
    checkpoint(tmp_path / "other", "gpt2", vocab_size=321)
    with pytest.raises(ModelError) as error:
        taught(student={"backbone": str(tmp_path / "other")}, baseline=False)
    assert "has another vocabulary (321 tokens) than the teacher (320 tokens)" in str(error.value)
    assert "\n" not in str(error.value)


def test_of_many_test_blocks_some_are_scored_from_all_over():
    blocks = torch.arange(1000).reshape(-1, 1).numpy()
    chosen = some(blocks)
    assert (len(chosen), chosen[0, 0], chosen[-1, 0]) == (MOST, 0, 999)
    assert some(blocks[:5]).tolist() == blocks[:5].tolist()
