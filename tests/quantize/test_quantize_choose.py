import dataclasses

import pytest

from tledge.artifacts import Candidate, Graph, LatencyRatio, MetricDrop, Variant
from tledge.errors import QuantizeError
from tledge.quantize.choose import Limits, advice, choose, over_budget, pick


def dropped(drop, half=0.0, p=0.001, rows=500):
    """A drop of 0.9 with an interval of so much on either side."""
    return MetricDrop("fp32", 0.9, drop, drop - half, drop + half, p, "exact McNemar test", rows)


def variant(name, *, metric=0.9, mb=50.0, ms=5.0, ratio=None, drop=None):
    """A variant; `ratio` is (low, median, high) of its time by fp32's, the drop is certain by default."""
    timed = None if ratio is None else LatencyRatio("fp32", ratio[1], ratio[0], ratio[2], 100)
    graph = Graph(f"{name}.onnx", int(mb * 1e6), 20, 10, (), ())
    found = dropped(round(0.9 - metric, 9)) if drop is None else drop
    return Variant(name, name, graph, {"accuracy": metric}, latency_ms=ms, against_fp32=timed, metric_drop=found)


FP32 = variant("fp32", mb=100, ms=10)
FAST = (0.3, 0.35, 0.4)


def chosen(*variants, drop=0.01, **limits):
    result = choose(variants, Limits("accuracy", drop, **limits))
    assert [v.name for v in result] == [v.name for v in variants]
    assert all(v.reason for v in result)
    (best,) = [v for v in result if v.chosen]
    return best.name, {v.name: v.reason for v in result}


@pytest.mark.parametrize(
    ("changes", "limits", "winner", "words"),
    [
        ({"ratio": FAST}, {}, "int8", "fastest within the budget: 0.35 (95 % interval 0.30 to 0.40) of fp32's time"),
        ({"ratio": FAST, "metric": 0.89}, {}, "int8", "accuracy -0.0100"),
        ({"ratio": FAST, "metric": 0.95}, {}, "int8", "accuracy +0.0500"),
        (
            {"ratio": FAST, "metric": 0.8899},
            {},
            "fp32",
            "exact McNemar test p = 0.001), more than the 0.01 allowed",
        ),
        ({"ratio": FAST, "metric": float("nan")}, {}, "fp32", "accuracy is no finite number"),
        ({"ratio": (1.1, 1.2, 1.3)}, {}, "fp32", "slower than fp32 here (1.20 (95 % interval 1.10 to 1.30)"),
        ({"ratio": (0.8, 0.9, 1.0)}, {}, "fp32", "not faster than fp32 here (0.90 (95 % interval 0.80 to 1.00)"),
        ({"ratio": (0.8, 1.1, 1.3)}, {}, "fp32", "not faster than fp32 here"),
        ({"ratio": None}, {}, "fp32", "not timed against fp32"),
        ({"ratio": (0.8, 0.9, 0.985)}, {}, "fp32", "not faster than fp32 here"),
        ({"ratio": (0.8, 0.9, 0.979)}, {}, "int8", "fastest within the budget"),
        ({"ratio": FAST, "mb": 120.0}, {"size_mb": 110}, "fp32", "120.0 MB is over the budget of 110 MB"),
        ({"ratio": FAST, "ms": 12.0}, {"latency_ms": 11}, "fp32", "12.00 ms is over the budget of 11 ms"),
        ({"ratio": FAST}, {"size_mb": 60}, "int8", "fastest within the budget"),
        ({"ratio": FAST}, {"latency_ms": 6}, "int8", "fastest within the budget"),
        ({"ratio": FAST, "mb": 60.0, "ms": 6.0}, {"size_mb": 60, "latency_ms": 6}, "int8", "fastest"),
    ],
)
def test_one_variant_beside_fp32(changes, limits, winner, words):
    name, reasons = chosen(FP32, variant("int8", **changes), **limits)
    assert name == winner
    assert words in reasons["int8"]
    if winner == "fp32":
        assert reasons["fp32"] == "no other variant is faster within the budget"


