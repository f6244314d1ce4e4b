"""What graphs are timed beside in a run: torch eager, and the teacher before it where a student was distilled."""

import json
import shutil

import numpy as np
import pytest

from tledge import evidence, inputs, pipeline
from tledge.artifacts import read_json
from tledge.bench import latency
from tledge.recipe import load_recipe
from tledge.report import html
from tledge.stages.runs.one_pass import references

KEYS = [
    "distill={}", "distill.epochs=2", "distill.batch_size=8", "distill.learning_rate=0.001", "distill.report_to=[]",
    "bench.duration_s=0.5",
]  # fmt: skip


def test_without_a_student_it_is_the_checkpoint_alone(finished):
    found = references(finished.run, finished.run / "bundle")
    assert list(found) == ["torch eager"]
    feeds = inputs.load("text", finished.run / "bundle").dummy(2, 8)
    assert found["torch eager"](1)(feeds)["logits"].shape == (2, 3)


@pytest.fixture
def with_student(run_copy):
    """A run folder whose student is a copy of its teacher."""
    shutil.copytree(run_copy / "train" / "checkpoint", run_copy / "distill" / "checkpoint")
    return run_copy


def test_the_teacher_comes_first_and_takes_the_same_tensors(with_student):
    found = references(with_student, with_student / "bundle")
    assert list(found) == ["teacher in torch eager", "torch eager"]
    feeds = inputs.load("text", with_student / "bundle").dummy(2, 8)
    teacher, student = (each(1)(feeds)["logits"] for each in found.values())
    np.testing.assert_array_equal(teacher, student)


def test_a_teacher_with_a_tokenizer_of_its_own_takes_as_many_tensors_of_its_own(with_student):
    path = with_student / "train" / "checkpoint" / "tokenizer_config.json"
    path.write_text(json.dumps(read_json(path) | {"model_max_length": 6}), encoding="utf-8")
    teacher, student = references(with_student, with_student / "bundle").values()
    own = inputs.load("text", with_student / "train" / "checkpoint")
    feeds = inputs.load("text", with_student / "bundle").dummy(2, 8)
    np.testing.assert_array_equal(teacher(1)(feeds)["logits"], student(1)(own.dummy(2, 6))["logits"])
    assert not np.array_equal(teacher(1)(feeds)["logits"], student(1)(feeds)["logits"])


def test_a_distilled_run_is_held_against_its_teacher(run_copy, monkeypatch):
    monkeypatch.setattr(latency, "MIN_ROUNDS", 10)
    lines = []
    recipe = load_recipe(run_copy / "recipe.yaml", KEYS)
    pipeline.run(recipe, run_copy, say=lines.append)
    told = next(line for line in lines if line.startswith("bench: "))
    assert "as fast as the teacher in torch eager" in told
    bench = read_json(run_copy / "bench" / "bench.json")
    rows = {row["candidate"]: row["against"] for row in bench["latencies"]}
    assert rows.keys() == {"fp32", "int8_dynamic", "teacher in torch eager", "torch eager"}
    assert rows["teacher in torch eager"] is None
    assert {row["reference"] for row in rows.values() if row} == {"teacher in torch eager"}
    facts = evidence.facts(recipe, run_copy)
    assert [each.name for each in facts.distillation.contenders] == ["teacher", "student alone", "student with teacher"]
    assert facts.distillation.curve
    assert "distill" in facts.stage_seconds
    assert '<section id="distillation">' in html(facts)
    assert "## Distillation" in (run_copy / "bundle" / "README.md").read_text(encoding="utf-8")
