import re
from pathlib import Path

import pytest

from tledge.errors import RecipeError
from tledge.gate.budget import _PLACE, _ROWS, _WHOLE, LIMITS, Budget, RowsFile, Scope, load, percentile_of

WHOLE = """\
machine: [3f2a, 77bc]
metric: accuracy
p95_ms: 12
p99.9_ms: 40
load_ms: 200
size_mb: 25
peak_memory_mb: 150
max_metric_drop: 0.01
min_metric: 0.85
max_metric: 3.5
max_parity_error: 0.02
max_slowdown: 2e-2
anomalous_speedup: 8
anomalous_metric_gain: 0.2
overflow: allow
at:
  - variant: fp32
    batch: 8
    length: 128
    p95_ms: 90
    size_mb: null
  - provider: cuda
    threads: 2
evaluation:
  rows: data/test.csv
  text: utterance
  label: intent
  label_names: {0: negative, 1: positive}
"""


@pytest.fixture
def budget(tmp_path):
    def read(text):
        path = tmp_path / "budget.yaml"
        path.write_text(text)
        return load(path)

    return read


def refused(budget, text):
    with pytest.raises(RecipeError) as error:
        budget(text)
    return str(error.value)


def test_every_key_is_read(budget, tmp_path):
    found = budget(WHOLE)
    assert found.machines == ("3f2a", "77bc")
    assert (found.metric, found.anomalous_speedup, found.anomalous_metric_gain) == ("accuracy", 8, 0.2)
    assert found.overflow == "allow"
    top = found.scopes[0]
    assert top.limits == {
        "p95_ms": 12, "p99.9_ms": 40, "load_ms": 200, "size_mb": 25, "peak_memory_mb": 150, "max_metric_drop": 0.01,
        "min_metric": 0.85, "max_metric": 3.5, "max_parity_error": 0.02, "max_slowdown": 0.02,
    }  # fmt: skip
    assert set(LIMITS) <= set(top.limits)
    assert top == Scope(top.limits, None, None, 1, None, 1)
    assert found.evaluation == RowsFile(
        tmp_path / "data/test.csv", {"text": "utterance", "label": "intent"}, {"0": "negative", "1": "positive"}, "|"
    )


def test_a_further_scope_inherits_what_it_does_not_say_and_null_lifts_a_limit(budget):
    top, fp32, cuda = budget(WHOLE).scopes
    assert (fp32.variant, fp32.batch, fp32.length, fp32.threads) == ("fp32", 8, 128, 1)
    assert fp32.limits == {**{k: v for k, v in top.limits.items() if k != "size_mb"}, "p95_ms": 90}
    assert (cuda.variant, cuda.provider, cuda.batch, cuda.threads) == (None, "cuda", 1, 2)
    assert cuda.limits == top.limits


def test_limits_may_stand_in_further_scopes_alone(budget):
    assert budget("at:\n  - variant: fp32\n    size_mb: 90\n").scopes == (Scope({"size_mb": 90}, "fp32"),)


def test_an_absolute_path_of_rows_stays(budget):
    assert budget("size_mb: 1\nevaluation:\n  rows: /data/test.csv\n").evaluation.rows == Path("/data/test.csv")


@pytest.mark.parametrize(("given", "holds"), [("a1", True), ("any", True), ("[x, a1]", True), ("b2", False)])
def test_limits_on_time_hold_for_the_machines_that_are_named(budget, given, holds):
    assert budget(f"machine: {given}\np95_ms: 1\n").holds_for("a1") is holds


