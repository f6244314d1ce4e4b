from __future__ import annotations

import re
from pathlib import Path

import pytest

from tledge import plugins, tasks
from tledge.recipe import load_recipe
from tledge.recipe.keys import every, is_optional, is_section
from tledge.recipe.meaningless import MEANINGLESS
from tledge.recipe.schema import Distill
from tledge.recipe.starter import BACKBONES, Facts, starter

FACTS = Facts(columns={"text": "review: body", "label": "no"}, labels={"yes": 10, "off": 5}, n_rows=15)


def load(tmp_path: Path, text: str):
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path)


@pytest.mark.parametrize("task", plugins.names("tledge.tasks"))
def test_it_loads_with_what_was_found(tmp_path: Path, task: str) -> None:
    recipe = load(tmp_path, starter(task, FACTS, name="mine", data_path_text="my rows.csv"))
    kind = tasks.load(task).STARTER
    assert (recipe.name, recipe.task, recipe.model.backbone) == ("mine", task, BACKBONES[kind])
    assert recipe.distill is None
    assert recipe.data.train == str(tmp_path / "my rows.csv")
    assert recipe.data.columns == FACTS.columns


@pytest.mark.parametrize("task", ["text_classification", "image_classification"])
def test_with_every_key_uncommented_it_means_the_same(tmp_path: Path, task: str) -> None:
    text = starter(task, FACTS, name="mine", data_path_text="rows.csv", backbone="./model", full=True)
    start, end = text.index("#adapt:"), text.index("\nexport:")
    whole, uncommented = re.subn(r"(?m)^(\s*)#(?=\w)", r"\1", text[:start] + text[end:])
    assert uncommented > 20
    assert load(tmp_path, whole) == load(tmp_path, text)


@pytest.mark.parametrize("task", ["text_classification", "causal_lm"])
def test_with_distill_uncommented_it_has_a_student_of_every_second_layer(tmp_path: Path, task: str) -> None:
    text = starter(task, FACTS, name="mine", data_path_text="rows.csv", full=True).replace("#distill:", "distill: {}")
    assert load(tmp_path, text).distill == Distill()


def test_every_key_has_its_description_above(tmp_path: Path) -> None:
    names = plugins.names("tledge.tasks")
    texts = [starter(t, FACTS, name="mine", data_path_text="rows.csv", full=True) for t in names]
    plain = " ".join(re.sub(r"(?m)^\s*# ", "", "\n".join(texts)).split())
    assert [path for path, node in every() if node["description"] not in plain] == []
    for name, text in zip(names, texts, strict=True):
        meaningless = MEANINGLESS[tasks.load(name).STARTER]
        kept = [path for path, _ in every() if not any(path[: len(key)] == key for key in meaningless)]
        assert len(re.findall(r"(?m)^\s*#?\w+:", text)) == len(kept)


def test_keys_of_other_kinds_of_input_are_left_out() -> None:
    text = starter("text_classification", FACTS, name="mine", data_path_text="rows.csv", full=True)
    image = starter("image_classification", Facts({}), name="mine", data_path_text="photos", full=True)
    assert "augmentation:" in image
    assert "augmentation:" not in text
    assert "max_length:" in text
    assert "max_length:" not in image
    assert "columns:" in image
    assert "\n  schemes: [int8_static]\n" in image


def test_further_settings_are_written_out(tmp_path: Path) -> None:
    settings = {("data", "test"): "photos/test", ("data", "calibration"): 12}
    text = starter("image_classification", Facts({}), name="mine", data_path_text="photos/train", settings=settings)
    recipe = load(tmp_path, text)
    assert recipe.data.test == str(tmp_path / "photos" / "test")
    assert recipe.data.calibration == 12


def test_what_was_found_is_told() -> None:
    text = starter("text_classification", FACTS, name="mine", data_path_text="rows.csv")
    assert "# Found: 15 rows with the labels yes (10), off (5).\n" in text


def test_many_labels_are_cut_short() -> None:
    facts = Facts(columns={}, labels={f"label{i}": 1 for i in range(25)}, n_rows=25)
    text = starter("text_classification", facts, name="mine", data_path_text="rows.csv")
    assert "label19 (1) and 5 more." in " ".join(text.replace("#", "").split())


def test_without_facts_nothing_is_said(tmp_path: Path) -> None:
    text = starter("text_classification", Facts(columns={}), name="mine", data_path_text="hub:owner/name")
    assert "Found" not in text
    assert load(tmp_path, text).data.train == "hub:owner/name"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("my rows!", "my-rows"), ("_x", "x"), ("größe", "gr-e"), ("???", "my-run"), ("a.b-1", "a.b-1")],
)
def test_a_name_is_made_fit(tmp_path: Path, name: str, expected: str) -> None:
    text = starter("text_classification", FACTS, name=name, data_path_text="rows.csv")
    assert load(tmp_path, text).name == expected


def test_lines_are_short_and_sections_apart() -> None:
    text = starter("text_classification", FACTS, name="mine", data_path_text="rows.csv", full=True)
    assert max(map(len, text.splitlines())) <= 100
    for path, node in every():
        if is_section(node) and len(path) == 1:
            assert re.search(rf"\n\n(# .*\n)+{'#' * is_optional(node)}{path[0]}:\n", text)


@pytest.mark.parametrize("task", plugins.names("tledge.tasks"))
def test_the_short_one_has_what_one_changes_first_and_means_the_same(tmp_path: Path, task: str) -> None:
    settings = {("model", "preprocessing", "mean"): [0.5, 0.5, 0.5]} if "image" in task else {}
    short, full = (
        starter(task, FACTS, name="mine", data_path_text="rows.csv", settings=settings, full=full)
        for full in (False, True)
    )
    assert len(short.splitlines()) < 40
    assert max(map(len, short.splitlines())) <= 120
    assert "#" not in re.sub(r"# .*", "", short), "nothing is commented out"
    assert not re.search(r":\n(?! )", short), "no section is empty"
    assert load(tmp_path, short) == load(tmp_path, full)


@pytest.mark.parametrize(
    ("task", "labels", "strategy"),
    [
        ("text_classification", {"yes": 19, "off": 500}, "few_shot"),
        ("image_classification", {"yes": 3, "off": 3}, "few_shot"),
        ("text_classification", {"yes": 20, "off": 20}, "probe"),
        ("text_multilabel", {"yes": 3, "off": 3}, "probe"),
        ("text_classification", {}, "probe"),
    ],
)
@pytest.mark.parametrize("full", [False, True])
def test_few_rows_of_a_label_propose_few_shot_and_say_why(tmp_path, task, labels, strategy, full) -> None:
    text = starter(task, Facts({}, labels), name="mine", data_path_text="rows.csv", full=full)
    assert load(tmp_path, text).finetune.strategy == strategy
    why = " ".join(text.replace("#", "").split())
    told = (
        f"The rarest label, yes, has {min(labels.values(), default=0)} rows: below 20, few_shot learns more from pairs"
    )
    assert (told in why) == (strategy == "few_shot")
