import dataclasses
import json
import shutil

import language_bundle
import numpy as np
import pytest

from tledge import answers, artifacts, bundle
from tledge.artifacts import ACCEPT, ANOMALOUS, INCONCLUSIVE, REGRESSION, Comparison, Footprint, LatencyRatio
from tledge.bench.compare import Setting
from tledge.bundle import golden
from tledge.errors import BundleError, DataError, InputError, RecipeError
from tledge.gate import measure as measure_
from tledge.gate import scoring
from tledge.gate.budget import Budget, RowsFile, Scope
from tledge.gate.judge import judge
from tledge.gate.measurements import Measurements

CPU = "CPUExecutionProvider"
WORDS = ["good", "bad", "train", "late", "x", "the", "is"]


@pytest.fixture(autouse=True)
def no_processes(monkeypatch):
    """Footprints that start no process: those are tested with `bench`."""

    def footprint(graph, *, candidate, feeds, threads, provider):
        assert feeds["input_ids"].shape[0] >= 1
        return Footprint(candidate, 1.0, 50.0, 5.0, 120.0, 60.0, {CPU: 7}, threads=threads)

    monkeypatch.setattr(measure_.memory, "footprint", footprint)


class Compare:
    """A comparison that takes no time and remembers what it was asked."""

    def __init__(self, ratio=1.0):
        self.asked, self.ratio = [], ratio

    def __call__(self, new, old, *, setting, within, duration_s, isolate, progress):
        self.asked.append((new, old, setting, within, isolate))
        ratio = LatencyRatio(old.name, self.ratio, self.ratio - 0.005, self.ratio + 0.005, 100)
        noise = LatencyRatio(old.name, 1.0, 0.995, 1.005, 50)
        place = (setting.batch, setting.length, setting.threads, setting.provider)
        return Comparison(new.name, old.name, *place, ratio, noise, within, "same", "", 1.0, 1.0, isolate)


def gate(folder, limits, *, scopes=(), compare=None, machines=("any",), evaluation=None, metric=None, **changes):
    top = (Scope(limits),) if limits else ()
    budget = Budget((*top, *scopes), machines=machines, evaluation=evaluation, metric=metric)
    measured = measure_.measure(folder, budget, duration_s=0.3, compare=compare or Compare(), **changes)
    return measured, judge(measured, budget)


