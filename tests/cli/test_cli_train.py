"""The verbs that need the train extra: mistakes in recipes and data, the verbs alone, `init`, and several labels."""

import json

import numpy as np
import pytest
import tiny_project
from test_cli_main import one_line
from tiny_project import call, tledge

from tledge import bundle
from tledge.artifacts import read_json
from tledge.recipe import load_recipe

STAGES = ("data", "train", "export", "quantize", "bundle", "bench", "report")


def edit(recipe, old, new):
    text = recipe.read_text(encoding="utf-8")
    assert old in text
    recipe.write_text(text.replace(old, new), encoding="utf-8")


def write_rows(recipe, text):
    (recipe.parent / "rows.csv").write_bytes(text.encode() if isinstance(text, str) else text)


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("  epochs: 6", "  epoks: 6", ["recipe.yaml", "finetune", "epoks", "did you mean", "epochs"]),
        ("  epochs: 6", "  epochs: six", ["recipe.yaml", "finetune.epochs", "six"]),
        ("  epochs: 6", "  epochs: -1", ["finetune.epochs"]),
        ("  strategy: full", "  strategy: ful", ["finetune.strategy", "full"]),
        ("task: text_classification", "task: text_clasification", ["task", "text_classification"]),
        ("[int8_dynamic]", "[int9_dynamic]", ["quantize.schemes", "int9_dynamic", "int8_dynamic"]),
        ("name: tiny", "name: [", ["recipe.yaml"]),
        ("name: tiny", "name: ../x", ["name"]),
    ],
)
def test_mistakes_in_a_recipe(old, new, parts, project, capfd):
    edit(project, old, new)
    one_line(call(capfd, "run", project), 2, *parts)
    assert not (project.parent / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["run", "nowhere.yaml"], 2, ["nowhere.yaml"]),
        (["run", "."], 2, ["no run folder", "recipe.yaml"]),
        (["run", "RECIPE", "--set", "finetune.epoks=3"], 2, ["--set", "epoks", "epochs"]),
        (["run", "RECIPE", "--set", "finetune.epochs"], 2, ["--set"]),
        (["quantize", "RECIPE", "--scheme", "int9"], 2, ["int9"]),
        (["run", "RECIPE", "--out", "FILE"], 2, ["run folder", "--out"]),
        (["finetune", "RECIPE", "--set", "data.train=nowhere.csv"], 3, ["data.train", "nowhere.csv"]),
        (["finetune", "RECIPE", "--set", "data.train=."], 3, ["folder"]),
        (["finetune", "RECIPE", "--set", "data.columns={text: txet}"], 3, ["'txet'", "'text'"]),
        (["finetune", "RECIPE", "--set", "model.backbone=./nowhere"], 4, ["nowhere"]),
        (["init", "nowhere.csv"], 3, ["nowhere.csv"]),
        (["init", "FILE", "--task", "text_clasification"], 2, ["text_classification"]),
    ],
)
def test_mistakes(arguments, code, parts, project, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    places = {"RECIPE": project, "FILE": project.parent / "rows.csv"}
    done = call(capfd, *(places.get(argument, argument) for argument in arguments))
    if code == 4:  # what was finished before is told
        done.err = "".join(line for line in done.err.splitlines(keepends=True) if not line.startswith("data: "))
    one_line(done, code, *parts)


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ("", ["rows.csv", "empty"]),
        ("text,label\n", ["rows.csv", "row"]),
        ("words,label\n" + "good,a\nbad,b\n" * 9, ["rows.csv", "'text'", "words"]),
        ("text,label\n" + "".join(f"good {i},a\n" for i in range(20)), ["rows.csv", "one label", "'a'"]),
        ("text,label\ngood,a\nbad,b,c\n", ["rows.csv:3", "3"]),
        ('text,label\ngood,a\n"bad,b\n', ["rows.csv:3"]),
        ("text,label\ngood,a\nbad,\n", ["rows.csv:3"]),
        (b"text,label\ngood,a\nb\xe4d,b\n", ["rows.csv:3", "utf-8"]),
    ],
)
def test_mistakes_in_rows(rows, parts, project, capfd):
    write_rows(project, rows)
    done = call(capfd, "finetune", project)
    one_line(done, 3, *parts)
    assert done.out == ""


def test_a_parity_failure_in_the_shell(run_copy):
    failed = tledge("export", run_copy, "--set", "export.atol=1e-30", "--set", "export.rtol=0")
    assert failed.returncode == 6
    assert failed.stderr.splitlines()[:2] == ["data: already done", "train: already done"]
    again, line = failed.stderr.splitlines()[2:]
    assert again.startswith("export: again, since export.atol was 0.0001, is 1e-30")
    assert line.startswith("error: parity")
    assert str(run_copy / "logs" / "parity.json") in line


def test_the_verbs_one_after_another(project, capfd):
    run = project.parent / "elsewhere"
    done = call(capfd, "finetune", project, "--out", run, "--set", "finetune.epochs=1", "--json")
    assert json.loads(done.out) == {"run": str(run), "checkpoint": str(run / "train" / "checkpoint")}
    assert done.err.splitlines()[1].startswith("train: full, validation accuracy")
    done = call(capfd, "export", run)
    assert done.code == 0, done.err
    assert [v.name for v in bundle.load(run / "bundle").variants] == ["fp32"]
    assert load_recipe(run / "recipe.yaml").quantize.schemes == ["int8_dynamic"], "the recipe keeps its schemes"
    done = call(capfd, "quantize", run, "--scheme", "int8_dynamic", "--scheme", "fp16")
    assert done.code == 0, done.err
    lines = done.err.splitlines()
    assert list(dict.fromkeys(line.partition(":")[0] for line in lines)) == list(STAGES[:5])
    assert [line.endswith("already done") for line in lines[:4]] == [True, True, True, False]
    assert lines[3].startswith("quantize: again, since quantize.schemes was [], is ")
    assert [v.name for v in bundle.load(run / "bundle").variants] == ["fp32", "int8_dynamic", "fp16"]
    done = call(capfd, "run", run, "--json")
    assert done.code == 0, done.err
    assert [line.endswith("already done") for line in done.err.splitlines()] == [True] * 5 + [False] * 2
    found = json.loads(done.out)
    assert set(found) == {"run", "checkpoint", "graph", "bundle", "report", "verdict"}
    assert call(capfd, "verify", run).code == 0


