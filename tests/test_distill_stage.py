"""The stage `distill` on a project of seconds: the table, what is kept, what goes on after a kill."""

import json
import shutil

import pytest
import tiny_project

from tledge import pipeline
from tledge.artifacts import read_json
from tledge.errors import ModelError, RecipeError
from tledge.recipe import load_recipe

FAST = ["distill.epochs=2", "distill.batch_size=8", "distill.learning_rate=0.001", "distill.report_to=[]"]


def go_on(run, *overrides, until="distill"):
    lines = []
    recipe = load_recipe(run / "recipe.yaml", ["distill={}", *FAST, *overrides])
    pipeline.run(recipe, run, until=until, say=lines.append)
    return dict(line.split(": ", 1) for line in lines)


@pytest.fixture(scope="module")
def taught(finished, tmp_path_factory):
    """A run with a student of the teacher's first layer, trained with and without it from two seeds."""
    run = tmp_path_factory.mktemp("distill") / "run"
    shutil.copytree(finished.run, run)
    return run, go_on(run, "distill.seeds=2")


def found(run):
    return read_json(run / "distill" / "distill.json")


def test_the_table_has_teacher_student_alone_and_student_with_teacher(taught):
    run, lines = taught
    facts = found(run)
    rows = facts["contenders"]
    assert [row["name"] for row in rows] == ["teacher", "student alone", "student with teacher"]
    assert [len(row["metrics"]) for row in rows] == [1, 2, 2]
    assert rows[1]["seeds"] == rows[2]["seeds"] == [42, 43]
    assert facts["parameters"] < facts["teacher_parameters"]
    assert facts["layers"] == [0]
    for row in rows[1:]:
        assert row["mean"]["accuracy"] == pytest.approx(sum(m["accuracy"] for m in row["metrics"]) / 2)
        assert row["low"]["accuracy"] <= row["mean"]["accuracy"] <= row["high"]["accuracy"]
    gain = next(each for each in facts["gains"] if each["metric"] == "accuracy")
    assert gain["mean"] == pytest.approx(rows[2]["mean"]["accuracy"] - rows[1]["mean"]["accuracy"])
    assert "student alone" in lines["distill"]


def test_the_teacher_is_scored_as_the_run_scored_it(taught, finished):
    teacher = found(taught[0])["contenders"][0]["metrics"][0]
    fp32 = read_json(finished.run / "quantize" / "variants.json")[0]["test_metrics"]
    assert teacher["accuracy"] == pytest.approx(fp32["accuracy"])


def test_with_and_without_the_teacher_the_same_steps_are_made(taught):
    facts = found(taught[0])
    assert facts["phases"][0]["steps"] == facts["alone_phases"][0]["steps"] > 0
    assert set(facts["losses"]) == {"soft_targets", "hard_labels", "hidden_cosine"}
    assert facts["layer_map"] == [1]


def test_only_the_checkpoint_and_the_facts_are_left(taught):
    assert {path.name for path in (taught[0] / "distill").iterdir()} == {
        "checkpoint", "distill.json", "test_metrics.json",
    }  # fmt: skip


def test_the_student_is_what_is_exported(taught):
    run, _ = taught
    lines = go_on(run, "distill.seeds=2", until="bundle")
    assert lines["train"] == lines["distill"] == "already done"
    assert (run / "export" / "model.onnx").stat().st_size < 0.8 * (
        run / "train" / "checkpoint" / "model.safetensors"
    ).stat().st_size
    config = json.loads((run / "bundle" / "config.json").read_text())
    assert config["num_hidden_layers"] == 1


def test_without_a_baseline_there_is_no_gain(finished, tmp_path):
    shutil.copytree(finished.run, tmp_path / "run")
    go_on(tmp_path / "run", "distill.baseline=false", "distill.epochs=1")
    facts = found(tmp_path / "run")
    assert [row["name"] for row in facts["contenders"]] == ["teacher", "student with teacher"]
    assert facts["gains"] == []