@pytest.fixture
def labelled(tiny, tmp_path):
    """A file of rows that fp32 answers all rightly, by its own weights."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 5)) + " " + "x " * (i % 7) for i in range(120)]
    texts = list(dict.fromkeys(texts))
    path = tmp_path / "rows.jsonl"
    index = {
        word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS[:5], ".", ",", "!", *WORDS[5:]])
    }

    def label(text):
        ids = [2, *(index[word] for word in text.split()), 3][:16]
        return ("negative", "neutral", "positive")[int(tiny.weights[ids].mean(axis=0).argmax())]

    path.write_text("".join(json.dumps({"text": text, "label": label(text)}) + "\n" for text in texts))
    return path


@pytest.fixture
def other(tiny, tmp_path):
    """A bundle like the tiny one whose int8 answers are those of other weights."""

    def make(weights, **changes):
        graphs = tmp_path / "other-graphs"
        graphs.mkdir()
        graph = tiny.save_graph(graphs / "model_int8.onnx", weights.astype(np.float32))
        variants = [
            tiny.variants[0],
            (dataclasses.replace(tiny.variants[1][0], graph=graph), graphs / "model_int8.onnx"),
        ]
        tiny.write(tmp_path / "other", variants=variants, **changes)
        return tmp_path / "other"

    return make


def test_a_bundle_is_measured_and_judged_whole(tiny_bundle, labelled):
    limits = {
        "p50_ms": 1000, "p97_ms": 1000, "load_ms": 200, "size_mb": 1, "peak_memory_mb": 150, "max_metric_drop": 0.5,
        "min_metric": 0.5, "max_parity_error": 0.05, "max_slowdown": 0.02,
    }  # fmt: skip
    measured, verdict = gate(tiny_bundle, limits, against=tiny_bundle, rows=labelled)
    assert {finding.limit: finding.verdict for finding in verdict.findings} == dict.fromkeys(limits, ACCEPT)
    assert verdict.name == "tiny"
    assert len(verdict.version) == 12
    assert verdict.against == f"tiny {verdict.version}"
    assert verdict.bench.latencies[0].candidate == "int8"
    assert verdict.bench.comparisons == (measured.scopes[0].comparison,)
    data = json.loads(json.dumps(artifacts.to_dict(measured)))
    assert artifacts.from_dict(Measurements, data) == measured


def test_nothing_runs_that_no_limit_asks_for(tiny_bundle, monkeypatch, labelled):
    monkeypatch.setattr(measure_, "open_session", None)
    monkeypatch.setattr(scoring, "open_session", None)
    monkeypatch.setattr(measure_.memory, "footprint", None)
    measured, verdict = gate(tiny_bundle, {"size_mb": 1}, against=tiny_bundle, rows=labelled.with_name("none.csv"))
    assert verdict.verdict == ACCEPT
    scope = measured.scopes[0]
    assert (scope.latency, scope.footprint, scope.comparison, scope.quality, scope.parity) == (None,) * 5


def test_the_size_is_that_of_the_graph_on_disk(tiny_bundle):
    measured, verdict = gate(tiny_bundle, {"size_mb": 0.0001})
    assert verdict.verdict == REGRESSION
    assert measured.scopes[0].size_mb == (tiny_bundle / "onnx/model_int8.onnx").stat().st_size / 1e6


def test_every_scope_is_measured_at_its_own_setting(tiny_bundle):
    compare = Compare()
    scopes = (
        Scope({"p50_ms": 1000, "max_slowdown": 0.02}, "fp32", batch=3, length=8, threads=2),
        Scope({"p50_ms": 1000}),
    )
    measured, _ = gate(tiny_bundle, None, scopes=scopes, against=tiny_bundle, compare=compare, isolate=True)
    one, other = measured.scopes
    assert (one.variant, one.batch, one.sequence, one.threads) == ("fp32", 3, 8, 2)
    assert (one.latency.candidate, one.latency.batch, one.latency.sequence, one.latency.threads) == ("fp32", 3, 8, 2)
    assert (other.variant, other.batch, other.sequence, other.threads) == ("int8", 1, 16, 1)
    [(new, old, setting, within, isolate)] = compare.asked
    assert setting == Setting(3, 8, 2, "cpu")
    assert new.graph == old.graph == tiny_bundle / "onnx/model.onnx"
    assert (within, isolate) == (0.02, True)


def test_what_scopes_share_is_measured_once(tiny_bundle):
    compare = Compare()
    scopes = (Scope({"max_slowdown": 0.02}), Scope({"max_slowdown": 0.02, "size_mb": 1}))
    measured, _ = gate(tiny_bundle, None, scopes=scopes, against=tiny_bundle, compare=compare)
    assert len(compare.asked) == len(measured.bench.comparisons) == 1


def test_a_slowdown_is_found(tiny_bundle):
    _, verdict = gate(tiny_bundle, {"max_slowdown": 0.02}, against=tiny_bundle, compare=Compare(1.1))
    assert verdict.verdict == REGRESSION
    assert "10.0% slower than int8 of tiny" in verdict.findings[0].reason


@pytest.mark.parametrize(
    ("limit", "hint"),
    [("max_slowdown", "--against OLD"), ("max_metric_drop", "--rows FILE")],
)
def test_a_limit_that_lacks_something_says_what_to_give(tiny_bundle, limit, hint):
    _, verdict = gate(tiny_bundle, {limit: 0.01})
    assert verdict.verdict == INCONCLUSIVE
    assert hint in verdict.findings[0].reason


def test_without_rows_a_floor_takes_the_metric_of_the_manifest(tiny, tmp_path):
    tiny.write(tmp_path / "b", provenance=bundle.Provenance("0.1.0", "", rows={"test": 400}))
    _, verdict = gate(tmp_path / "b", {"min_metric": 0.75})
    assert verdict.verdict == ACCEPT
    assert "accuracy is 0.8 on 400 rows of the test split, measured when the bundle was made" in (
        verdict.findings[0].reason
    )
    _, verdict = gate(tmp_path / "b", {"min_metric": 0.75}, metric="macro_f1")
    assert verdict.verdict == INCONCLUSIVE
    assert "the bundle has no macro_f1 of int8 on test rows; give --rows FILE" in verdict.findings[0].reason


def test_without_an_old_bundle_the_drop_is_against_fp32(tiny_bundle, labelled):
    measured, verdict = gate(tiny_bundle, {"max_metric_drop": 0.5}, evaluation=RowsFile(labelled))
    pair = measured.scopes[0].quality.paired
    assert (pair.reference, pair.other) == ("fp32", 1.0)
    assert verdict.verdict == ACCEPT
    _, verdict = gate(tiny_bundle, None, scopes=(Scope({"max_metric_drop": 0.5}, "fp32"),), rows=labelled)
    assert "there is nothing to compare the accuracy of fp32 with; give --against OLD" in verdict.findings[0].reason


def test_a_bundle_with_worse_answers_is_a_regression_and_a_far_better_one_anomalous(tiny_bundle, other, tiny, labelled):
    worse = other(tiny.weights[:, ::-1])
    measured, verdict = gate(worse, {"max_metric_drop": 0.05}, against=tiny_bundle, rows=labelled)
    assert verdict.verdict == REGRESSION
    assert "a real change" in verdict.findings[0].reason
    assert measured.scopes[0].quality.rows == measured.scopes[0].quality.other_rows
    _, verdict = gate(tiny_bundle, {"max_metric_drop": 0.05}, against=worse, rows=labelled)
    assert [f.limit for f in verdict.findings if f.verdict == ANOMALOUS] == ["anomalous_metric_gain"]


def test_calibration_rows_among_the_evaluation_rows_are_anomalous(tiny, tmp_path, labelled):
    text = json.loads(labelled.read_text().splitlines()[3])["text"]
    digits = answers.hexadecimal(answers.hashes_of([text, "another"]))
    tiny.write(tmp_path / "b", provenance=bundle.Provenance("0.1.0", "", calibration=digits))
    assert bundle.load(tmp_path / "b").provenance.calibration == digits
    measured, verdict = gate(tmp_path / "b", {"min_metric": 0.1}, rows=labelled)
    assert measured.scopes[0].quality.calibration_rows == 1
    assert verdict.verdict == ANOMALOUS


def test_outputs_that_are_no_numbers_are_anomalous(tiny_bundle, other, tiny, labelled):
    weights = tiny.weights.copy()
    weights[7] = np.nan  # `late`
    # Golden sentences have no such word, so that the bundle itself can be made.
    measured, verdict = gate(other(weights, reference=None), {"min_metric": 0.1}, rows=labelled)
    assert 0 < measured.scopes[0].quality.non_finite < measured.scopes[0].quality.rows
    assert verdict.verdict == ANOMALOUS


class Run:
    """A run folder that has a bundle and stored answers."""

    def __init__(self, folder, made):
        self.folder = folder
        shutil.copytree(made, folder / "bundle")
        (folder / "quantize").mkdir()

    def answers(self, texts, targets, wrong=0, broken=0):
        given = np.array(targets)
        given[:wrong] = (given[:wrong] + 1) % 3
        logits = (np.eye(3)[given] * 4).astype(np.float32)
        logits[:broken] = np.inf
        right = {"logits": (np.eye(3)[np.array(targets)] * 4).astype(np.float32)}
        outputs = {"fp32": right, "int8": {"logits": logits}}
        answers.save(self.folder / "quantize", answers.hashes_of(texts), np.array(targets), outputs)
        return self.folder


@pytest.fixture
def runs(tiny_bundle, tmp_path):
    return Run(tmp_path / "new-run", tiny_bundle), Run(tmp_path / "old-run", tiny_bundle)


TEXTS = [f"text {i}" for i in range(300)]
TARGETS = [i % 3 for i in range(300)]


def test_runs_are_compared_by_their_stored_answers_in_any_order(runs):
    new = runs[0].answers(TEXTS, TARGETS, wrong=60)
    old = runs[1].answers(TEXTS[::-1], TARGETS[::-1], wrong=10)
    measured, verdict = gate(new, {"max_metric_drop": 0.01, "min_metric": 0.5}, against=old)
    pair = measured.scopes[0].quality.paired
    assert (pair.rows, pair.drop) == (300, pytest.approx(50 / 300))
    assert verdict.verdict == REGRESSION
    assert "on the same 300 rows of the run's test split" in verdict.findings[0].reason


def test_a_run_alone_is_compared_with_its_own_fp32(runs):
    measured, _ = gate(runs[0].answers(TEXTS, TARGETS, wrong=6), {"max_metric_drop": 0.01})
    pair = measured.scopes[0].quality.paired
    assert (pair.reference, pair.drop) == ("fp32", 0.02)


def test_runs_with_other_numbers_of_rows_are_anomalous(runs):
    new, old = runs[0].answers(TEXTS, TARGETS), runs[1].answers(TEXTS[:290], TARGETS[:290])
    _, verdict = gate(new, {"max_metric_drop": 0.01}, against=old)
    assert [f.limit for f in verdict.findings if f.verdict == ANOMALOUS] == ["samples"]


def test_rows_with_other_labels_than_before_are_anomalous(runs):
    new, old = runs[0].answers(TEXTS, TARGETS), runs[1].answers(TEXTS, [*TARGETS[:-1], 0])
    measured, verdict = gate(new, {"max_metric_drop": 0.01}, against=old)
    assert measured.scopes[0].quality.relabelled == 1
    assert [f.limit for f in verdict.findings if f.verdict == ANOMALOUS] == ["labels"]


def test_stored_answers_that_are_no_numbers_are_anomalous(runs):
    measured, verdict = gate(runs[0].answers(TEXTS, TARGETS, broken=2), {"max_metric_drop": 0.5})
    assert measured.scopes[0].quality.non_finite == 2
    assert verdict.verdict == ANOMALOUS


def test_runs_without_a_row_in_common_cannot_be_compared(runs):
    new, old = runs[0].answers(TEXTS, TARGETS), runs[1].answers([f"{t}!" for t in TEXTS], TARGETS)
    scopes = (Scope({"max_metric_drop": 0.01}), Scope({"max_metric_drop": 0.01}, batch=2))
    _, verdict = gate(new, None, scopes=scopes, against=old)
    [finding] = verdict.findings
    assert (finding.verdict, finding.reason) == (
        INCONCLUSIVE,
        "the two runs have no test row in common; give --rows FILE",
    )


def test_a_run_against_a_bundle_without_answers_says_so(runs, tiny_bundle):
    _, verdict = gate(runs[0].answers(TEXTS, TARGETS), {"max_metric_drop": 0.01}, against=tiny_bundle)
    assert "has no stored answers of int8; give --rows FILE" in verdict.findings[0].reason


def test_parity_is_the_largest_difference_from_torch_as_a_share(tiny_bundle, tiny):
    measured, verdict = gate(tiny_bundle, {"max_parity_error": 0.05})
    found = measured.scopes[0].parity
    manifest = bundle.load(tiny_bundle)
    vectors = golden.read(tiny_bundle, manifest.golden)
    apart, largest = [], []
    for outputs in vectors.outputs.values():
        apart.append(np.abs(outputs["int8"]["logits"] - outputs["torch"]["logits"]).max())
        largest.append(np.abs(outputs["torch"]["logits"]).max())
    assert found.max_abs_diff == pytest.approx(max(apart), rel=1e-3)
    assert found.error == pytest.approx(max(apart) / max(largest), rel=1e-3)
    assert verdict.verdict == ACCEPT


def test_parity_with_a_graph_that_gives_nan_is_anomalous(tiny_bundle):
    vectors = golden.read(tiny_bundle, bundle.load(tiny_bundle).golden)
    nan = measure_.parity(vectors, lambda tensors: {"logits": np.full((len(tensors["input_ids"]), 3), np.nan)})
    assert np.isnan(nan.max_abs_diff)
    assert np.isnan(nan.error)


@pytest.mark.parametrize(
    "given", [{}, {"scores": np.zeros((1, 3))}, {"logits": np.zeros((1, 4))}, {"logits": np.full((1, 3), "x")}]
)
def test_parity_of_a_graph_that_gives_something_else_is_refused(given, tiny_bundle):
    vectors = golden.read(tiny_bundle, bundle.load(tiny_bundle).golden)
    with pytest.raises(BundleError, match=r"golden case 0: expected float32 \(1, 3\) of 'logits', got"):
        measure_.parity(vectors, lambda tensors: given)


def test_parity_of_vectors_that_do_not_fit_the_graph_is_refused(tiny_bundle):
    vectors = golden.read(tiny_bundle, bundle.load(tiny_bundle).golden)
    with pytest.raises(BundleError, match="the golden vectors do not fit the graph"):
        measure_.parity(vectors, lambda tensors: {"logits": tensors["input_ids"][0, 0, 0]})


def test_parity_without_torchs_outputs_is_inconclusive(tiny, tmp_path):
    tiny.write(tmp_path / "b", reference=None)
    _, verdict = gate(tmp_path / "b", {"max_parity_error": 0.05})
    assert verdict.verdict == INCONCLUSIVE
    assert "no golden outputs of torch" in verdict.findings[0].reason


def test_a_bundle_that_is_not_as_it_was_written_is_not_judged(tiny_bundle, tmp_path):
    shutil.copytree(tiny_bundle, tmp_path / "whole")
    graph = tiny_bundle / "onnx" / "model_int8.onnx"
    data = bytearray(graph.read_bytes())
    data[-1] ^= 1
    graph.write_bytes(data)
    for new, old in ((tiny_bundle, None), (tmp_path / "whole", tiny_bundle)):
        with pytest.raises(BundleError, match=r"is not as it was written \(changed: onnx/model_int8.onnx\)"):
            gate(new, {"size_mb": 1}, against=old)


def test_answers_of_another_graph_do_not_count(tmp_path):
    records = {"int8": {"logits": np.eye(2, dtype=np.float32)}}
    answers.save(tmp_path, np.arange(2, dtype=np.uint64), np.arange(2), records, {"int8": "ab" * 32})
    assert answers.read(tmp_path, "int8", graph="ab" * 32) is not None
    with pytest.raises(DataError, match="another graph than the bundle's gave the answers of int8"):
        answers.read(tmp_path, "int8", graph="cd" * 32)


def test_limits_on_time_hold_where_the_fingerprint_is_named(tiny_bundle):
    measured, verdict = gate(tiny_bundle, {"p50_ms": 1000}, machines=("ffff",))
    assert verdict.verdict == INCONCLUSIVE
    here = measured.bench.machine.fingerprint
    assert gate(tiny_bundle, {"p50_ms": 1000}, machines=(here,))[1].verdict == (ACCEPT if here else INCONCLUSIVE)


@pytest.mark.parametrize(
    ("scope", "message"),
    [
        (Scope({"size_mb": 1}, "fp23"), "the budget's variant 'fp23' is not in .*did you mean 'fp32'"),
        (Scope({"p50_ms": 1}, length=99), "the budget's length 99: .* takes at most 16 tokens"),
        (Scope({"p50_ms": 1}, provider="cpuu"), "the provider 'cpuu' is not known"),
    ],
)
def test_a_scope_that_the_bundle_has_not_is_refused(tiny_bundle, scope, message):
    with pytest.raises(InputError, match=message):
        gate(tiny_bundle, None, scopes=(scope,))


def test_a_length_for_images_is_refused(tiny_image_bundle):
    with pytest.raises(InputError, match="takes images, which have no length"):
        gate(tiny_image_bundle, None, scopes=(Scope({"p50_ms": 1}, length=32),))


def test_an_unknown_metric_is_refused(tiny_bundle):
    with pytest.raises(RecipeError, match=r"the budget's metric 'acuracy' is not known.*did you mean 'accuracy'"):
        gate(tiny_bundle, {"min_metric": 0.5}, metric="acuracy")


def test_bundles_with_other_labels_cannot_be_compared(tiny_bundle, tiny_image_bundle):
    with pytest.raises(InputError, match="cannot be compared: the task of the one: text_classification"):
        gate(tiny_bundle, {"size_mb": 1}, against=tiny_image_bundle)


def test_images_are_evaluated_by_their_paths(tiny_image_bundle, photos):
    path = photos / "rows.csv"
    path.write_text("image,label\nred.jpg,red\nmore/green.png,green\nmore/blue.png,blue\n")
    measured, _ = gate(tiny_image_bundle, {"min_metric": 0.2, "max_parity_error": 1}, rows=path)
    assert (measured.scopes[0].quality.value, measured.scopes[0].quality.rows) == (1.0, 3)


def test_any_percentiles_are_summarised_side_by_side():
    samples = np.random.default_rng(0).lognormal(size=300)
    row = measure_.summarize(list(samples), "int8", Setting(), (50, 93, 97, 99.9))
    assert {"p50", "p93", "p97"} <= set(row.percentiles_ms)
    assert row.missing["p99.9"] == 6636
    assert row.percentiles_low_ms["p93"] < np.quantile(samples, 0.93) < row.percentiles_ms["p93"]
    assert row.percentiles_low_ms["p97"] < row.percentiles_ms["p97"]


def test_a_language_model_is_timed_one_token_at_a_time():
    compare = Compare()
    limits = {"p50_ms": 1000, "max_slowdown": 0.1, "max_parity_error": 0.001, "load_ms": 500}
    folder = language_bundle.shared()
    measured, verdict = gate(folder, limits, compare=compare, against=folder)
    [scope] = measured.scopes
    assert (scope.sequence, scope.latency.sequence, measured.bench.decoding) == (32, 32, True)
    new, old, *_ = compare.asked[0]
    assert (new.decoding, new.feeds(1, 5)["input_ids"].shape, old.feeds(1, 5)["attention_mask"].shape) == (
        True, (1, 1), (1, 6)
    )  # fmt: skip
    found = {finding.limit: finding for finding in verdict.findings}
    assert found["max_parity_error"].verdict == REGRESSION, "the tiny graph was rounded coarsely"


def language_run(folder, rise=0.0, first=0):
    """A run of a language model with 50 scored blocks, whose int8 has a loss that is higher than fp32's by `rise`."""
    shutil.copytree(language_bundle.shared(), folder / "bundle")
    (folder / "quantize").mkdir()
    rng = np.random.default_rng(0)
    losses = rng.normal(3, 0.5, (50, 15)).astype(np.float32)
    noise = rng.normal(0, 0.01, losses.shape).astype(np.float32)
    rate = np.full(50, 4, np.float32)
    outputs = {
        "fp32": {"token_losses": losses, "bytes_per_token": rate},
        "int8": {"token_losses": losses + noise + np.float32(rise), "bytes_per_token": rate},
    }
    blocks = [np.full(16, first + i, np.int32).tobytes() for i in range(50)]
    answers.save(folder / "quantize", answers.hashes_of(blocks), np.zeros((50, 16), np.int32), outputs)
    return folder


