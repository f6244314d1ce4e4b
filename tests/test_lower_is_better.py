"""A labelled task whose metric is better when lower, from its training to the gate and the report."""

import dataclasses
import json

import pytest
import tiny_project
from tiny_project import call

from tledge import evidence, pipeline
from tledge.artifacts import read_json
from tledge.quantize.choose import choose, limits_of
from tledge.recipe import load_recipe
from tledge.report import summary

# With so high a rate the log loss falls and rises again, so that its best epoch is neither the first nor the last.
SETTINGS = ["metric=log_loss", "finetune.learning_rate=0.01", "finetune.epochs=8", "distill.epochs=2",
            "distill.batch_size=8", "distill.learning_rate=0.02", "distill.report_to=[]"]  # fmt: skip


@pytest.fixture(scope="module")
def lower(tiny_backbone, tmp_path_factory):
    """A whole run of classification with a student, judged by its log loss."""
    folder = tmp_path_factory.mktemp("lower")
    recipe = load_recipe(tiny_project.write_project(folder / "project", tiny_backbone), SETTINGS)
    return recipe, pipeline.run(recipe, folder / "run")


def phases(run):
    distilled = read_json(run / "distill" / "distill.json")
    return [*read_json(run / "train" / "train.json")["phases"], *distilled["phases"], *distilled["alone_phases"]]


def test_training_and_distillation_keep_the_epoch_with_the_lowest(lower):
    found = phases(lower[1])
    assert len(found) == 3
    for phase in found:
        values = {point["epoch"]: point["validation_metric"] for point in phase["curve"]}
        assert phase["best_metric"] == min(values.values()) < max(values.values())
        assert values[phase["best_epoch"]] == phase["best_metric"]


def test_what_is_kept_is_the_best_epoch(lower):
    recipe, run = lower
    fp32 = read_json(run / "quantize" / "variants.json")[0]
    assert fp32["metrics"][recipe.metric] == pytest.approx(phases(run)[1]["best_metric"], rel=1e-4)


def test_the_budget_bounds_a_rise(lower):
    recipe, run = lower
    fp32, int8 = evidence.variants(run / "quantize")
    drops = dataclasses.replace(int8.metric_drop, drop=0.2)
    worse = dataclasses.replace(int8, metrics={"log_loss": fp32.metrics["log_loss"] + 0.2}, metric_drop=drops)
    tight = dataclasses.replace(limits_of(recipe), max_metric_drop=0.1)
    assert tight.lower_is_better
    chosen = {each.name: each for each in choose((fp32, worse), tight)}
    assert chosen["fp32"].chosen
    assert "rises by 0.2" in chosen[int8.name].reason


@pytest.mark.parametrize(("limit", "code"), [(100.0, 0), (1e-6, 11)])
def test_the_gate_bounds_it_from_above(limit, code, lower, capfd, tmp_path):
    (tmp_path / "budget.yaml").write_text(f"metric: log_loss\nmax_metric: {limit}\n")
    done = call(capfd, "gate", lower[1], "--budget", tmp_path / "budget.yaml", "--json", "-")
    finding = json.loads(done.out)["findings"][0]
    assert (done.code, finding["limit"]) == (code, "max_metric")


def test_the_gate_refuses_a_least_value_of_it(lower, capfd, tmp_path):
    (tmp_path / "budget.yaml").write_text("metric: log_loss\nmin_metric: 0.1\n")
    done = call(capfd, "gate", lower[1], "--budget", tmp_path / "budget.yaml")
    assert done.code == 2
    assert "max_metric" in done.err


def test_the_report_says_that_lower_is_better(lower):
    recipe, run = lower
    facts = evidence.facts(recipe, run)
    assert facts.lower_is_better
    gain = next(each for each in facts.distillation.gains if each.metric == "log_loss")
    assert gain.helps in (None, gain.mean < 0)
    least = facts.baseline["log_loss"]
    for value, told in ((least * 2, True), (least / 20, False)):
        chosen = dataclasses.replace(summary.chosen(facts), test_metrics={"log_loss": value})
        variants = tuple(chosen if each.chosen else each for each in facts.variants)
        found = dataclasses.replace(facts, variants=variants, bounds=(value * 0.9, value * 1.1))
        assert bool(summary.no_better(found)) == told