def test_a_cached_teacher_has_a_row_of_that_name(finished, tmp_path):
    shutil.copytree(finished.run, tmp_path / "run")
    go_on(tmp_path / "run", "distill.teacher_cache=true", "distill.epochs=1", "distill.baseline=false")
    facts = found(tmp_path / "run")
    assert facts["contenders"][1]["name"] == "student with cached teacher"
    assert set(facts["losses"]) == {"soft_targets", "hard_labels"}


@pytest.mark.slow
def test_a_budget_trains_what_fits_and_keeps_the_ladder(finished, tmp_path):
    shutil.copytree(finished.run, tmp_path / "run")
    go_on(
        tmp_path / "run",
        "distill.student={budget: {size_mb: 0.2, train: 2}}",
        "distill.baseline=false",
        "distill.epochs=1",
    )
    facts = found(tmp_path / "run")
    assert [rung["chosen"] for rung in facts["ladder"]].count(True) == 1
    assert all(rung["trained"] <= rung["fits"] for rung in facts["ladder"])
    assert len(facts["ladder"]) > 1
    chosen = next(rung for rung in facts["ladder"] if rung["chosen"])
    assert facts["student"] == chosen["name"]


def test_rows_without_a_label_join_in(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished.run, run)
    (tmp_path / "more.csv").write_text("text\n" + "".join(f"lamp glow please {c} {d}\n" for c in "abcd" for d in "efg"))
    go_on(run, f"data.unlabelled={tmp_path / 'more.csv'}", "distill.epochs=1", "distill.baseline=false")
    assert read_json(run / "data" / "data.json")["unlabelled"] == 12


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("distill.student={layers: [0, 7]}", "distill.student.layers: got 7, but the teacher has 2 blocks"),
        ("distill.layer_map=[0, 1]", "distill.layer_map: got 2 numbers, but the student has 1 block"),
        ("distill.layer_map=[5]", "distill.layer_map: got 5, but the teacher has 2 blocks"),
    ],
)
def test_layers_that_are_not_there_are_one_line(finished, tmp_path, override, words):
    shutil.copytree(finished.run, tmp_path / "run")
    with pytest.raises(ModelError) as error:
        go_on(tmp_path / "run", override)
    assert str(error.value).startswith(words)
    assert "\n" not in str(error.value)


def test_a_teacher_of_other_labels_is_refused_by_name(finished, tmp_path):
    recipe = tiny_project.write_project(tmp_path / "other", finished.run.parent.parent / "backbone")
    rows = (recipe.parent / "rows.csv").read_text().replace(",music", ",noise")
    (recipe.parent / "rows.csv").write_text(rows)
    teacher = finished.run / "train" / "checkpoint"
    changed = load_recipe(recipe, [f"model.backbone={teacher}", "finetune.strategy=none", "distill={}", *FAST])
    with pytest.raises(ModelError, match="are heat, light, music, but those of the data are heat, light, noise"):
        pipeline.run(changed, tmp_path / "run", until="distill")


def test_a_checkpoint_taken_as_it_is_teaches(finished, tmp_path):
    recipe = tiny_project.write_project(tmp_path / "again", finished.run.parent.parent / "backbone")
    teacher = finished.run / "train" / "checkpoint"
    overrides = [f"model.backbone={teacher}", "finetune.strategy=none", "distill={}", *FAST, "distill.epochs=1"]
    pipeline.run(load_recipe(recipe, overrides), tmp_path / "run", until="distill")
    assert read_json(tmp_path / "run" / "train" / "train.json")["phases"] == []
    assert found(tmp_path / "run")["contenders"][0]["metrics"][0]["accuracy"] > 0.5


def test_a_recipe_without_the_section_is_told(finished):
    done = tiny_project.tledge("distill", finished.run / "recipe.yaml", code=2)
    assert "has no section distill" in done.stderr
    assert "Traceback" not in done.stderr


def test_unlabelled_rows_need_a_teacher(finished):
    with pytest.raises(RecipeError, match=r"data\.unlabelled: only a teacher"):
        load_recipe(finished.run / "recipe.yaml", ["data.unlabelled=more.csv"])