@pytest.mark.parametrize(("rise", "expected"), [(0.0, ACCEPT), (0.1, REGRESSION)])
def test_a_language_model_is_held_to_the_losses_that_its_run_kept(tmp_path, rise, expected):
    measured, verdict = gate(language_run(tmp_path / "run", rise), {"max_metric_drop": 0.05, "max_metric": 4})
    found = {finding.limit: finding for finding in verdict.findings}
    assert found["max_metric_drop"].verdict == expected
    assert found["max_metric_drop"].measured == pytest.approx(rise, abs=0.002)
    assert found["max_metric"].verdict == ACCEPT
    assert found["max_metric"].measured == pytest.approx(3 + rise, abs=0.1)
    quality = measured.scopes[0].quality
    assert (quality.metric, quality.rows, quality.unit, quality.paired.reference) == ("loss", 50, "blocks", "fp32")
    assert quality.low < quality.value < quality.high


def test_runs_of_language_models_are_compared_block_by_block(tmp_path):
    new, old, apart = (language_run(tmp_path / name, rise, first) for name, rise, first in (
        ("new", 0.2, 0), ("old", 0.0, 0), ("apart", 0.0, 900)
    ))  # fmt: skip
    _, verdict = gate(new, {"max_metric_drop": 0.05}, against=old, metric="bits_per_byte")
    assert verdict.findings[0].measured == pytest.approx(0.2 / np.log(2) / 4, abs=1e-3)
    assert verdict.findings[0].verdict == REGRESSION
    _, verdict = gate(new, {"max_metric_drop": 0.05}, against=apart)
    assert "no block of test tokens in common: their texts or tokenizers differ" in verdict.findings[0].reason