def test_set_on_a_run_folder(run_copy, capfd):
    done = call(capfd, "finetune", run_copy, "--set", "finetune.epochs=1", "--set", "seed=42")
    assert done.code == 0, done.err
    assert done.err.splitlines()[0] == "data: already done"
    assert load_recipe(run_copy / "recipe.yaml").finetune.epochs == 1
    assert len(read_json(run_copy / "train" / "train.json")["phases"][0]["curve"]) == 1


@pytest.mark.slow
def test_several_labels(tiny_backbone, feature_cache, tmp_path, capfd):
    recipe = tiny_project.write_project(tmp_path / "project", tiny_backbone, "text_multilabel")
    run = tmp_path / "run"
    done = call(capfd, "run", recipe, "--out", run, "--set", "finetune.strategy=probe", "--set", "finetune.epochs=20",
                "--set", "finetune.learning_rate=0.05")  # fmt: skip
    assert done.code == 0, done.err
    facts = read_json(run / "report" / "facts.json")
    assert facts["many_labels"]
    assert facts["confusion"] == []
    assert [score["label"] for score in facts["label_scores"]] == ["heat", "light", "music"]
    answer = json.loads(call(capfd, "predict", run, "lamp song").out)
    assert set(answer) == {"text", "labels", "scores"}
    assert np.all(
        (np.array(list(answer["scores"].values())) > 0.5) == [x in answer["labels"] for x in answer["scores"]]
    )


def test_init(tmp_path, monkeypatch, capfd):
    (tmp_path / "rows").mkdir()
    rows = [f"{i},a film of the sort {i},{'good' if i % 2 else 'bad'}" for i in range(20)]
    text = "\n".join(["number,review,stars", *rows])
    (tmp_path / "rows" / "my films.csv").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    done = call(capfd, "init", "rows/my films.csv", "--out", "recipes/films.yaml", "--backbone", "./rows")
    assert (done.code, done.err) == (0, "")
    assert "20 rows" in done.out
    assert "strategy few_shot: the rarest label, bad, has 10 rows: below 20, few_shot learns more" in done.out
    recipe = load_recipe(tmp_path / "recipes" / "films.yaml")
    assert recipe.data.columns == {"text": "review", "label": "stars"}
    assert recipe.data.train == str(tmp_path / "rows" / "my films.csv")
    assert recipe.task == "text_classification"
    assert recipe.finetune.strategy == "few_shot"
    assert recipe.model.backbone == str(tmp_path / "rows"), "as seen from where the command was given"
    first = (tmp_path / "recipes" / "films.yaml").read_text(encoding="utf-8").splitlines()[0]
    named = tmp_path / "recipes" / first.partition("$schema=")[2]
    assert json.loads(named.read_text(encoding="utf-8"))["title"] == "tledge recipe"
    before = (tmp_path / "recipes" / "films.yaml").read_bytes()
    one_line(call(capfd, "init", "rows/my films.csv", "--out", "recipes/films.yaml", "--backbone", "x/y"), 2, "--force")
    assert (tmp_path / "recipes" / "films.yaml").read_bytes() == before
    forced = ("init", "rows/my films.csv", "--out", "recipes/films.yaml", "--backbone", "x/y", "--force")
    assert call(capfd, *forced).code == 0
    assert load_recipe(tmp_path / "recipes" / "films.yaml").model.backbone == "x/y"


def test_init_for_the_tiny_project_runs_on(project, tmp_path, capfd):
    out = tmp_path / "recipe.yaml"
    done = call(
        capfd, "init", project.parent / "rows.csv", "--backbone", str(project.parent / "backbone"), "--out", out
    )
    assert done.code == 0, done.err
    short = ("--set", "finetune.epochs=1", "--set", "model.max_length=16", "--set", "bench.length=[8]")
    done = call(capfd, "finetune", out, "--out", tmp_path / "run", *short)
    assert done.code == 0, done.err
    assert (tmp_path / "run" / "train" / "checkpoint" / "model.safetensors").exists()


def test_data_without_a_recipe_can_be_tried_again_with_other_options(project, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(project.parent)
    run = tmp_path / "run"
    wrong = call(capfd, "finetune", "--data", "rows.csv", "--backbone", "./nowhere", "--out", run)
    assert (wrong.code, load_recipe(run / "recipe.yaml").model.backbone) == (4, str(run / "nowhere"))
    again = ("finetune", "--data", "rows.csv", "--backbone", "./backbone", "--out", run)
    assert call(capfd, *again).code == 4, "texts of 128 tokens are too long for it"
    assert load_recipe(run / "recipe.yaml").model.backbone == str(project.parent / "backbone")
    edit(run / "recipe.yaml", "max_length: 128", "max_length: 16")
    one_line(call(capfd, *again), 2, "recipe.yaml is already there", "tledge run", "--out")
    assert call(capfd, "finetune", run, "--set", "finetune.epochs=1").code == 0