def test_without_a_machine_limits_on_time_hold_nowhere():
    assert not Budget((Scope({"p95_ms": 1}),)).holds_for("a1")
    assert not Budget((), machines=("",)).holds_for("")


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("p95ms: 12", 1, "p95ms: unknown key"),
        ("size_mb: 1\nat:\n- p95_ms: 1\n  bach: 8", 4, "at[0].bach: unknown key"),
        ("size_mb: 1\nevaluation:\n  rows: a.csv\n  lable: x", 4, "did you mean 'label'?"),
        ("\nsize_mb: -1", 2, "size_mb: expected a number of 0 or more, got -1"),
        ("size_mb: big", 1, "got 'big' (text)"),
        ("size_mb: '12'", 1, "remove the quotes"),
        ("size_mb: true", 1, "got true"),
        ("size_mb: .nan", 1, "expected a number"),
        ("p95_ms: .inf", 1, "expected a number"),
        ("size_mb: null", 1, "expected a number"),
        ("p40_ms: 3", 1, "a percentile lies from p50 to below p100"),
        ("p100_ms: 3", 1, "a percentile lies from p50 to below p100"),
        ("max_slowdown: 2", 1, "expected a number from 0 to 1, got 2; 2 % is 0.02"),
        ("size_mb: 1\nanomalous_speedup: 0.5", 2, "of 1 or more"),
        ("size_mb: 1\nbatch: 0", 2, "batch: expected a whole number of 1 or more, got 0"),
        ("size_mb: 1\nthreads: 1.5", 2, "threads: expected a whole number"),
        ("size_mb: 1\nvariant: 8", 2, "write it in quotes"),
        ("size_mb: 1\nmachine: 1234", 2, "write it in quotes"),
        ("size_mb: 1\nmachine: []", 2, "got an empty list"),
        ("size_mb: 1\nat: {batch: 8}", 2, "at: expected a list"),
        ("size_mb: 1\nat: [8]", 2, "at[0]: expected keys with values"),
        ("size_mb: 1\nevaluation: test.csv", 2, "expected keys with values, such as rows: test.csv"),
        ("size_mb: 1\nevaluation:\n  text: t", 2, "missing key rows"),
        ("size_mb: 1\nevaluation:\n  rows: r.csv\n  text: t\n  image: i", 5, "keep the one that the bundle takes"),
        ("size_mb: 1\nevaluation:\n  rows: r.csv\n  label_names: [a]", 4, "expected label names by label"),
        ("size_mb: 1\nsize_mb: 2", 2, "is there twice"),
    ],
)
def test_each_mistake_is_one_line_with_its_place(budget, text, line, problem):
    message = refused(budget, text)
    assert f"budget.yaml:{line}:" in message
    assert problem in message
    assert "\n" not in message


@pytest.mark.parametrize(("text", "problem"), [("", "is empty"), ("# nothing", "is empty"), ("- a", "got a list")])
def test_a_file_without_keys_is_refused(budget, text, problem):
    assert problem in refused(budget, text)


@pytest.mark.parametrize("text", ["metric: accuracy", "machine: any", "at:\n- variant: fp32"])
def test_a_budget_without_a_limit_is_refused(budget, text):
    assert "there is no limit; give at least one of p95_ms, load_ms" in refused(budget, text)


def test_all_mistakes_are_told_at_once(budget):
    assert len(refused(budget, "p95_ms: -1\nsize_mb: x\nbatch: 0\n").split("\n")) == 3


def test_a_file_that_is_not_there_names_one_beside_it(budget, tmp_path):
    budget("size_mb: 1")
    with pytest.raises(RecipeError, match=r"no such file.*did you mean"):
        load(tmp_path / "budgte.yaml")
    with pytest.raises(RecipeError, match="a folder"):
        load(tmp_path)


def test_the_percent_of_a_limit():
    assert [percentile_of(name) for name in ("p95_ms", "p99.9_ms", "load_ms", "p_ms")] == [95, 99.9, None, None]


PAGE = Path(__file__).parents[2] / "docs/gate.md"


def test_the_pages_examples_are_budgets(budget):
    examples = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        budget(example if "size_mb" in example else f"size_mb: 1\n{example}")


@pytest.mark.parametrize("key", sorted({*LIMITS, *_PLACE, *_WHOLE, *_ROWS}))
def test_the_page_tells_of_every_key(key):
    text = PAGE.read_text()
    assert f"`{key}`" in text or re.search(rf"^  {key}:", text, re.MULTILINE)


def test_overflow_is_refused_by_default_and_by_name(budget):
    assert budget("p95_ms: 12").overflow == "refuse"
    assert refused(budget, "p95_ms: 12\noverflow: maybe").endswith(
        "overflow: expected refuse or allow, got 'maybe' (text)"
    )
