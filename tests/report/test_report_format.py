import pytest

from tledge.artifacts import LatencyRatio
from tledge.report import format as fmt


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.95348, "0.953"),
        (1.0, "1.000"),
        (0.0, "0.000"),
        (0.99967, "0.9997"),
        (None, "not measured"),
        (float("nan"), "not measured"),
    ],
)
def test_metric_never_rounds_up_to_a_perfect_score(value, text):
    assert fmt.metric(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.1234, "0.123"), (4.561, "4.56"), (9.996, "10.0"), (78.94, "78.9"), (1234.4, "1,234")]
)
def test_milliseconds_have_about_three_digits(value, text):
    assert fmt.milliseconds(value) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (LatencyRatio("x", 0.238, 0.227, 0.256, 9), "4.2 times as fast (3.9 to 4.4)"),
        (LatencyRatio("x", 1.31, 1.2, 1.4, 9), "1.3 times as slow (1.2 to 1.4)"),
        (LatencyRatio("x", 1.02, 0.97, 1.04, 9), "about as fast (0.97 to 1.04 of its time)"),
        (LatencyRatio("x", 1.05, 1.01, 1.08, 9), "1.05 times as slow (1.01 to 1.08)"),
        (LatencyRatio("x", 0.02, 0.018, 0.022, 9), "50 times as fast (45 to 56)"),
    ],
)
def test_speed_says_which_way_and_how_sure(ratio, text):
    assert fmt.speed(ratio) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "0.4 s"), (41.6, "42 s"), (200, "3 min 20 s"), (59.8, "1 min 00 s"), (3900, "1 h 05 min")],
)
def test_duration(seconds, text):
    assert fmt.duration(seconds) == text


def test_sizes_counts_and_shares():
    assert fmt.size(23_345_678) == "23.3 MB"
    assert fmt.megabytes(0.0421) == "0.042 MB"
    assert fmt.parameters(22_713_216) == "22.7 million"
    assert fmt.parameters(5775) == "5,775"
    assert fmt.share(5775, 22_713_216) == "0.025 %"
    assert fmt.rows(1) == "1 row"
    assert fmt.difference(1.24e-6).replace("\N{NO-BREAK SPACE}", " ") == "1.2 × 10⁻⁶"
    assert fmt.difference(0.0) == "0"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("the load average was 4", "The load average was 4"),
        ("fp32 kept one core busy", "fp32 kept one core busy"),
        ("int8_dynamic: 3 nodes", "int8_dynamic: 3 nodes"),
        ("p95 is not given", "p95 is not given"),
        ("", ""),
    ],
)
def test_a_sentence_begins_with_a_capital_but_a_name_stays(text, shown):
    assert fmt.capital(text) == shown


def test_moment_is_utc_and_other_text_stays():
    assert fmt.moment("2026-01-02T05:04:05+02:00") == "2026-01-02 03:04 UTC"
    assert fmt.moment("yesterday") == "yesterday"


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234.5, "1,234"), (98.0, "98.0"), (402.4, "402"), (-1.25, "-1.25"), (0.0123, "0.0123"), (0.5, "0.500"), (0, "0")],
)
def test_quantities_of_any_size_have_about_three_digits(value, text):
    assert fmt.quantity(value) == text


def test_scores_gains_and_spreads():
    assert fmt.score("mae", 1234.5) == "1,234"
    assert fmt.score("accuracy", 0.9999) == "0.9999"
    assert fmt.metric(-0.0001) == "0.000"
    assert fmt.gain(-0.0001) == "+0.000"
    assert fmt.spread({"p0": 32, "p50": 300, "p100": 2048}) == "32 to 2,048, median 300"
    assert fmt.spread({"p0": 300, "p50": 300, "p100": 300}) == "300"
    assert fmt.spread({}) == ""
    assert fmt.setting(8, None, 2) == "batch 8, 2 threads"
    assert fmt.metric_name("roc_auc") == "ROC AUC"
