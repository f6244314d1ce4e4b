import dataclasses
import json

import pytest

from tledge.artifacts import LatencyRatio, from_dict, to_dict
from tledge.report import Facts, summary, transfer
from tledge.significance import wilson


def test_facts_survive_json(any_facts):
    assert from_dict(Facts, json.loads(json.dumps(to_dict(any_facts)))) == any_facts


def test_verdict_names_variant_metric_rows_speed_and_size(facts):
    expected = "int8_dynamic ships: 0.954 accuracy on 301 test rows, 4.1 times as fast as torch eager, 23.3 MB."
    assert summary.verdict(facts) == expected


def test_without_a_benchmark_the_speed_is_that_against_fp32(facts):
    assert "3.3 times as fast as fp32" in summary.verdict(dataclasses.replace(facts, bench=None))


def test_verdict_says_when_nothing_ships(facts):
    variants = tuple(dataclasses.replace(v, chosen=False) for v in facts.variants)
    assert summary.verdict(dataclasses.replace(facts, variants=variants)) == "No variant ships: none was chosen."


def test_verdict_says_when_the_metric_was_not_measured(minimal):
    variant = dataclasses.replace(minimal.variants[0], metrics={})
    assert "accuracy not measured" in summary.verdict(dataclasses.replace(minimal, variants=(variant,)))


@pytest.mark.parametrize(
    ("share", "rows", "low", "high"),  # worked out by hand from Wilson's formula
    [(0.5, 10, 0.2366, 0.7634), (0.0, 10, 0.0, 0.2775), (1.0, 10, 0.7225, 1.0), (0.9, 100, 0.8256, 0.9448)],
)
def test_wilson_interval(share, rows, low, high):
    assert wilson(share, rows) == pytest.approx((low, high), abs=2e-4)


def test_only_a_share_of_rows_gets_the_interval(facts, multilabel):
    accuracy = summary.quality(facts, summary.chosen(facts))
    f1 = summary.quality(multilabel, summary.chosen(multilabel))
    assert accuracy.low < accuracy.value < accuracy.high
    assert f1.low is None


def test_validation_figures_are_called_so_and_warned_about(minimal):
    assert "0.955 accuracy on validation rows" in summary.verdict(minimal)
    assert any("no figure of test rows" in text for text in summary.warnings(minimal))


def test_a_model_no_better_than_the_baseline_is_warned_about(facts):
    assert not any("not clearly better" in text for text in summary.warnings(facts))
    weak = dataclasses.replace(facts, baseline={"accuracy": 0.93})  # below the accuracy, inside its interval
    assert any("not clearly better" in text for text in summary.warnings(weak))
    said = "ships but is not clearly better than always answering the most frequent label (0.930): "
    assert said in summary.verdict(weak)
    worse = dataclasses.replace(facts, baseline={"accuracy": 0.97})
    assert "ships but is not better than always answering the most frequent label (0.970): " in summary.verdict(worse)


def test_failed_parity_is_warned_about(facts):
    failed = dataclasses.replace(facts.parity[0], passed=False)
    found = summary.warnings(dataclasses.replace(facts, parity=(failed, *facts.parity[1:])))
    assert any("1 of 10 parity cases failed" in text for text in found)


def test_confusions_are_the_largest_off_the_diagonal(facts):
    first = summary.confusions(facts, 3)[0]
    assert (first.truth, first.predicted, first.count, first.rows) == ("made_up_02", "made_up_05", 7, 29)
    counts = [pair.count for pair in summary.confusions(facts, 100)]
    assert counts == sorted(counts, reverse=True)


def test_a_reference_is_not_compared_with_itself(facts):
    fp32 = dataclasses.replace(facts.variants[0], against_fp32=LatencyRatio("fp32", 1.0, 1.0, 1.0, 9))
    assert summary.speed(dataclasses.replace(facts, bench=None), fp32) is None


def test_interval_of_a_difference():  # the first example of Newcombe (1998): 56 of 70 and 48 of 80
    assert summary.newcombe(56 / 70, 70, 48 / 80, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize(
    ("metric", "random", "interval", "sure", "said"),
    [
        ("balanced_accuracy", 0.752, (0.057, 0.139), True, "gave +0.099 balanced accuracy over random ones (95 %"),
        ("balanced_accuracy", 0.845, (-0.01, 0.02), False, "which chance may explain (95 % interval -0.010 to +0.020)"),
        ("balanced_accuracy", 0.845, (None, None), True, "a small gain, and how sure it is was not measured"),
        ("balanced_accuracy", 0.752, (None, None), True, "random ones: how sure it is was not measured"),
        ("balanced_accuracy", 0.861, (None, None), False, "gave nothing here: -0.010 balanced accuracy against random"),
        ("accuracy", 0.803, (None, None), True, "(95 % interval +0.0"),  # a share of rows has an interval of its own
        ("accuracy", 0.870, (None, None), False, "which chance may explain"),
    ],
)
def test_the_gain_of_transfer_is_told_as_sure_as_it_is(photos, metric, random, interval, sure, said):
    found = dataclasses.replace(
        photos.transfer, random=photos.transfer.random | {metric: random}, low=interval[0], high=interval[1]
    )
    facts = dataclasses.replace(photos, metric=metric, transfer=found)
    assert summary.gain(facts).sure is sure
    assert said in transfer.table(facts).sentence
    assert any("not clearly better than random" in text for text in summary.warnings(facts)) is not sure


def test_without_a_random_backbone_there_is_no_transfer(facts):
    assert summary.gain(facts) is None
    assert transfer.table(facts) is None


def test_estimates_are_held_to_the_mean(regression):
    weak = dataclasses.replace(regression, baseline={"r2": 0.8})
    assert any("always answering the mean of the training rows (0.800)" in text for text in summary.warnings(weak))
    assert not any("always answering" in text for text in summary.warnings(regression))


def test_two_labels_show_their_roc_auc_and_more_do_not(photos, flowers):
    assert "Test ROC AUC" in [figure.name for figure in summary.key_figures(photos)]
    assert "Test ROC AUC" not in [figure.name for figure in summary.key_figures(flowers)]
