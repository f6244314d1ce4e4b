from types import SimpleNamespace

import pytest

from tledge import tasks
from tledge.artifacts import Candidate, LatencyRatio, MetricDrop
from tledge.errors import QuantizeError
from tledge.evaluate import Evaluation
from tledge.progress import silent
from tledge.quantize.choose import Limits, pick, slower
from tledge.quantize.search import search

TASK = tasks.load("text_classification")
LIMITS = Limits("accuracy", 0.02)
LOST = "accuracy drops by 0.1000 (95 % interval 0.1000 to 0.1000, exact McNemar test p = 0.001), more than the 0.02"
CHOICES = [{"types": t, "way": w} for w in ("plain", "careful", "slow") for t in ("u8s8", "s8s8")]


def ratio(low, middle=None, high=None):
    return LatencyRatio("fp32", middle or low, low, high or middle or low, 9)


def certain(drop):
    """A drop without doubt."""
    return MetricDrop("fp32", 0.9, drop, drop, drop, 0.001, "exact McNemar test", 500)


@pytest.fixture
def look(tmp_path):
    """`look(accuracy, ratios, broken)` searches made-up candidates: what it gave and what it asked for."""

    def go(accuracy, ratios, *, broken=()):
        asked = SimpleNamespace(made=[], scored=[], timed=[])

        def apply(source, target, *, calibration, scratch, types, way):
            name = f"{types} {way}"
            asked.made.append(name)
            if name in broken:
                raise KeyError(f"{name}\nand more")
            assert scratch.is_dir()
            target.write_text(name)

        def score(path, name):
            asked.scored.append(name)
            assert path.read_text() == name
            return Evaluation(TASK, {"accuracy": accuracy[name]}, {})

        def time(graphs):
            asked.timed.append(list(graphs))
            return {name: (1.0, None if name == "fp32" else ratios[name]) for name in graphs}

        evaluation, candidates = search(
            "scheme",
            SimpleNamespace(apply=apply),
            tmp_path / "model.onnx",
            tmp_path / "variant.onnx",
            CHOICES,
            fixed={},
            calibration=lambda: iter([]),
            fp32=Evaluation(TASK, {"accuracy": 0.9}, {}),
            score=score,
            compare=lambda ours, fp32: certain(fp32.metrics["accuracy"] - ours.metrics["accuracy"]),
            time=time,
            limits=LIMITS,
            progress=silent,
        )
        picked = [each for each in candidates if each.picked]
        assert {" ".join(each.settings.values()) for each in candidates} == set(asked.made)
        assert len(picked) == 1
        assert all(each.reason for each in candidates)
        assert dict(picked[0].metrics) == evaluation.metrics
        assert [path.name for path in tmp_path.iterdir()] == ["variant.onnx"]
        reasons = {" ".join(each.settings.values()): each.reason for each in candidates}
        return (tmp_path / "variant.onnx").read_text(), reasons, asked

    return go


FAST, SLOW = {"u8s8 plain": ratio(0.5), "s8s8 plain": ratio(0.8)}, {"u8s8 plain": ratio(1.2), "s8s8 plain": ratio(1.5)}


def test_types_are_timed_first_and_the_search_ends_at_the_first_that_is_good_enough(look):
    best, reasons, asked = look({"u8s8 plain": 0.89}, FAST)
    assert best == "u8s8 plain"
    assert asked.made == ["u8s8 plain", "s8s8 plain"]
    assert asked.timed == [["fp32", "u8s8 plain", "s8s8 plain"]]
    assert asked.scored == ["u8s8 plain"]
    assert reasons["u8s8 plain"] == "fastest within the budget, accuracy -0.0100"
    assert reasons["s8s8 plain"].startswith("slower here than u8s8 plain (0.80")


def test_a_loss_within_the_budget_is_not_yet_good_enough_and_times_decide(look):
    accuracy = {"u8s8 plain": 0.885, "u8s8 careful": 0.8, "u8s8 slow": 0.899}
    best, reasons, asked = look(accuracy, FAST | {"u8s8 slow": ratio(0.6)})
    assert best == "u8s8 plain"
    assert asked.scored == ["u8s8 plain", "u8s8 careful", "u8s8 slow"]
    assert asked.timed[1] == ["fp32", "u8s8 plain", "u8s8 slow"]
    assert reasons["u8s8 careful"] == f"{LOST} allowed"
    assert reasons["u8s8 slow"] == "within the budget, but slower than the picked one"


