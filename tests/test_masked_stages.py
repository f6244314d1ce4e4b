"""A masked language model from texts to a device, and its encoder in the training after it."""

import json

import numpy as np
import pytest
import tiny_masked
import tiny_project
from transformers import pipeline as transformers_pipeline

from tledge import Predictor, evidence, pipeline, report
from tledge.artifacts import read_json
from tledge.errors import InputError, ModelError, RecipeError
from tledge.recipe import load_recipe
from tledge.runtime import verify

TEXT = "the cat [MASK] the river ."


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A run up to the bundle, and what was said meanwhile."""
    folder = tmp_path_factory.mktemp("masked")
    tiny_masked.checkpoint(folder / "backbone")
    path = tiny_masked.write_project(
        folder / "project",
        folder / "backbone",
        data={"calibration": 3},
        quantize={"schemes": ["int8_dynamic", "int8_static"]},
    )
    lines = []
    recipe = load_recipe(path, ["quantize.int8_static.methods=[minmax]", "quantize.int8_static.types=[u8s8]"])
    run = pipeline.run(recipe, folder / "run", until="bundle", say=lines.append)
    return run, lines, recipe


@pytest.fixture(scope="module")
def run(project):
    return project[0]


@pytest.fixture(scope="module")
def predictor(run):
    return Predictor.load(run / "bundle", variant="fp32")


def test_it_learns_what_was_hidden(project):
    run, lines, _ = project
    trained = read_json(run / "train" / "train.json")
    curve = [point["validation_metric"] for point in trained["phases"][0]["curve"]]
    assert min(curve) < 0.9 * np.log(len(tiny_masked.WORDS)), "of a model that knows nothing of the words"
    assert not any("random weights" in line for line in lines)
    assert trained["notes"] == []


def test_variants_are_scored_on_the_same_hidden_words(run):
    variants = {each["name"]: each for each in read_json(run / "quantize" / "variants.json")}
    assert list(variants) == ["fp32", "int8_dynamic", "int8_static"]
    for each in variants.values():
        metrics = each["test_metrics"]
        assert metrics.keys() == {"loss", "pseudo_perplexity", "mask_accuracy"}
        assert metrics["pseudo_perplexity"] == pytest.approx(np.exp(metrics["loss"]))
        assert abs(metrics["loss"] - variants["fp32"]["test_metrics"]["loss"]) < 0.5
    drop = variants["int8_dynamic"]["test_metric_drop"]
    assert drop["test"] == "paired bootstrap"
    assert drop["low"] <= drop["drop"] <= drop["high"]


def test_the_bundle_verifies_and_its_golden_outputs_are_those_of_masks_alone(run):
    found = verify(run / "bundle")
    assert found.passed, [check for check in found.checks if not check.passed]
    assert (run / "bundle" / "golden.safetensors").stat().st_size < 200_000


def test_answers_are_those_of_transformers(run, predictor):
    theirs = transformers_pipeline("fill-mask", str(run / "train" / "checkpoint"), device="cpu")
    for text in (TEXT, "[MASK] dog likes a bridge", "a ferry takes the [MASK]"):
        (ours,) = predictor.predict(text, top_k=3)["masks"]
        special = set(tiny_masked.SPECIAL)
        expected = [each for each in theirs(text, top_k=20) if each["token_str"] not in special][:3]
        assert [each["word"] for each in ours] == [each["token_str"] for each in expected]
        assert [each["score"] for each in ours] == pytest.approx([each["score"] for each in expected], abs=1e-4)


def test_each_of_several_masks_is_answered(predictor):
    answer = predictor.predict("[MASK] cat [MASK] the [MASK] .")
    assert [len(words) for words in answer["masks"]] == [5, 5, 5]
    assert all(words == sorted(words, key=lambda each: -each["score"]) for words in answer["masks"])
    texts = [TEXT, "[MASK] dog [MASK] a bridge .", "a song [MASK]"]
    together, alone = predictor.predict(texts, batch_size=3), [predictor.predict(text) for text in texts]
    for ours, theirs in zip(together, alone, strict=True):
        for first, second in zip(ours["masks"], theirs["masks"], strict=True):
            assert [each["score"] for each in first] == pytest.approx([each["score"] for each in second], abs=1e-5)


@pytest.mark.parametrize("top_k", [0, -1, "3", True])
def test_a_number_of_words_that_is_none_is_refused(top_k, predictor):
    with pytest.raises(InputError, match=r"top_k must be 1 or more words for each mask, got "):
        predictor.predict(TEXT, top_k=top_k)


def test_a_text_without_a_mask_is_one_line_that_names_the_mask(run, predictor, capfd):
    with pytest.raises(InputError, match=r"the text 'the cat' has no mask; write \[MASK\] where a word is to be found"):
        predictor.predict("the cat")
    with pytest.raises(InputError, match=r"value 1: the text 'a dog' has no mask"):
        predictor.predict([TEXT, "a dog"])
    with pytest.raises(InputError, match=r"'the cat.* has 2 masks, but the model reads 32 tokens, with 1 of them"):
        predictor.predict(f"{TEXT} {'the cat ' * 40}[MASK]")
    with pytest.raises(InputError, match="temperature is for language models"):
        predictor.predict(TEXT, temperature=1)
    done = tiny_project.call(capfd, "predict", run, "the cat sees")
    assert (done.code, done.out) == (9, "")
    assert done.err.strip().count("\n") == 0
    assert "has no mask; write [MASK]" in done.err


def test_the_command_line_prints_as_many_words_as_it_is_asked_for(run, capfd):
    done = tiny_project.call(capfd, "predict", run, TEXT, "--top-k", "2", "--variant", "fp32")
    assert done.code == 0, done.err
    line = json.loads(done.out)
    assert line["text"] == TEXT
    assert [[list(each) for each in words] for words in line["masks"]] == [[["word", "score"]] * 2]
    done = tiny_project.call(capfd, "predict", run, TEXT, "--top-p", "0.2")
    assert done.code == 9
    assert "--top-p: only for language models" in done.err


def test_the_report_tells_of_hidden_words(project):
    run, _, recipe = project
    facts = evidence.facts(recipe, run)
    page, card = report.html(facts), (run / "bundle" / "README.md").read_text(encoding="utf-8")
    for text in ("pseudo perplexity", "mask accuracy", "Whole words are hidden", "finds"):
        assert text in page
    assert "tokens/s" not in page
    assert "The weather is [MASK] today." in card
    assert "pipeline_tag: fill-mask" in card
    assert len(facts.samples) > 1
    assert all("[MASK]" in sample.prompt for sample in facts.samples)


def labelled(folder, run, *overrides):
    folder.mkdir(exist_ok=True)
    rows = [{"text": text, "label": text.split()[1]} for text in tiny_masked.texts(60)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    recipe = {
        "name": "after",
        "task": "text_classification",
        "data": {"train": "rows.jsonl", "validation": 0.2, "test": 0.2},
        "model": {"backbone": str(run), "max_length": 16},
        "finetune": {"strategy": "full", "epochs": 1, "report_to": []},
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    return load_recipe(folder / "recipe.yaml", list(overrides))


def test_the_next_training_begins_with_its_encoder(run, tmp_path, feature_cache):
    from tledge import model

    theirs = model.load(run / "train" / "checkpoint").base_model.state_dict()
    found = {}
    for name, backbone in (("run", run), ("checkpoint", run / "train" / "checkpoint")):
        after = pipeline.run(labelled(tmp_path / name, backbone, "finetune.strategy=probe"), tmp_path / name / "run",
                             until="train")  # fmt: skip
        ours = model.load(after / "train" / "checkpoint").backbone.state_dict()
        assert ours.keys() == theirs.keys()
        assert all((ours[key] == theirs[key]).all() for key in ours)
        found[name] = read_json(after / "train" / "train.json")["backbone_sha256"]
    assert found["run"] == found["checkpoint"]


def test_a_training_is_made_again_where_the_run_before_it_has_changed(run, tmp_path, feature_cache):
    lines = []
    recipe = labelled(tmp_path, run, "finetune.strategy=probe", "finetune.epochs=1")
    pipeline.run(recipe, tmp_path / "after", until="train")
    pipeline.run(recipe, tmp_path / "after", until="train", say=lines.append)
    assert lines == ["data: already done", "train: already done"]


@pytest.mark.parametrize("settings", [{"strategy": "partial", "unfreeze": 1}, {"strategy": "lora"}])
def test_a_part_of_it_can_be_trained(settings, tmp_path):
    tiny_masked.checkpoint(tmp_path / "backbone", "distilbert")
    path = tiny_masked.write_project(tmp_path / "p", tmp_path / "backbone", finetune={"epochs": 1, **settings})
    run = pipeline.run(load_recipe(path), tmp_path / "run", until="train")
    trained = read_json(run / "train" / "train.json")
    assert 0 < trained["trained_parameters"] < trained["parameters"]


def test_a_fresh_head_is_said(tmp_path):
    from transformers import AutoModel

    tiny_masked.checkpoint(tmp_path / "backbone")
    AutoModel.from_pretrained(tmp_path / "backbone").save_pretrained(tmp_path / "backbone")
    lines = []
    path = tiny_masked.write_project(tmp_path / "p", tmp_path / "backbone", finetune={"epochs": 1})
    run = pipeline.run(load_recipe(path), tmp_path / "run", until="train", say=lines.append)
    assert any("has no head that says what hidden words were" in line for line in lines)
    assert any("random weights" in note for note in read_json(run / "train" / "train.json")["notes"])


def test_what_means_nothing_to_it_is_refused(tmp_path):
    tiny_masked.checkpoint(tmp_path / "backbone")
    path = tiny_masked.write_project(tmp_path / "p", tmp_path / "backbone")
    with pytest.raises(RecipeError, match=r"masked_lm is trained by one of full, partial, lora, none"):
        load_recipe(path, ["finetune.strategy=probe"])
    with pytest.raises(RecipeError, match=r"model\.pooling: is for tasks that answer a whole text"):
        load_recipe(path, ["model.pooling=mean"])
    with pytest.raises(RecipeError, match=r"distill\.student: has no students"):
        load_recipe(path, ["distill.student.layers=every_second"])
    with pytest.raises(ModelError, match=r"max_length: got 3, but 2 special tokens surround each text"):
        pipeline.run(load_recipe(path, ["model.max_length=3", "bench.length=[2]"]), tmp_path / "run", until="data")