def test_the_fastest_of_the_eligible_is_chosen_and_the_others_say_so():
    name, reasons = chosen(
        FP32,
        variant("fp16", ratio=(0.7, 0.75, 0.8)),
        variant("int8", ratio=FAST),
        variant("int4", ratio=(0.1, 0.2, 0.3), metric=0.5),
    )
    assert name == "int8"
    assert reasons["fp32"] == reasons["fp16"] == "within the budget, but int8 is faster"
    assert reasons["int4"].startswith("accuracy drops by 0.4000")


def test_every_fault_is_named():
    bad = variant("bad", metric=0.5, mb=90, ms=9, ratio=(2, 2, 2))
    _, reasons = chosen(variant("fp32", mb=10, ms=1), bad, size_mb=50, latency_ms=5)
    for words in ("90.0 MB is over", "9.00 ms is over", "accuracy drops", "slower than fp32"):
        assert words in reasons["bad"]


def test_fp32_alone_is_chosen():
    assert chosen(FP32) == ("fp32", {"fp32": "no other variant was made"})


def test_fp32_over_the_budget_says_so():
    name, reasons = chosen(FP32, variant("int8", ratio=FAST), size_mb=60)
    assert name == "int8"
    assert reasons["fp32"] == "100.0 MB is over the budget of 60 MB"


def test_nothing_that_fits_is_an_error_with_every_reason():
    with pytest.raises(QuantizeError) as caught:
        choose([FP32, variant("int8", ratio=FAST)], Limits("accuracy", 0.01, size_mb=20))
    assert str(caught.value) == (
        "no variant keeps the budget (fp32: 100.0 MB is over the budget of 20 MB; "
        "int8: 50.0 MB is over the budget of 20 MB): widen `budget` or train a smaller model"
    )


def test_what_went_in_is_not_changed():
    before = variant("int8", ratio=FAST)
    after = choose([FP32, before], Limits("accuracy", 0.01))
    assert not before.chosen
    assert before.reason == ""
    assert (after[1].graph, after[1].metrics, after[1].against_fp32) == (
        before.graph,
        before.metrics,
        before.against_fp32,
    )


@pytest.mark.parametrize(("loss", "winner"), [(2.5, "int8"), (2.99, "int8"), (3.02, "int8"), (3.03, "fp32")])
def test_where_lower_is_better_a_rise_is_the_drop(loss, winner):
    """fp32 has a loss of 3: less of it is never held against a variant, and more only beyond the budget."""
    losses = {"fp32": 3.0, "int8": loss}
    variants = [
        dataclasses.replace(v, metrics={"loss": losses[v.name]}, metric_drop=dropped(losses[v.name] - 3))
        for v in (FP32, variant("int8", ratio=FAST))
    ]
    result = choose(variants, Limits("loss", 0.02, lower_is_better=True))
    assert [v.name for v in result if v.chosen] == [winner]
    if winner == "fp32":
        assert result[1].reason.startswith("loss rises by 0.0300 (95 % interval 0.0300 to")
        assert result[1].reason.endswith("more than the 0.02 allowed")
    else:
        assert result[1].reason.endswith(f"loss {loss - 3:+.4f}")


def test_of_candidates_the_one_with_the_lowest_loss_is_picked_where_lower_is_better():
    timed = LatencyRatio("fp32", 0.4, 0.3, 0.5, 100)
    made = [Candidate("s", {"n": i}, {"loss": loss}, timed) for i, loss in enumerate((3.015, 2.9, 3.4, float("nan")))]
    drops = [dropped(each.metrics["loss"] - 3) for each in made]
    found = pick(made, drops, {"loss": 3.0}, Limits("loss", 0.02, lower_is_better=True))
    assert [each.picked for each in found] == [False, True, False, False]
    assert found[2].reason.startswith("loss rises by 0.4000")
    assert found[3].reason == "loss is no finite number"


ELEVEN_AGAINST_FOUR = dropped(7 / 449, half=0.0167, p=0.118, rows=449)


