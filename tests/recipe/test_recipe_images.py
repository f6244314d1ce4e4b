"""Keys for images: which go together, which paths are made absolute, and what they are by default."""

from __future__ import annotations

from pathlib import Path

import pytest

from tledge.errors import RecipeError
from tledge.recipe import load_recipe

IMAGES = """\
name: mine
task: {task}
data:
  train: photos
model:
  backbone: torchvision:resnet18
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def load(*overrides: str, task: str = "image_classification"):
        Path("recipe.yaml").write_text(IMAGES.format(task=task), encoding="utf-8")
        return load_recipe("recipe.yaml", overrides)

    return load


def test_defaults_are_those_of_images(load) -> None:
    recipe = load()
    assert recipe.schemes == ["int8_static"]
    assert recipe.bench_lengths == [None]
    assert not recipe.finetune.augmentation.changes_images


def test_schemes_that_are_named_replace_the_default(load) -> None:
    assert load("quantize.schemes=[]").schemes == []


@pytest.mark.parametrize(
    ("weights", "kept"),
    [
        ("IMAGENET1K_V2", True),
        ("none", True),
        ("package:p/w.pth", True),
        ("w.pth", False),
        ("w.safetensors", False),
        ("pytorch_model.bin", False),
        ("epoch=3.ckpt", False),
    ],
)
def test_weights_are_a_path_when_they_end_like_one(load, tmp_path: Path, weights: str, kept: bool) -> None:
    assert load(f"model.weights={weights}").model.weights == (weights if kept else str(tmp_path / weights))


@pytest.mark.parametrize("source", ["torchvision:CIFAR10@train", "arrays:some.module:load", "hub:a/b"])
def test_a_source_with_a_prefix_is_no_path(load, source: str) -> None:
    assert load(f"data.train={source}").data.train == source


@pytest.mark.parametrize("setting", ["flip=both", "rotation_degrees=5", "min_scale=0.5", "color=0.1", "randaugment=2"])
def test_what_changes_images_is_known(load, setting: str) -> None:
    augmentation = load(f"finetune.augmentation.{setting}").finetune.augmentation
    assert augmentation.changes_images
    assert not augmentation.mixes_images


@pytest.mark.parametrize(
    ("overrides", "task", "line"),
    [
        (["bench.length=[32]"], "image_classification", "bench.length: is for texts, and the task "
         "is image_classification; remove the key"),
        (["metric=acuracy"], "image_classification", "metric: got 'acuracy', but image_classification is judged by one "
         "of accuracy, balanced_accuracy, macro_f1, roc_auc, log_loss; did you mean 'accuracy'?"),
        (["finetune.loss=mse"], "image_classification", "finetune.loss: got 'mse', but image_classification trains "
         "with cross_entropy"),
        (["finetune.loss=hubert"], "image_regression", "finetune.loss: got 'hubert', but image_regression trains with "
         "mse or huber"),
        (["finetune.augmentation.mixup=0.2"], "image_classification", "finetune.augmentation.mixup: mixes images in "
         "every batch anew, which features kept on disk cannot do; set finetune.cache: false, or remove the key"),
        (["finetune.augmentation.cutmix=1.0", "finetune.cache=false"], "image_regression",
         "finetune.augmentation.cutmix: mixes labels of rows that have one each; remove the key"),
        (["finetune.strategy=partial", "finetune.unfreeze=2", "finetune.freeze=layer3"], "image_classification",
         "finetune.freeze: say either what trains (finetune.unfreeze) or what stays frozen; remove one key"),
        (["finetune.freeze=layer3"], "image_classification", "finetune.freeze: only for strategy 'partial', but the "
         "strategy is 'probe'; remove the key (or set it to null), or change finetune.strategy"),
        (["finetune.strategy=gradual", "finetune.unfreeze=layer4"], "image_classification",
         "finetune.unfreeze: strategy 'gradual' takes a number of blocks, got 'layer4'"),
        (["model.detector=faster_rcnn", "export.nms=device"], "object_detection", "export.nms: got device, but Faster "
         "R-CNN has two stages, and the graph itself suppresses proposals between them; expected graph, or "
         "model.detector: fcos"),
        (["model.weights=DEFAULT"], "text_classification", "model.weights: is for images, and the task is "
         "text_classification; remove the key"),
        (["finetune.strategy=zero_shot"], "text_classification", "data.labels: strategy zero_shot knows labels by "
         "their descriptions alone; write a mapping, such as {Sports: games and athletes, Business: companies and "
         "markets}"),
        (["finetune.strategy=zero_shot", "data.labels={a: one}", "finetune.zero_shot.templates=[about]"],
         "text_classification", "finetune.zero_shot.templates: 'about' has no {}, where the description goes"),
        (["finetune.strategy=zero_shot", "data.labels={a: one}"], "text_regression", "finetune.strategy: got "
         "'zero_shot', but text_regression is trained by one of probe, partial, full, probe_then_full, gradual, none, "
         "lora"),
        (["finetune.few_shot.tune=none"], "text_classification", "finetune.few_shot: only for strategy few_shot, but "
         "the strategy is 'probe'; remove it"),
        (["finetune.strategy=few_shot", "model.head.hidden_size=8"], "text_classification", "model.head.hidden_size: "
         "strategy few_shot solves a head of one linear layer; remove the key"),
        (["finetune.strategy=few_shot", "finetune.augmentation.mixup=0.2", "finetune.cache=false"],
         "image_classification", "finetune.augmentation: strategy few_shot learns from pairs of whole images; set "
         "mixup and cutmix to 0"),
        (["data.shots=8"], "text_regression", "data.shots: counts rows by their one label, which text_regression does "
         "not have; remove the key"),
        (["data.shots=8", "data.unlabelled=more.csv", "distill.student.layers=every_second"], "text_classification",
         "data.unlabelled: with data.shots the other training rows are the ones without a label; remove one of the two "
         "keys"),
        (["finetune.augmentation.flip=both"], "text_classification", "finetune.augmentation.flip: is for images, "
         "and the task is text_classification; remove the key"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_one_line(load, overrides: list[str], task: str, line: str) -> None:
    with pytest.raises(RecipeError) as error:
        load(*overrides, task=task)
    [told] = str(error.value).splitlines()
    assert told.endswith(": " + line)


@pytest.mark.parametrize("strategy", ["partial", "gradual", "full"])
def test_mixing_goes_with_whole_passes(load, strategy: str) -> None:
    unfreeze = {"partial": "2", "gradual": "2", "full": "null"}[strategy]
    settings = [f"finetune.strategy={strategy}", f"finetune.unfreeze={unfreeze}", "finetune.augmentation.mixup=0.2"]
    assert load(*settings, "finetune.cache=false").finetune.augmentation.mixes_images


def test_a_block_can_be_named_from_either_side(load) -> None:
    assert load("finetune.strategy=partial", "finetune.freeze=layer3").finetune.freeze == "layer3"
    assert load("finetune.strategy=partial", "finetune.unfreeze=layer4").finetune.unfreeze == "layer4"
