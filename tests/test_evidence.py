"""What a report tells of the answers, against scikit-learn on rows made by hand."""

import base64
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from tledge import answers as stored
from tledge import data, evidence, tasks
from tledge.artifacts import read_json, write_json
from tledge.evidence import inputs, labels
from tledge.recipe import load_recipe
from tledge.report import html, verdict

RECIPE = """\
name: made-up
task: {task}
data: {{train: nowhere}}
model: {{backbone: "torchvision:mobilenet_v2"}}
finetune:
  augmentation: {{flip: horizontal, color: 0.2, views: 3}}
"""
LABELS = ("cat", "dog", "emu", "fox")

GRAPH = {"path": "model.onnx", "size_bytes": 9_000_000, "opset": 20, "ir_version": 10, "inputs": [], "outputs": []}
FP32 = {"name": "fp32", "scheme": "fp32", "graph": GRAPH}


class Rows:
    """A split of texts or images and of label lists, as a data set gives them."""

    def __init__(self, labels, images=()):
        self._columns = {
            "label": labels,
            "text": [f"text {i}" for i in range(len(labels))],
            "row": [f"photos/{i}.png" for i in range(len(labels))],
            "image": images or [None] * len(labels),
        }

    def __getitem__(self, key):
        return self._columns[key] if isinstance(key, str) else {name: c[key] for name, c in self._columns.items()}


def store_answers(folder, logits):
    """The logits of each variant on the test rows, as the stage `quantize` keeps them."""
    n_rows = len(next(iter(logits.values())))
    by_variant = {name: {"logits": np.array(rows, np.float32)} for name, rows in logits.items()}
    stored.save(folder / "quantize", np.arange(n_rows, dtype=np.uint64), np.zeros(n_rows), by_variant)


def read(monkeypatch, tmp_path, kind, train, test, logits):
    (tmp_path / "quantize").mkdir()
    store_answers(tmp_path, {"fp32": logits})
    write_json(tmp_path / "quantize" / "variants.json", [FP32 | {"chosen": True}])
    splits = SimpleNamespace(train=Rows(train), test=Rows(test))
    monkeypatch.setattr(data, "open_splits", lambda folder: splits)
    task = tasks.load(kind)
    return labels.load(task.LABELS).read(task, task.METRIC, LABELS, tmp_path)


def test_single_label(monkeypatch, tmp_path):
    truth = [0, 0, 1, 1, 1, 2, 2, 0]
    given = [0, 1, 1, 1, 0, 2, 0, 0]
    logits = np.zeros((8, 4))
    logits[np.arange(8), given] = [3, 1, 3, 3, 4, 3, 2, 3]
    train = [[1]] * 5 + [[0]] * 3 + [[2]] + [[3]]
    found = read(monkeypatch, tmp_path, "text_classification", train, [[i] for i in truth], logits)
    assert found["baseline"]["accuracy"] == pytest.approx(3 / 8), "always `dog`, the most frequent training label"
    assert found["confusion"] == tuple(map(tuple, confusion_matrix(truth, given, labels=range(4))))
    precision, recall, f1, count = precision_recall_fscore_support(truth, given, labels=range(4), zero_division=np.nan)
    for i, score in enumerate(found["label_scores"][:3]):
        assert (score.label, score.count) == (LABELS[i], count[i])
        assert (score.precision, score.recall, score.f1) == pytest.approx((precision[i], recall[i], f1[i]))
    fox = found["label_scores"][3]
    assert (fox.precision, fox.recall, fox.f1, fox.count) == (None, None, None, 0)
    assert found["wrong_count"] == 3
    assert [(w.text, w.truth, w.predicted) for w in found["wrong"]] == [
        ("text 4", "dog", "cat"),
        ("text 6", "emu", "cat"),
        ("text 1", "cat", "dog"),
    ], "the surest mistake first"
    assert found["wrong"][0].score == pytest.approx(np.exp(4) / (np.exp(4) + 3))


