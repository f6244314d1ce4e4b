"""Adapters are trained beside an encoder, and what is kept of them is a plain checkpoint."""

import pytest
import tiny_project
from safetensors import safe_open

from tledge import pipeline
from tledge.artifacts import read_json
from tledge.errors import RecipeError
from tledge.recipe import load_recipe


@pytest.mark.parametrize("task", ["text_classification", "text_multilabel"])
def test_a_checkpoint_has_the_names_of_a_plain_one(task, tmp_path, tiny_backbone, feature_cache):
    path = tiny_project.write_project(tmp_path / "project", tiny_backbone, task)
    found = {}
    for strategy in ("lora", "full"):
        settings = [f"finetune.strategy={strategy}", "finetune.epochs=1", f"name={strategy}"]
        run = pipeline.run(load_recipe(path, settings), tmp_path / strategy, until="train")
        trained = read_json(run / "train" / "train.json")
        with safe_open(run / "train" / "checkpoint" / "model.safetensors", "np") as file:
            found[strategy] = set(file.keys()), trained["parameters"], trained["trained_parameters"]
    assert found["lora"][:2] == found["full"][:2]
    assert 0 < found["lora"][2] < found["full"][2] / 2
    assert found["full"][2] == found["full"][1]


def test_images_have_no_adapters(tmp_path):
    (tmp_path / "recipe.yaml").write_text(
        "{name: a, task: image_classification, data: {train: photos}, model: {backbone: x}, finetune: {strategy: lora}}"
    )
    with pytest.raises(RecipeError, match=r"'lora', but image_classification is trained by one of probe, partial"):
        load_recipe(tmp_path / "recipe.yaml")
