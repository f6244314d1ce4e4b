"""A head of descriptions: what two towers compute, and a bundle that gets other labels."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import tiny_project
import torch
from test_cli_main import one_line
from tiny_project import call
from transformers import AutoModel, AutoTokenizer

from tledge import Predictor, bundle, metrics, pipeline
from tledge.artifacts import read_json
from tledge.errors import TledgeError
from tledge.recipe import load_recipe
from tledge.runtime import open_session, session_run
from tledge.train import closed

LABELS = {"music": ["song tune", "a band"], "heat": "warm stove", "light": "bright lamp"}
TEMPLATES = ["{}", "now {} please"]
TEXTS = ["the song in my room", "cold stove now", "please glow a lamp", "house"]


@pytest.fixture(scope="module")
def made(tiny_backbone, feature_cache, tmp_path_factory):
    """A zero-shot run up to its bundle."""
    recipe = tiny_project.write_project(tmp_path_factory.mktemp("zero") / "project", tiny_backbone)
    run = recipe.parent / "run"
    loaded = load_recipe(
        recipe,
        [
            "finetune.strategy=zero_shot",
            "finetune.epochs=null",
            "model.pooling=mean",
            "quantize.schemes=[int8_dynamic, fp16]",
            "data.labels={music: [song tune, a band], heat: warm stove, light: bright lamp}",
            "finetune.zero_shot.templates=['{}', 'now {} please']",
        ],
    )
    pipeline.run(loaded, run, until="bundle")
    return SimpleNamespace(run=run, bundle=run / "bundle", backbone=recipe.parent / "backbone")


def tower(folder, texts):
    """Mean vectors of length 1, by transformers alone."""
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    vectors = []
    for text in texts:
        with torch.no_grad():
            vectors.append(model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0).numpy())
    return closed.unit(np.stack(vectors))


def two_towers(folder, labels=LABELS):
    """The cosines of the texts above to the mean vectors of the labels' descriptions, `(texts, labels)`."""
    means = []
    for described in labels.values():
        texts = [described] if isinstance(described, str) else described
        means.append(tower(folder, [template.format(text) for text in texts for template in TEMPLATES]).mean(0))
    return tower(folder, TEXTS) @ closed.unit(np.stack(means)).T


def logits(folder, variant="fp32"):
    predictor = Predictor.load(folder, variant=variant)
    answers = predictor.predict(TEXTS)
    return np.log([list(answer["scores"].values()) for answer in answers])


def scale(folder):
    return read_json(folder / "config.json")["tledge"]["zero_shot"]["scale"]


def graph_cosines(folder, labels=3):
    """What the fp32 graph gives, divided by the scale."""
    from tledge import inputs

    encoder = inputs.load("text", folder)
    run = session_run(open_session(folder / "onnx" / "model.onnx"))
    return np.stack([run(encoder.encode([text]))["logits"][0] for text in TEXTS]) / scale(folder)


def test_the_graph_gives_what_two_towers_give(made):
    np.testing.assert_allclose(graph_cosines(made.bundle), two_towers(made.backbone), atol=1e-6)
    assert list(bundle.load(made.bundle).labels) == list(LABELS)


def test_nothing_but_one_tower_and_a_head_is_in_the_file(made):
    checkpoint = onnx.load(made.bundle / "onnx" / "model.onnx").graph.initializer
    weights = {tensor.name: tuple(tensor.dims) for tensor in checkpoint if np.prod(tensor.dims) > 64}
    assert [shape for name, shape in weights.items() if name.startswith("classifier")] == [(3, 32)]
    tables = [name for name in weights if "word_embeddings" in name]
    assert len(tables) == 1, "one tower"


def test_scores_are_calibrated_and_the_threshold_keeps_right_answers(made):
    [phase] = read_json(made.run / "train" / "train.json")["phases"]
    told = read_json(made.bundle / "config.json")["tledge"]["zero_shot"]
    assert "no labelled row trains" in phase["note"]
    assert 0 < told["unknown_below"] <= 1
    assert read_json(made.run / "train" / "train.json")["trained_parameters"] == 0


