"""Whole runs on photos, from files to a bundle that predicts, and what the report is told."""

import json
import os
import shutil

import numpy as np
import pytest
import tiny_photos
from tiny_project import call, tledge

from tledge import Predictor, pipeline
from tledge.artifacts import read_json
from tledge.recipe import load_recipe


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run of the tiny photos, with a baseline and changed images."""
    folder = tmp_path_factory.mktemp("photos")
    tiny_photos.write_project(folder)
    settings = ["baseline=random_backbone", "finetune.augmentation.flip=horizontal", "finetune.augmentation.views=2"]
    done = tledge(
        "run", "recipe.yaml", *(f"--set={each}" for each in settings), cwd=folder, code=0,
        env={"TLEDGE_CACHE": str(folder / "cache")},
    )  # fmt: skip
    return folder, folder / "runs" / "tiny", done


STAGES = [name for name in pipeline.STAGES if name != "distill"]  # which a recipe must ask for


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TLEDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_each_stage_says_one_line(finished):
    _, run, done = finished
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == STAGES
    assert {path.name for path in run.iterdir()} == {*STAGES, "recipe.yaml", "logs", "stages"}


def test_it_tells_colours_apart(finished):
    _, run, _ = finished
    predictor = Predictor.load(run / "bundle")
    for label in tiny_photos.COLOURS:
        photo = tiny_photos.photo(label, 1000)
        answer = predictor.predict(photo)
        assert answer["label"] == label
        assert predictor.predict(np.asarray(photo)) == answer


def test_the_command_line_predicts_files(finished, capfd):
    folder, run, _ = finished
    files = [folder / "photos" / "brick" / "000.jpg", folder / "photos" / "leaf" / "001.png"]
    done = call(capfd, "predict", run, *files)
    answers = [json.loads(line) for line in done.out.splitlines()]
    assert [answer["image"] for answer in answers] == list(map(str, files))
    assert [answer["label"] for answer in answers] == ["brick", "leaf"]


def test_photos_behind_a_table_that_change_are_read_again(finished, tmp_path, cache):
    folder, _, _ = finished
    shutil.copytree(folder / "photos", tmp_path / "photos")
    rows = [(path, path.parent.name) for path in sorted((tmp_path / "photos").rglob("*.*"))]
    lines = ["image,label", *(f"{path.relative_to(tmp_path)},{label}" for path, label in rows)]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    settings = [f"data.train={tmp_path / 'rows.csv'}", "data.columns={image: image, label: label}"]
    recipe, said = load_recipe(folder / "recipe.yaml", settings), []
    for change in (False, False, True):
        if change:
            rows[3][0].write_bytes(rows[8][0].read_bytes())
        said.clear()
        pipeline.run(recipe, tmp_path / "run", until="data", say=said.append)
        if change:
            assert said[0] == "data: again, since files that its rows name have changed"
        else:
            assert said[0] == "data: already done" or (tmp_path / "run" / "data").exists()
    assert said[1].startswith("data: 3 labels") or said[1].startswith("data: 2 labels")
    pipeline.run(recipe, tmp_path / "run", until="data", say=said.append)
    assert said[-1] == "data: already done"


def test_the_bundle_verifies(finished, capfd):
    assert call(capfd, "verify", finished[1]).code == 0


def test_what_transfer_gave_is_measured(finished):
    _, run, _ = finished
    baseline = read_json(run / "baseline" / "baseline.json")
    assert baseline["kind"] == "random_backbone"
    assert 0 <= baseline["metrics"]["accuracy"] <= 1
    assert sorted(path.name for path in (run / "baseline").iterdir()) == ["baseline.json", "test_outputs.npz"]


def test_preprocessing_is_compared_with_the_librarys_own(finished):
    _, run, _ = finished
    facts = read_json(run / "export" / "preprocessing.json")
    assert facts["reference"] == "torchvision"
    assert facts["max_abs_diff"] < 1e-6
    assert facts["ours"] == facts["theirs"]


def test_the_report_shows_photos(finished):
    _, run, _ = finished
    page = (run / "report" / "report.html").read_text(encoding="utf-8")
    assert "data:image/jpeg;base64," in page  # the contact sheet at least
    assert (run / "train" / "contact_sheet.jpg").exists()
    assert str(run.parent) not in page


def test_removing_the_baseline_keeps_everything_else(finished, tmp_path, cache):
    _, run, _ = finished
    copy = shutil.copytree(run, tmp_path / "copy")
    lines = []
    pipeline.run(load_recipe(copy / "recipe.yaml", ["baseline=null"]), copy, say=lines.append)
    done = dict(line.split(": ", 1) for line in lines)
    assert [name for name, line in done.items() if line != "already done"] == ["report"]
    assert not (copy / "baseline").exists()


@pytest.mark.parametrize("mode", ["normalize", "resize_and_normalize"])
def test_preprocessing_in_the_graph_takes_bytes(mode, tmp_path, cache):
    recipe = load_recipe(
        tiny_photos.write_project(tmp_path),
        [f"export.preprocessing={mode}", "quantize.schemes=[]"],
    )
    run = pipeline.run(recipe, tmp_path / "run", until="bundle")
    predictor = Predictor.load(run / "bundle")
    [tensor] = predictor.manifest.input.tensors
    assert tensor.dtype == "uint8"
    assert tensor.shape[-1] == 3
    facts = read_json(run / "export" / "preprocessing.json")["in_graph"]
    assert facts["mode"] == mode
    assert facts["max_steps"] <= 2
    assert predictor.predict(tiny_photos.photo("sky", 1000))["label"] == "sky"


@pytest.mark.slow
def test_a_number_is_estimated(tmp_path, cache, capfd):
    tiny_photos.write_photos(tmp_path / "photos")
    files = sorted((tmp_path / "photos").rglob("*.*"))
    redness = {"brick": 900.0, "leaf": 300.0, "sky": 350.0}
    rows = [f"{file.relative_to(tmp_path).as_posix()},{redness[file.parent.name] + i}" for i, file in enumerate(files)]
    (tmp_path / "rows.csv").write_text("\n".join(["image,redness", *rows]) + "\n", encoding="utf-8")
    text = tiny_photos.RECIPE.replace("image_classification", "image_regression").replace("photos", "rows.csv")
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    settings = ["data.columns={label: redness}", "finetune.epochs=40", "finetune.loss=huber"]
    done = call(capfd, "run", tmp_path / "recipe.yaml", "--out", tmp_path / "run", *(f"--set={s}" for s in settings))
    assert done.code == 0, done.err
    value = Predictor.load(tmp_path / "run" / "bundle").predict(tiny_photos.photo("brick", 1000))["value"]
    assert 600 < value < 1200
    metrics = read_json(tmp_path / "run" / "quantize" / "variants.json")[0]["test_metrics"]
    assert metrics["r2"] > 0.5


def test_without_a_recipe_one_is_written(tmp_path, cache, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_photos.write_photos(tmp_path / "photos")
    settings = ["model.weights=none", "model.preprocessing.size=64", "finetune.epochs=2", "finetune.report_to=[]"]
    arguments = ["finetune", "--data", "./photos", "--backbone", "torchvision:squeezenet1_1", "--out", "runs/photos"]
    done = call(capfd, *arguments, *(f"--set={each}" for each in settings))
    assert done.code == 0, done.err
    assert "runs/photos/recipe.yaml".replace("/", os.sep) in done.err
    assert "tledge run runs/photos".replace("s/p", f"s{os.sep}p") in done.err
    recipe = load_recipe("runs/photos/recipe.yaml")
    assert recipe.data.train == str(tmp_path / "photos")
    assert recipe.model.backbone == "torchvision:squeezenet1_1"
    assert (tmp_path / "runs" / "photos" / "train" / "checkpoint" / "preprocessor_config.json").exists()
    again = call(capfd, *arguments)
    assert again.code == 2
    assert "already there" in again.err
    assert call(capfd, "finetune", "runs/photos").code == 0


def test_a_checkpoint_serves_a_new_label_set(finished, tmp_path, cache):
    _, first, _ = finished
    tiny_photos.write_project(tmp_path)
    shutil.rmtree(tmp_path / "photos" / "leaf")
    checkpoint = first / "train" / "checkpoint"
    recipe = load_recipe(
        tmp_path / "recipe.yaml", [f"model.backbone={checkpoint}", "model.weights=null", "finetune.epochs=8"]
    )
    run = pipeline.run(recipe, tmp_path / "run", until="train")
    config = read_json(run / "train" / "checkpoint" / "config.json")
    assert list(config["id2label"].values()) == ["brick", "sky"]
    assert (
        read_json(run / "train" / "train.json")["backbone_sha256"]
        == read_json(first / "train" / "train.json")["backbone_sha256"]
    )
