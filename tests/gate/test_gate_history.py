"""The history: what is stored, that jobs can share a file, and that a damaged line is named."""

import dataclasses
import json
import math
import multiprocessing

import pytest
from verdicts import CREATED, bench, comparison, latency, verdict

from tledge.artifacts import ACCEPT, REGRESSION, Generation, LatencyRatio, Record
from tledge.errors import DataError
from tledge.gate import history


def test_a_record_has_everything_that_a_trend_needs():
    fp32, int8 = history.records(verdict())
    assert (fp32.variant, fp32.p50_ms, fp32.ratio) == ("fp32", 5.0, None)
    assert int8 == Record(
        created=CREATED, name="made-up.bundle", variant="int8", batch=1, sequence=32, threads=1, provider="cpu",
        version="aaaaaaaaaaaa", p50_ms=2.5, p50_low_ms=2.4, p50_high_ms=2.55,
        percentiles_ms={"p50": 2.5, "p95": 3.0}, samples=150,
        against="fp32", ratio=0.5, ratio_low=0.48, ratio_high=0.53,
        size_mb=23.3, load_ms=81.0, peak_memory_mb=118.7, verdict=REGRESSION,
        fingerprint="0123456789ab", cpu="Imaginary CPU @ 2.00GHz", onnxruntime="1.31.1",
    )  # fmt: skip


def test_a_language_model_leaves_its_tokens_a_second():
    generated = Generation(
        "int8", 1, 16, 32, 2, 100, {"p50": 9.0, "p90": 9.5}, {"p50": 0.4, "p99": 0.6}, 2300.0, 2250.0, 2350.0,
        against=LatencyRatio("torch eager", 0.11, 0.1, 0.12, 100),
    )  # fmt: skip
    int8, _ = history.records(bench(latencies=(), generations=(generated,), decoding=True))
    assert (int8.variant, int8.batch, int8.sequence, int8.threads, int8.new_tokens) == ("int8", 1, 16, 2, 32)
    assert (int8.p50_ms, int8.percentiles_ms, int8.samples) == (0.4, {"p50": 0.4, "p99": 0.6}, 100)
    assert (int8.first_token_ms, int8.decoding) == (9.0, True)
    assert (int8.tokens_per_second, int8.tokens_per_second_low, int8.tokens_per_second_high) == (2300, 2250, 2350)
    assert (int8.against, int8.ratio, int8.ratio_low, int8.ratio_high) == ("torch eager", 0.11, 0.1, 0.12)
    assert (int8.size_mb, int8.fingerprint) == (23.3, "0123456789ab")


def test_a_comparison_with_the_old_bundle_is_the_ratio_that_is_kept():
    _, int8 = history.records(verdict(bench=bench(comparisons=(comparison(),))))
    assert (int8.against, int8.ratio, int8.ratio_low, int8.ratio_high) == ("old int8", 1.12, 1.1, 1.14)
    assert (int8.p50_ms, int8.samples) == (2.5, 150)


def test_what_was_only_compared_or_only_loaded_has_a_record_too():
    found = history.records(bench(latencies=(), comparisons=(comparison(batch=4),)))
    assert [(row.variant, row.batch, row.p50_ms, row.size_mb) for row in found] == [
        ("int8", 4, 2.8, 23.3),
        ("fp32", None, None, 91.4),
    ]
    assert {row.verdict for row in found} == {""}


def test_the_variant_of_a_comparison_is_named_without_the_version():
    compared = dataclasses.replace(comparison(), candidate="int8 of made-up.bundle aaaaaaaaaaaa")
    fp32, int8 = history.records(verdict(bench=bench(comparisons=(compared,))))
    assert (int8.variant, int8.ratio, fp32.ratio) == ("int8", 1.12, None)
    (alone,) = history.records(verdict(bench=bench(latencies=(), footprints=(), comparisons=(compared,))))
    assert (alone.variant, alone.p50_ms, alone.size_mb) == ("int8", 2.8, 23.3)


def test_a_size_alone_makes_a_record():
    (record,) = history.records(verdict(bench=bench(latencies=(), footprints=())))
    assert (record.variant, record.size_mb, record.batch) == ("int8", 23.3, None)


