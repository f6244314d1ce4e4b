"""The stages that train compare the checkpoint with the model that it was saved from."""

import shutil

import pytest
from safetensors.torch import load_file, save_file

from tledge import model, pipeline
from tledge.artifacts import read_json
from tledge.errors import TrainError
from tledge.recipe import load_recipe

LOST = "bert.encoder.layer.0.output.dense.bias"
DISTILL = [
    "distill={}",
    "distill.epochs=1",
    "distill.batch_size=8",
    "distill.learning_rate=0.001",
    "distill.report_to=[]",
    "distill.baseline=false",
]


def losing(save):
    """A way to save that writes another number in one tensor."""

    def saved(classifier, folder, other):
        save(classifier, folder, other)
        path = folder / "model.safetensors"
        tensors = load_file(path)
        tensors[LOST] = tensors[LOST] + 1.0
        save_file(tensors, path, metadata={"format": "pt"})

    return saved


def test_a_training_whose_checkpoint_differs_fails(project, monkeypatch, tmp_path):
    monkeypatch.setattr(model.TextClassifier, "save", losing(model.TextClassifier.save))
    recipe = load_recipe(project, ["finetune.epochs=1"])
    with pytest.raises(TrainError, match=rf"is not the model that it was saved from: .* differs is '{LOST}'"):
        pipeline.run(recipe, tmp_path / "run", until="train", say=lambda _line: None)
    assert not (tmp_path / "run" / "train").exists()


def test_a_distillation_whose_checkpoint_differs_fails(project, monkeypatch, tmp_path):
    monkeypatch.setattr(model, "save_beside", losing(model.save_beside))
    recipe = load_recipe(project, ["finetune.epochs=1", *DISTILL])
    with pytest.raises(TrainError, match=rf"is not the model that it was saved from: .* differs is '{LOST}'"):
        pipeline.run(recipe, tmp_path / "run", until="distill", say=lambda _line: None)


def test_what_was_done_to_names_is_in_the_runs_notes(project, tmp_path):
    backbone = tmp_path / "wrapped"
    shutil.copytree(load_recipe(project).model.backbone, backbone)
    path = backbone / "model.safetensors"
    tensors = {f"module.{name}": tensor for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    recipe = load_recipe(project, ["finetune.epochs=1", f"model.backbone={backbone}"])
    pipeline.run(recipe, tmp_path / "run", until="train", say=lambda _line: None)
    (note,) = read_json(tmp_path / "run" / "train" / "train.json")["notes"]
    assert note.endswith("were found by their names without their prefix 'module.'")