def test_several_labels(monkeypatch, tmp_path):
    truth = [[0, 1], [1], [], [2], [0]]
    hits = np.array([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [1, 1, 0, 0]])
    logits = np.where(hits == 1, 2.0, -2.0)
    logits[4, 1] = 5.0
    found = read(monkeypatch, tmp_path, "text_multilabel", [[1], [1], [0, 1], []], truth, logits)
    targets = np.array([[i in row for i in range(4)] for row in truth]).astype(int)
    always = np.tile([0, 1, 0, 0], (5, 1))
    assert found["baseline"]["micro_f1"] == pytest.approx(f1_score(targets, always, average="micro", zero_division=0))
    assert found["confusion"] == ()
    expected = precision_recall_fscore_support(targets, hits, zero_division=np.nan)
    for i, score in enumerate(found["label_scores"]):
        got = [np.nan if x is None else x for x in (score.precision, score.recall, score.f1)]
        np.testing.assert_allclose(got, [expected[k][i] for k in range(3)])
        assert score.count == expected[3][i]
    assert found["wrong_count"] == 3
    assert [(w.text, w.truth, w.predicted) for w in found["wrong"]] == [
        ("text 4", "cat", "cat, dog"),
        ("text 2", "", "emu"),
        ("text 3", "emu", ""),
    ]


def test_only_the_first_mistakes_are_shown(monkeypatch, tmp_path):
    logits = np.tile([2.0, 0, 0, 0], (30, 1))
    found = read(monkeypatch, tmp_path, "text_classification", [[0], [1]], [[1]] * 30, logits)
    assert found["wrong_count"] == 30
    assert len(found["wrong"]) == inputs.load("text").MOST


def test_facts_of_a_run(finished):
    facts = evidence.facts(load_recipe(finished.run / "recipe.yaml"), finished.run)
    chosen = next(v for v in facts.variants if v.chosen)
    rows = read_json(finished.run / "data" / "data.json")["rows"]["test"]
    assert sum(map(sum, facts.confusion)) == rows
    assert sum(facts.confusion[i][i] for i in range(3)) / rows == pytest.approx(chosen.test_metrics["accuracy"])
    assert facts.wrong_count == rows - sum(facts.confusion[i][i] for i in range(3))
    assert facts.baseline["accuracy"] == pytest.approx(1 / 3)
    assert facts.bench is not None
    assert [point.epoch for point in facts.training.curve] == [1, 2, 3, 4, 5, 6]
    assert all(seconds > 0 for seconds in facts.stage_seconds.values())