def test_a_language_model_without_its_run_has_the_loss_of_its_bundle():
    folder = language_bundle.shared()
    _, verdict = gate(folder, {"max_metric_drop": 0.05, "max_metric": 5})
    drop, ceiling = verdict.findings
    assert (drop.verdict, ceiling.verdict, ceiling.measured) == (INCONCLUSIVE, REGRESSION, 5.1)
    assert drop.reason == (
        "there is nothing that a language model was scored on: give run folders that have quantize/answers.npz"
    )
    assert "on the blocks of the test split, measured when the bundle was made" in ceiling.reason


def test_a_limit_on_the_wrong_side_of_a_metric_is_refused(tiny_bundle):
    with pytest.raises(RecipeError, match="min_metric: loss is better when lower; use max_metric"):
        gate(language_bundle.shared(), {"min_metric": 3})
    with pytest.raises(RecipeError, match="max_metric: accuracy is better when higher; use min_metric"):
        gate(tiny_bundle, {}, scopes=(Scope({"max_metric": 0.9}),))


def test_labelled_rows_for_a_language_model_are_refused(tmp_path):
    with pytest.raises(InputError, match="is a language model's, which has no labelled rows; leave --rows"):
        gate(language_bundle.shared(), {"max_metric": 3}, rows=tmp_path / "rows.csv")


def test_a_length_that_leaves_no_room_for_a_token_is_refused():
    with pytest.raises(InputError, match="takes at most 63 tokens"):
        gate(language_bundle.shared(), {}, scopes=(Scope({"p50_ms": 5}, length=64),))