@pytest.mark.parametrize(("asked", "winner"), [("estimate", "fp32"), ("ship", "int8"), ("refuse", "fp32")])
def test_a_drop_that_may_be_chance_is_inconclusive_and_says_what_would_decide(asked, winner):
    """11 rows lost and 4 won of 449: more than a budget of 0.01, and no proof of it."""
    name, reasons = chosen(FP32, variant("int8", ratio=FAST, drop=ELEVEN_AGAINST_FOUR), inconclusive=asked)
    assert name == winner
    if winner == "fp32":
        assert reasons["int8"] == (
            "inconclusive: accuracy drops by 0.0156 (95 % interval -0.0011 to 0.0323, exact McNemar test p = 0.12), "
            "and 449 validation rows cannot tell whether within the 0.01 allowed; about 600 would"
        )
    else:
        assert "449 validation rows cannot rule out a loss of more than the 0.01 allowed" in reasons["int8"]


@pytest.mark.parametrize(("asked", "winner"), [("estimate", "int8"), ("ship", "int8"), ("refuse", "fp32")])
def test_a_drop_within_the_budget_without_proof_ships_unless_proof_is_asked_for(asked, winner):
    unsure = dropped(0.002, half=0.012, p=0.7)
    name, reasons = chosen(FP32, variant("int8", ratio=FAST, drop=unsure), inconclusive=asked)
    assert name == winner
    assert "500 validation rows cannot" in reasons["int8"]
    assert "about 1,200 would" in reasons["int8"]


def test_what_is_no_worse_and_unsure_is_called_so():
    unsure = dropped(0.0, half=0.011, p=1.0, rows=656)
    _, reasons = chosen(FP32, variant("int8", ratio=FAST, drop=unsure), inconclusive="refuse")
    assert reasons["int8"].startswith("inconclusive: accuracy is no worse (95 % interval -0.0110 to 0.0110")


@pytest.mark.parametrize("asked", ["estimate", "ship", "refuse"])
def test_a_proven_loss_never_ships_and_a_proven_keep_always_does(asked):
    lost, kept = dropped(0.03, half=0.01), dropped(0.001, half=0.004, p=0.5)
    assert chosen(FP32, variant("int8", ratio=FAST, drop=lost), inconclusive=asked)[0] == "fp32"
    name, reasons = chosen(FP32, variant("int8", ratio=FAST, drop=kept), inconclusive=asked)
    assert name == "int8"
    assert "cannot" not in reasons["int8"]


def test_rows_too_few_for_a_test_are_inconclusive():
    few = MetricDrop("fp32", 0.9, 0.2, None, None, None, "paired bootstrap", 5)
    name, reasons = chosen(FP32, variant("int8", ratio=FAST, drop=few))
    assert name == "fp32"
    assert reasons["int8"].startswith("inconclusive: accuracy drops by 0.2000 (too few for a test: 5)")


def test_advice_is_about_what_each_variant_failed_on():
    limits = Limits("accuracy", 0.01, size_mb=200)
    cases = {
        "more validation rows, about 600; or ship": variant("int8", ratio=FAST, drop=ELEVEN_AGAINST_FOUR),
        "a wider budget if the loss is bearable": variant("int8", ratio=FAST, metric=0.5),
        "the device itself": variant("int8", ratio=(1.1, 1.2, 1.3)),
        "a smaller model": variant("int8", ratio=FAST, mb=300.0),
    }
    for words, one in cases.items():
        assert any(words in line for line in advice(choose([FP32, one], limits), limits)), words
    assert advice(choose([FP32, variant("int8", ratio=FAST)], limits), limits) == ()
    assert advice(choose([FP32], limits), limits) == ()


def test_a_loss_on_rows_that_chose_nothing_is_said_beyond_the_budget_alone():
    limits = Limits("accuracy", 0.01)
    near, far = (
        dataclasses.replace(FP32, name="int8", test_metric_drop=drop)
        for drop in (dropped(0.01), dropped(0.015, 0.001, rows=300))
    )
    assert over_budget(near, limits) == ""
    assert over_budget(far, limits).startswith("int8: on the 300 test rows accuracy drops by 0.0150 against fp32 (95 %")
    assert over_budget(FP32, limits) == ""
