import dataclasses
import json

import pytest

from tledge.artifacts import LatencyRatio, from_dict, to_dict
from tledge.report import Facts, summary


def test_facts_survive_json(facts, minimal):
    for each in (facts, minimal):
        assert from_dict(Facts, json.loads(json.dumps(to_dict(each)))) == each


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
    assert summary.wilson(share, rows) == pytest.approx((low, high), abs=2e-4)


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
