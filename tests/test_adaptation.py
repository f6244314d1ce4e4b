"""Runs that adapt to another domain: every method beside source only, and a bundle that holds nothing of it."""

import csv
import json

import datasets
import numpy as np
import onnx
import pytest
import tiny_photos
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_project import FILLERS, WORDS, rows, save_backbone, write_project

from tledge import inputs, pipeline
from tledge.errors import DataError, RecipeError, TrainError
from tledge.recipe import load_recipe
from tledge.stages import domains
from tledge.tasks import load as load_task

ADAPT = "\nadapt:\n  target: target.csv\n  judge: judge.csv\n"


def other_rows(count, start=0):
    """Texts of the same labels in other company: the other domain."""
    names = list(WORDS)
    for i in range(start, start + count):
        label = names[i % 3]
        words = [WORDS[label][(i // 3) % 3], "house", "my", chr(97 + i % 26), chr(97 + (i // 26) % 26)]
        yield " ".join([*words, FILLERS[i % 10]]), label


def write_rows(path, found):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *found])


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbone") / "backbone"
    save_backbone(folder)
    return folder


@pytest.fixture
def project(tmp_path, backbone):
    recipe = write_project(tmp_path / "project", backbone)
    recipe.write_text(recipe.read_text(encoding="utf-8") + ADAPT, encoding="utf-8")
    write_rows(recipe.parent / "target.csv", other_rows(60))
    write_rows(recipe.parent / "judge.csv", other_rows(30, start=60))
    return recipe


def run(recipe, out, *overrides, until="train"):
    settings = ["finetune.epochs=2", "finetune.learning_rate=null", *overrides]
    return pipeline.run(load_recipe(recipe, settings), out, until=until)


def found(folder):
    return json.loads((folder / "train" / "adapt.json").read_text(encoding="utf-8"))


def test_each_method_is_judged_beside_source_only(project, tmp_path):
    told = found(run(project, tmp_path / "run", "finetune.strategy=probe", "adapt.supervised=true"))
    names = [row["name"] for row in told["rows"]]
    assert names == ["none", "coral", "dann", "mmd", "self_training", "target_labels"]  # no batch norms, no adabn
    assert (told["n_target"], told["n_judge"]) == (60, 30)
    best = max(told["rows"][:5], key=lambda row: row["scores"]["information"])
    assert told["taken"] == best["name"]
    assert all(0.0 <= row["apart"] <= 1.0 for row in told["rows"])
    assert all(row["gain"]["metric"] == "accuracy" and row["paired"]["rows"] == 30 for row in told["rows"][1:])


def test_the_checkpoint_is_an_ordinary_one(project, tmp_path):
    folder = run(project, tmp_path / "run", "finetune.strategy=probe", "adapt.method=dann", "adapt.seeds=2")
    assert [each.name for each in (folder / "train").iterdir() if each.is_dir()] == ["checkpoint"]
    assert [len(row["contender"]["seeds"]) for row in found(folder)["rows"]] == [2, 2]
    trained = json.loads((folder / "train" / "train.json").read_text(encoding="utf-8"))
    weights = load_file(folder / "train" / "checkpoint" / "model.safetensors")
    assert sum(each.numel() for each in weights.values()) == trained["parameters"]
    assert weights["classifier.weight"].shape == (3, 32)


@pytest.mark.slow
def test_the_graph_holds_no_network_that_tells_domains_apart(project, tmp_path):
    folder = run(project, tmp_path / "run", "finetune.strategy=probe", "adapt.method=dann", until="report")
    trained = json.loads((folder / "train" / "train.json").read_text(encoding="utf-8"))
    initializers = onnx.load(folder / "bundle" / "onnx" / "model.onnx").graph.initializer
    floats = sum(int(np.prod(each.dims)) for each in initializers if each.data_type == onnx.TensorProto.FLOAT)
    assert floats <= trained["parameters"] + 64  # and constants
    for name in ("report.html", "report.md"):
        assert "Another domain" in (folder / "report" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("method", ["coral", "dann"])
def test_blocks_that_train_learn_from_both_domains(project, tmp_path, method):
    folder = run(
        project, tmp_path / "run", f"adapt.method={method}", "finetune.strategy=partial", "finetune.unfreeze=1"
    )
    told = found(folder)
    assert told["taken"] == method
    assert [row["name"] for row in told["rows"]] == ["none", method]
    assert told["rows"][1]["scores"] != told["rows"][0]["scores"]


def test_a_regression_is_adapted_without_answers_that_are_sure(project, tmp_path):
    for name in ("rows", "target", "judge"):
        path = project.parent / f"{name}.csv"
        texts = [row["text"] for row in csv.DictReader(path.open(encoding="utf-8"))]
        write_rows(path, ((text, len(text) / 10) for text in texts))
    settings = ["task=text_regression", "finetune.strategy=probe"]
    folder = run(project, tmp_path / "run", *settings, "adapt.choose=importance", "adapt.compare=[none, mmd]")
    assert [row["name"] for row in found(folder)["rows"]] == ["none", "mmd"]
    with pytest.raises(RecipeError, match=r"adapt\.choose: information is about labels"):
        run(project, tmp_path / "other", *settings)


def test_batch_norms_end_with_the_statistics_of_the_target(tmp_path):
    recipe = tiny_photos.write_project(tmp_path / "project")
    for path in (recipe.parent / "photos").rglob("*.png"):
        place = recipe.parent / "dim" / path.relative_to(recipe.parent / "photos")
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).point(lambda pixel: round(pixel * 0.3)).save(place)
    settings = ["adapt={method: adabn, target: dim, judge: 0.5}", "model.backbone=torchvision:mobilenet_v3_small"]
    settings += ["model.preprocessing.size=32", "finetune.epochs=1"]
    folder = pipeline.run(load_recipe(recipe, settings, cwd=recipe.parent), tmp_path / "run", until="train")
    told = found(folder)
    assert [row["name"] for row in told["rows"]] == ["none", "adabn"]
    assert told["rows"][1]["scores"] != told["rows"][0]["scores"]
    trained = json.loads((folder / "train" / "train.json").read_text(encoding="utf-8"))
    assert any("statistics of 18 target rows" in note for note in trained["notes"])
    # The first batch norm saw the target's pixels alone: its mean is that of its convolution over them.
    weights = load_file(folder / "train" / "checkpoint" / "model.safetensors")
    encoder = inputs.load("image", folder / "train" / "checkpoint")
    rows = datasets.Dataset.from_file(str(folder / "data" / "target.arrow"))
    pixels = torch.from_numpy(encoder.encode(rows["image"][:])["pixel_values"])
    mean = torch.nn.functional.conv2d(pixels, weights["features.0.0.weight"], stride=2, padding=1).mean((0, 2, 3))
    torch.testing.assert_close(weights["features.0.1.running_mean"], mean, atol=1e-4, rtol=1e-3)


def test_target_rows_that_judge_are_not_learnt(project, tmp_path):
    folder = run(project, tmp_path / "run", "adapt.judge=0.5", until="data")
    told = json.loads((folder / "data" / "data.json").read_text(encoding="utf-8"))
    assert told["domain"] == {"left_out": 0, "judge": 30, "target": 30}
    judging, target = (
        datasets.Dataset.from_file(str(folder / "data" / f"{name}.arrow")) for name in ("judge", "target")
    )
    assert not {*judging["text"]} & {*target["text"]}
    assert "label" not in target.column_names  # nothing can look at it


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["adapt.target=rows.csv"], r"adapt\.target: got the rows of data\.train; expected rows of another domain"),
        (["adapt.target=copy.csv"], r"copy\.csv has no rows that the labelled rows do not have; is it the same file\?"),
        (["adapt.target=one.csv"], r"one\.csv has 1 row that the labelled rows do not have; expected 10 or more"),
        (["adapt.judge=named.csv"], r"the label 'noise' is not known; known are"),
        (["adapt.where={colour: red}"], r"adapt\.where: target\.csv has no column 'colour'"),
        (["adapt.where={label: noise}"], r"adapt\.where: target\.csv has no such row: 'label' has heat, light, music"),
        (["adapt.method=adabn"], r"adapt\.method: adabn cannot be done here: .* has no batch norms"),
        (["finetune.strategy=none"], r"adapt: no epochs train with finetune\.strategy 'none'"),
        (["baseline=random_backbone"], r"baseline: adapt has a comparison of its own"),
    ],
)
def test_bad_input_is_one_line(project, tmp_path, settings, message):
    write_rows(project.parent / "copy.csv", rows("text_classification"))
    write_rows(project.parent / "one.csv", other_rows(1))
    write_rows(project.parent / "named.csv", ((text, "noise") for text, _ in other_rows(20)))
    with pytest.raises((DataError, RecipeError, TrainError), match=message) as error:
        pipeline.run(load_recipe(project, settings, cwd=project.parent), tmp_path / "run", until="train")
    assert "\n" not in str(error.value)


def test_the_surest_rows_of_each_answer_are_learnt():
    logits = np.array([[9.0, 0], [1, 0], [2, 0], [3, 0], [0, 0.1], [0, 0.2]])
    rows, answers = domains.confident(load_task("text_classification"), {"logits": logits}, 0.5)
    assert rows.tolist() == [0, 3, 5]
    assert answers.tolist() == [0, 0, 1]


def test_information_is_largest_for_sure_and_balanced_answers():
    sure, unsure = np.array([[[1.0, 0.0]], [[0.0, 1.0]]]), np.full((2, 1, 2), 0.5)
    assert domains.information(sure) == pytest.approx(np.log(2))
    assert domains.information(unsure) == pytest.approx(0)
    assert domains.information(sure[[0, 0]]) == pytest.approx(0)


def test_a_probe_tells_domains_apart_where_they_differ():
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(200, 4)), rng.normal(size=(200, 4))
    assert abs(domains.tell_apart(source, target, seed=0).accuracy - 0.5) < 0.1
    apart = domains.tell_apart(source, target + 3, seed=0)
    assert apart.accuracy > 0.95
    assert apart.weights.mean() == pytest.approx(1)
    assert np.corrcoef(apart.weights, source.sum(1))[0, 1] > 0