def test_where_none_keeps_the_budget_the_most_accurate_one_is_reported(look):
    best, reasons, _ = look({"u8s8 plain": 0.5, "u8s8 careful": 0.8, "u8s8 slow": 0.7}, FAST)
    assert best == "u8s8 careful"
    assert reasons[best] == f"{LOST} allowed, but no other loses less"


def test_types_that_cannot_be_told_apart_in_time_both_stay(look):
    ratios = {"u8s8 plain": ratio(0.5, 0.6, 0.7), "s8s8 plain": ratio(0.6, 0.65, 0.7)}
    best, _, asked = look({"u8s8 plain": 0.85, "s8s8 plain": 0.9}, ratios)
    assert best == "s8s8 plain"
    assert asked.scored == ["u8s8 plain", "s8s8 plain"]


def test_where_all_types_are_slower_than_fp32_one_is_left_to_be_refused(look):
    best, reasons, asked = look({"u8s8 plain": 0.5}, SLOW)
    assert best == "u8s8 plain"
    assert asked.scored == ["u8s8 plain"]
    assert reasons["s8s8 plain"].startswith("slower than fp32 here (1.50")
    assert asked.made == ["u8s8 plain", "s8s8 plain"]


def test_a_candidate_that_cannot_be_made_is_noted(look):
    best, reasons, asked = look({"s8s8 plain": 0.9, "u8s8 careful": 0.9}, FAST | {"u8s8 careful": ratio(0.5)},
                                broken=["u8s8 plain"])  # fmt: skip
    assert best == "u8s8 careful"
    assert reasons["u8s8 plain"] == "cannot be made: KeyError: 'u8s8 plain\\nand more'"
    assert asked.timed[0] == ["fp32", "s8s8 plain", "u8s8 careful"]


def test_where_none_can_be_made_the_scheme_fails(look):
    names = [" ".join(choice.values()) for choice in CHOICES]
    with pytest.raises(QuantizeError, match=r"^quantize: scheme scheme fails on this graph: cannot be made: KeyError"):
        look({}, {}, broken=names)


@pytest.mark.parametrize(
    ("ratios", "out"),
    [
        ({"a": ratio(0.5), "b": ratio(0.9)}, ["b"]),
        ({"a": ratio(0.5, 0.6, 0.7), "b": ratio(0.7, 0.8, 0.9)}, []),
        ({"a": ratio(0.9, 1.0, 1.2), "b": ratio(1.1)}, ["b"]),
        ({"a": ratio(1.1), "b": ratio(1.1, 1.2, 1.3)}, ["b"]),
        ({"a": ratio(3.0)}, []),
    ],
)
def test_which_are_too_slow(ratios, out):
    assert [name for name, reason in slower(ratios).items() if reason] == out


def test_of_equals_in_time_the_more_accurate_is_picked_and_a_lost_metric_never():
    made = [
        Candidate("s", {"n": 1}, {"accuracy": 0.89}, ratio(0.5, 0.55, 0.6)),
        Candidate("s", {"n": 2}, {"accuracy": 0.9}, ratio(0.58, 0.6, 0.65)),
        Candidate("s", {"n": 3}, {"accuracy": float("nan")}, ratio(0.1)),
        Candidate("s", {"n": 4}, {}, None, "out before"),
    ]
    drops = [certain(0.01), certain(0.0), certain(float("nan")), None]
    found = pick(made, drops, {"accuracy": 0.9}, LIMITS)
    assert [each.picked for each in found] == [False, True, False, False]
    assert found[0].reason == "within the budget and as fast as the picked one, but not more accurate"
    assert found[2].reason == "accuracy is no finite number"
    assert found[3].reason == "out before"


def test_a_pick_that_is_slower_than_fp32_says_so():
    (only,) = pick([Candidate("s", {}, {"accuracy": 0.9}, ratio(1.2))], [certain(0)], {"accuracy": 0.9}, LIMITS)
    assert only.reason == "fastest within the budget, accuracy +0.0000, but slower than fp32 here"