def test_a_file_that_is_no_history_is_left_as_it_is(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text,label\na,b\n")
    with pytest.raises(DataError, match="is no history"):
        history.append(path, verdict())
    assert path.read_text() == "text,label\na,b\n"


def test_what_was_appended_comes_back(tmp_path):
    path = tmp_path / "new" / "history.jsonl"
    history.append(path, verdict())
    history.append(path, verdict(ACCEPT))
    history.append(path, bench())
    assert history.read(path) == (
        *history.records(verdict()),
        *history.records(verdict(ACCEPT)),
        *history.records(bench()),
    )
    assert all(json.loads(line)["fingerprint"] == "0123456789ab" for line in path.read_text().splitlines())


def test_a_verdict_without_measurements_leaves_no_file(tmp_path):
    history.append(tmp_path / "history.jsonl", verdict(bench=None))
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_are_not_finite_are_stored_as_none(tmp_path):
    path = tmp_path / "history.jsonl"
    history.append(path, bench(latencies=(latency(p50=math.nan),)))
    assert "NaN" not in path.read_text()
    assert history.read(path)[0].p50_ms is None
    assert history.read(path)[0].percentiles_ms == {}


def _append_often(path, name):
    for _ in range(20):
        history.append(path, bench(name=name * 50))


def test_jobs_at_the_same_time_never_mix_their_lines(tmp_path):
    path = tmp_path / "history.jsonl"
    spawn = multiprocessing.get_context("fork")
    jobs = [spawn.Process(target=_append_often, args=(path, name)) for name in "abc"]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(30)
        assert job.exitcode == 0
    assert sorted(record.name[0] for record in history.read(path)) == sorted("abc" * 20 * 2)


def test_a_line_that_was_never_finished_costs_only_itself(tmp_path):
    path = tmp_path / "history.jsonl"
    history.append(path, bench())
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    history.append(path, bench())
    lines = path.read_bytes().split(b"\n")
    assert len(lines) == 5
    assert b"\n".join(lines[2:]) == whole
    with pytest.raises(DataError, match="line 2"):
        history.read(path)


def damaged(tmp_path, line):
    path = tmp_path / "history.jsonl"
    history.append(path, bench())
    with path.open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(DataError) as caught:
        history.read(path)
    assert str(caught.value).startswith(f"{path}, line 3: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{half", "is not JSON"),
        (b"[1]", "expected an object with a record, got list"),
        (b'{"name": "a", "variant": "b", "provider": "cpu", "batch": 1}', "lacks created, sequence, threads"),
        (b"\xff", "is not UTF-8"),
    ],
)
def test_a_damaged_line_is_named(tmp_path, line, said):
    assert said in damaged(tmp_path, line)


@pytest.mark.parametrize(
    ("key", "value"), [("batch", "1"), ("p50_ms", "fast"), ("p50_ms", True), ("name", 3), ("decoding", 1)]
)
def test_a_value_of_the_wrong_type_is_named(tmp_path, key, value):
    record = dataclasses.asdict(history.records(bench())[0]) | {key: value}
    assert f"{key} cannot be {value!r}" in damaged(tmp_path, json.dumps(record).encode())


def test_a_percentile_of_the_wrong_type_is_named(tmp_path):
    record = dataclasses.asdict(history.records(bench())[0]) | {"percentiles_ms": {"p50": "x"}}
    assert "percentiles_ms cannot be" in damaged(tmp_path, json.dumps(record).encode())


def test_keys_of_a_newer_writer_and_empty_lines_are_passed_over(tmp_path):
    path = tmp_path / "history.jsonl"
    record = history.records(bench())[0]
    newer = dataclasses.asdict(record) | {"invented_later": [1]}
    path.write_text(f"\n{json.dumps(newer)}\n\n")
    assert history.read(path) == (record,)


def test_a_history_that_is_not_there_is_one_plain_line(tmp_path):
    with pytest.raises(DataError, match=r"No such file.*tledge gate --history"):
        history.read(tmp_path / "history.jsonl")


def test_a_place_that_cannot_be_written_is_one_plain_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="history cannot be written"):
        history.append(tmp_path / "file" / "history.jsonl", bench())