def png(side=300, value=90):
    file = BytesIO()
    Image.fromarray(np.full((side, side // 2), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def image_run(folder, monkeypatch, task, train, test, images, logits):
    """A run folder as the stages leave it, with the least that its report needs; extra files are for the tests."""
    for stage in ("data", "train", "export", "quantize", "baseline"):
        (folder / stage).mkdir()
    (folder / "recipe.yaml").write_text(RECIPE.format(task=task), encoding="utf-8")
    counts = {"label_counts": {}, "skipped": {}, "duplicates": 0, "conflicts": 0}
    data_report = {"labels": ["bad", "good"], "sources": {}, "rows": {"test": len(test)}, **counts}
    curve = [{"epoch": 1.0, "train_loss": 0.5, "validation_loss": 0.6, "validation_metric": 0.7}]
    phase = {"phase": "probe", "note": "features are cached", "seconds": 3.0, "device": "cpu", "curve": curve}
    trained = {"parameters": 9, "trained_parameters": 3, "phases": [phase]}
    for name, content in (
        ("data/data", data_report),
        ("train/train", trained),
        ("export/parity", []),
        ("quantize/variants", [FP32 | {"chosen": True}]),
    ):
        write_json(folder / f"{name}.json", content)
    store_answers(folder, {"fp32": logits})
    splits = SimpleNamespace(train=Rows(train), test=Rows(test, images))
    monkeypatch.setattr(data, "open_splits", lambda folder: splits)
    return load_recipe(folder / "recipe.yaml")


@pytest.fixture
def two_labels(tmp_path, monkeypatch):
    """A run on 40 images of two labels: a recipe and its folder. Rows 3 and 7 are wrong, the latter more surely."""
    truth = [i % 2 for i in range(40)]
    logits = np.array([[-4.0, 4.0] if label else [4.0, -4.0] for label in truth])
    logits[3], logits[7] = [1, -1], [3, -3]
    images = [{"bytes": png(), "path": None}] * 40
    images[7] = {"bytes": None, "path": str(tmp_path / "gone.png")}
    rows = [[label] for label in truth]
    recipe = image_run(tmp_path, monkeypatch, "image_classification", [[1], [1], [0]], rows, images, logits)
    return SimpleNamespace(recipe=recipe, folder=tmp_path, logits=logits)


def test_images_that_were_wrong(two_labels):
    facts = evidence.facts(two_labels.recipe, two_labels.folder)
    assert (facts.input_kind, facts.numeric, facts.metric) == ("image", False, "accuracy")
    gone, shown = facts.wrong
    assert (gone.row, gone.truth, gone.predicted, gone.image, gone.text) == ("photos/7.png", "good", "bad", "", "")
    assert shown.row == "photos/3.png"
    head, _, content = shown.image.partition(",")
    assert head == "data:image/jpeg;base64"
    thumbnail = Image.open(BytesIO(base64.b64decode(content)))
    assert thumbnail.size == (64, 128)
    assert facts.baseline["accuracy"] == 0.5
    assert facts.baseline["roc_auc"] == 0.5
    assert facts.baseline["log_loss"] == pytest.approx(-(np.log(1 / 3) + np.log(2 / 3)) / 2)


@pytest.mark.parametrize(
    ("backbone", "name"), [("/home/somebody/models/bert", "bert"), ("owner/bert", "owner/bert"), ("gpt2", "gpt2")]
)
def test_a_backbone_is_named_without_the_folders_of_this_machine(backbone, name):
    assert evidence.public_name(backbone) == name


def test_what_stages_may_leave_out(two_labels):
    facts = evidence.facts(two_labels.recipe, two_labels.folder)
    assert (facts.transfer, facts.preprocessing, facts.candidates, facts.regression) == (None, None, (), None)
    training = facts.training
    assert (training.image, training.rate_finders, training.contact_sheet) == (None, (), "")
    assert training.notes == ("features are cached",)
    assert training.max_length is None
    assert training.augmentation == {"flip": "horizontal", "color": 0.2, "views": 3}


def test_what_stages_tell_of_images(two_labels):
    folder = two_labels.folder
    trained = read_json(folder / "train" / "train.json")
    normalisation = {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], "crop_offset": "round"}
    trained["input"] = {"size": [224, 192], "resize": 256, "interpolation": "bilinear", **normalisation}
    trained["notes"] = ["9 tensors matched by order"]
    finder = {"rates": [1e-5, 1e-4], "losses": [0.7, None], "suggestion": 1e-5}
    trained["phases"] = [*trained["phases"], trained["phases"][0] | {"phase": "full", "rate_finder": finder}]
    write_json(folder / "train" / "train.json", trained)
    (folder / "train" / "contact_sheet.jpg").write_bytes(b"sheet")
    graph = {"mode": "normalize", "max_steps": 0.5, "share_over_one": 0.0}
    compared = {"reference": "torchvision", "rows": 8, "max_abs_diff": 0.01, "mean_abs_diff": 0.001, "in_graph": graph}
    write_json(folder / "export" / "preprocessing.json", compared | {"metric": "accuracy", "ours": 0.8, "theirs": 0.9})
    ratio = {"reference": "fp32", "ratio": 0.5, "low": 0.4, "high": 0.6, "samples": 9}
    kept = {"types": "u8s8", "keep_float": "worst", "n_worst": 4}
    tried = {"scheme": "int8_static", "settings": kept, "metrics": {"accuracy": 0.8}, "ratio": ratio, "picked": True}
    write_json(
        folder / "quantize" / "candidates.json", [tried, tried | {"ratio": None, "reason": "no", "picked": False}]
    )

    facts = evidence.facts(two_labels.recipe, folder)
    training = facts.training
    image = training.image
    assert (image.size, image.resize, image.mean) == ((224, 192), (256,), (0.5, 0.5, 0.5))
    assert training.notes == ("9 tensors matched by order", "probe: features are cached", "full: features are cached")
    (found,) = training.rate_finders
    assert (found.phase, found.rates, found.losses, found.suggestion) == ("full", (1e-5, 1e-4), (0.7, None), 1e-5)
    assert training.contact_sheet == "data:image/jpeg;base64," + base64.b64encode(b"sheet").decode()
    assert (facts.preprocessing.max_abs_diff, facts.preprocessing.theirs) == (0.01, 0.9)
    assert (facts.preprocessing.graph_mode, facts.preprocessing.graph_max_steps) == ("normalize", 0.5)
    picked, other = facts.candidates
    assert (picked.picked, picked.ratio.high, picked.settings["n_worst"]) == (True, 0.6, 4)
    assert (other.ratio, other.reason) == (None, "no")
    assert html(facts).count("data:image/jpeg") == 2


@pytest.mark.parametrize("kept", [True, False])
def test_the_gain_of_transfer_has_an_interval_where_answers_are_kept(two_labels, kept):
    folder, logits = two_labels.folder, two_labels.logits.copy()
    told = {"kind": "random_backbone", "metrics": {"accuracy": 0.7}, "seconds": 2.5}
    write_json(folder / "baseline" / "baseline.json", told)
    write_json(folder / "quantize" / "variants.json", [FP32 | {"chosen": True, "test_metrics": {"accuracy": 0.95}}])
    if kept:
        logits[10:20] *= -1
        np.savez_compressed(folder / "baseline" / "test_outputs.npz", logits=logits)
    found = evidence.facts(two_labels.recipe, folder).transfer
    assert (found.random, found.pretrained, found.seconds) == ({"accuracy": 0.7}, {"accuracy": 0.95}, 2.5)
    if not kept:
        assert (found.low, found.high) == (None, None)
        return
    # Each of 40 rows is one more right with a chance of a quarter: 0.25, give or take 1.96 of its standard error.
    half = 1.96 * np.sqrt(0.25 * 0.75 / 40)
    assert (found.low, found.high) == pytest.approx((0.25 - half, 0.25 + half), abs=0.03)


def test_estimates_of_numbers(tmp_path, monkeypatch):
    truth = np.arange(600) % 30 / 10
    estimates = truth + np.where(np.arange(600) < 300, 0.1, -0.1)
    estimates[[5, 9]] += [2.0, -3.0]
    images = [{"bytes": png(), "path": None}] * 600
    rows = [[float(value)] for value in truth]
    recipe = image_run(tmp_path, monkeypatch, "image_regression", [[1.0], [2.0]], rows, images, estimates[:, None])
    write_json(tmp_path / "data" / "data.json", read_json(tmp_path / "data" / "data.json") | {"labels": ["ripeness"]})
    facts = evidence.facts(recipe, tmp_path)
    assert (facts.numeric, facts.metric, facts.labels) == (True, "r2", ("ripeness",))
    assert (facts.confusion, facts.label_scores, facts.wrong_count) == ((), (), None)
    assert facts.baseline["mae"] == pytest.approx(np.mean(np.abs(truth - 1.5)))
    assert facts.baseline["r2"] <= 0
    assert [row.row for row in facts.wrong[:2]] == ["photos/9.png", "photos/5.png"]
    assert facts.wrong[0].error == pytest.approx(-2.9)
    assert (facts.wrong[0].truth, facts.wrong[0].predicted) == ("0.900", "-2.00")
    assert len(facts.wrong) == inputs.load("image").MOST
    points = facts.regression.points
    assert len(points) == 500
    assert {round(y - x, 3) for x, y in points} <= {0.1, -0.1, 2.1, -2.9}
    assert facts.regression.residuals["25"] == pytest.approx(-0.1)
    assert facts.regression.residuals["75"] == pytest.approx(0.1)
    assert "ripeness" in html(facts)


PHASE = {
    "phase": "distill", "note": "seed 42", "seconds": 9.0, "device": "cpu",
    "curve": [{"epoch": e, "train_loss": 2.0 / e, "validation_loss": 2.1 / e, "validation_metric": 0.6 + e / 10}
              for e in (1.0, 2.0)],
}  # fmt: skip


def contender(name, *values):
    metrics = [{"accuracy": value} for value in values]
    return {"name": name, "parameters": 9, "seeds": list(range(len(values))), "metrics": metrics,
            "mean": {"accuracy": sum(values) / len(values)}, "low": {}, "high": {}, "seconds": 3.0}  # fmt: skip


def distill_json(**changes):
    return {
        "student": "layers 0, 2", "layers": [0, 2], "teacher_parameters": 20, "parameters": 9,
        "contenders": [
            contender("teacher", 0.9), contender("student alone", 0.7), contender("student with teacher", 0.8),
        ],
        "gains": [{"metric": "accuracy", "mean": 0.1, "low": None, "high": None, "helps": None}],
        "ladder": [], "losses": {"soft_targets": 1.0}, "temperature": 2.0, "layer_map": None, "teacher_cache": False,
        "phases": [PHASE], "alone_phases": [PHASE | {"phase": "alone"}], "notes": [], "seconds": 12.0,
    } | changes  # fmt: skip


def test_a_student_beside_its_teacher(two_labels):
    folder = two_labels.folder
    (folder / "distill").mkdir()
    assert evidence.facts(two_labels.recipe, folder).distillation is None
    write_json(folder / "distill" / "distill.json", distill_json())
    (folder / "stages").mkdir()
    for name in ("train", "distill", "export"):
        write_json(folder / "stages" / f"{name}.json", {"seconds": 5.0})
    facts = evidence.facts(two_labels.recipe, folder)
    found = facts.distillation
    assert (found.student, found.layers, found.layer_map) == ("layers 0, 2", (0, 2), ())
    assert [each.mean["accuracy"] for each in found.contenders] == [0.9, 0.7, 0.8]
    assert (found.gains[0].mean, found.gains[0].helps) == (0.1, None)
    assert [point.validation_metric for point in found.curve] == [0.7, 0.8]
    assert found.curve[0].phase == ""
    assert list(facts.stage_seconds) == ["train", "distill", "export"]
    page = html(facts)
    assert "With the teacher the accuracy is 0.100 higher: with one seed there is no interval" in page
    assert "The student with teacher keeps 88.9 % of the teacher" in page
    assert "accuracy with 45 % of its parameters" in page


def test_a_checkpoint_that_was_taken_as_it_is(two_labels):
    folder = two_labels.folder
    taken = {"trained_parameters": 0, "phases": [], "notes": ["taken as it is"]}
    write_json(folder / "train" / "train.json", read_json(folder / "train" / "train.json") | taken)
    recipe = two_labels.recipe.model_copy(
        update={"finetune": two_labels.recipe.finetune.model_copy(update={"strategy": "none"})}
    )
    training = evidence.facts(recipe, folder).training
    assert (training.strategy, training.seconds, training.device, training.curve) == ("none", None, "", ())
    assert "Learning curve: not measured" not in html(evidence.facts(recipe, folder))


LANGUAGE = """\
name: made-up
task: causal_lm
data: {train: nowhere.txt}
model: {backbone: nowhere, max_length: 32}
finetune: {strategy: none}
metric: perplexity
"""


def test_a_language_model(tmp_path):
    (tmp_path / "recipe.yaml").write_text(LANGUAGE, encoding="utf-8")
    for stage in ("data", "train", "export", "quantize"):
        (tmp_path / stage).mkdir()
    splits = {"train": 100, "validation": 10, "test": 12}
    counts = {"labels": [], "label_counts": {}, "skipped": {}, "duplicates": 2, "conflicts": 0, "dropped_tokens": 7}
    tokens = {name: 32 * count for name, count in splits.items()}
    told = {"sources": dict.fromkeys(splits, "nowhere.txt"), "rows": splits, "tokens": tokens, "bytes": {"test": 999}}
    perplexity = {"perplexity": 40.0, "loss": 3.69, "bits_per_byte": 1.3, "next_token_accuracy": 0.35}
    fp32 = FP32 | {"metrics": perplexity, "test_metrics": perplexity}
    int8 = fp32 | {"name": "int8_dynamic", "scheme": "int8_dynamic", "chosen": True, "agreement": 0.9}
    int8["test_metrics"] = perplexity | {"perplexity": 40.4}
    for name, content in (
        ("data/data", counts | told | {"documents": {"train": 5}}),
        ("train/train", {"parameters": 9, "trained_parameters": 0, "phases": [], "notes": []}),
        ("export/parity", []),
        ("quantize/variants", [fp32, int8]),
        ("quantize/scored", {"test": 320}),
        ("quantize/samples", [{"prompt": "Once <b>", "text": " upon & a time", "torch_text": "other"}]),
    ):
        write_json(tmp_path / f"{name}.json", content)
    facts = evidence.facts(load_recipe(tmp_path / "recipe.yaml"), tmp_path)
    assert (facts.language, facts.lower_is_better, facts.metric, facts.labels) == (True, True, "perplexity", ())
    assert (facts.data.tokens["test"], facts.data.bytes, facts.data.dropped_tokens) == (384, {"test": 999}, 7)
    assert facts.data.scored_tokens == {"test": 320}
    assert [(sample.prompt, sample.text) for sample in facts.samples] == [("Once <b>", " upon & a time")]
    assert verdict(facts) == "int8_dynamic ships: perplexity 40.4 (+1.0 % against fp32), 9.0 MB."
    page = html(facts)
    assert "Once &lt;b&gt;</span> upon &amp; a time" in page
    assert "Confusion" not in page
    assert '<td class="number">384</td><td class="number">999</td><td class="number">12</td>' in page