def test_calibration_finds_the_scale_that_fits_best():
    rng = np.random.default_rng(0)
    features = closed.unit(rng.normal(size=(400, 6))).astype(np.float32)
    head = closed.Linear(rng.normal(size=(3, 6)).astype(np.float32), np.zeros(3, dtype=np.float32))
    truth = metrics.softmax(4.0 * head(features))
    targets = np.array([rng.choice(3, p=row) for row in truth])
    assert closed.calibrated(head, features, targets) == pytest.approx(4.0, rel=0.2)
    wrong_at_times = closed.unknown_below(head, features, targets)
    scores = metrics.softmax(head(features))
    right = scores.argmax(1) == targets
    assert (scores.max(1)[right] >= wrong_at_times).mean() == pytest.approx(closed.KEPT, abs=0.01)


def test_a_bundle_gets_other_labels_in_every_variant(made, tmp_path, capfd):
    labels = tmp_path / "labels.yaml"
    labels.write_text("loud: [a song, the band]\nwarm: stove\nbright: glow\nplace: [room, kitchen]\n")
    done = call(capfd, "relabel", made.run, labels, "--out", tmp_path / "new")
    assert done.code == 0, done.err
    assert "4 labels (loud, warm, bright, place), 3 variant(s)" in done.out
    new = bundle.load(tmp_path / "new")
    assert [v.metrics for v in new.variants] == [{}, {}, {}] and new.metrics == {}
    assert {v.reason for v in new.variants} == {"relabelled: nothing was measured with these labels"}
    described = {"loud": ["a song", "the band"], "warm": "stove", "bright": "glow", "place": ["room", "kitchen"]}
    np.testing.assert_allclose(graph_cosines(tmp_path / "new"), two_towers(made.backbone, described), atol=1e-6)
    assert call(capfd, "verify", tmp_path / "new").code == 0
    fp32 = logits(tmp_path / "new")
    for variant in ("int8_dynamic", "fp16"):
        assert np.abs(logits(tmp_path / "new", variant) - fp32).max() < 0.1 * np.abs(fp32).max()
    assert "unknown_below" not in read_json(tmp_path / "new" / "config.json")["tledge"]["zero_shot"]


def test_the_same_labels_give_the_same_answers(made, tmp_path, capfd):
    labels = tmp_path / "labels.yaml"
    labels.write_text("music: [song tune, a band]\nheat: warm stove\nlight: bright lamp\n")
    assert call(capfd, "relabel", made.bundle, labels, "--out", tmp_path / "new").code == 0
    np.testing.assert_allclose(logits(tmp_path / "new"), logits(made.bundle), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("content", "code", "parts"),
    [
        ("- a\n- b\n", 2, ["labels.yaml", "expected labels with their descriptions"]),
        ("a: 3\nb: c\n", 2, ["'a'", "3", "descriptions"]),
        ("a: ''\nb: c\n", 2, ["'a'", "descriptions"]),
        ("a: only one\n", 2, ["too few", "2 or more"]),
    ],
)
def test_labels_that_are_none(made, tmp_path, capfd, content, code, parts):
    labels = tmp_path / "labels.yaml"
    labels.write_text(content)
    one_line(call(capfd, "relabel", made.bundle, labels, "--out", tmp_path / "new"), code, *parts)
    assert not (tmp_path / "new").exists()


def test_bundles_that_have_another_head_or_are_damaged_are_refused(made, tiny_bundle, tmp_path, capfd):
    labels = tmp_path / "labels.yaml"
    labels.write_text("a: b\nc: d\n")
    one_line(call(capfd, "relabel", tiny_bundle, labels, "--out", tmp_path / "new"), 8, "trained on its labels")
    spoilt = Path(shutil.copytree(made.bundle, tmp_path / "spoilt"))
    (spoilt / "tokenizer.json").write_text("{}")
    one_line(call(capfd, "relabel", spoilt, labels, "--out", tmp_path / "new"), 8, "damaged", "tokenizer.json")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("")
    one_line(call(capfd, "relabel", made.bundle, labels, "--out", tmp_path / "there"), 9, "--out", "already there")


def test_a_label_of_the_rows_without_a_description_is_named(made, tmp_path):
    loaded = load_recipe(made.run / "recipe.yaml", ["data.labels={music: song, heat: warm}"])
    with pytest.raises(TledgeError, match="the label 'light' is not known; known are 'music', 'heat'"):
        pipeline.run(loaded, tmp_path / "run", until="data")
