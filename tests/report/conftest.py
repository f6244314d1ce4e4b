"""Synthetic facts: every figure and every text here is made up."""

import dataclasses

import pytest

from tledge.artifacts import (
    BenchResult,
    Footprint,
    Graph,
    Latency,
    LatencyRatio,
    Machine,
    ParityCase,
    TensorSpec,
    Variant,
)
from tledge.report import DataFacts, Epoch, Facts, LabelScore, TrainingFacts, WrongPrediction

WEIRD_LABELS = ("<script>alert(1)</script>", "تشغيل الموسيقى", "🔥 heat | `up`", "a_label_" + "long" * 20)
LABELS = (*(f"made_up_{i:02d}" for i in range(11)), *WEIRD_LABELS)
WEIRD_TEXTS = (
    '<img src="x" onerror="alert(1)"> & <b>bold</b>',
    "אור בסלון בבקשה 123",
    "🔥🔥 make it 👩‍🚀 warm",
    "word" * 60,
    "| a | table `row`\nwith a second line\x00 and a null \u202edesrever",
)


def _graph(name: str, size_bytes: int) -> Graph:
    spec = TensorSpec("logits", "float32", ("batch", len(LABELS)))
    return Graph(f"onnx/{name}.onnx", size_bytes, 20, 10, (), (spec,))


def _ratio(reference: str, ratio: float) -> LatencyRatio:
    return LatencyRatio(reference, ratio, ratio * 0.96, ratio * 1.05, 130)


def _confusion() -> tuple[tuple[int, ...], ...]:
    n = len(LABELS)
    rows = [[0] * n for _ in range(n)]
    for i in range(n):
        rows[i][i] = 18 + i % 4
        rows[i][(i * 3 + 1) % n] += i % 3
    rows[2][5] = 7
    return tuple(map(tuple, rows))


def _bench() -> BenchResult:
    machine = Machine(
        cpu="Imaginary CPU @ 2.00GHz",
        architecture="x86_64",
        cpu_flags=("avx2", "avx512_vnni"),
        cores=2,
        quota_cores=1.5,
        memory_mb=8192.0,
        system="Linux 6.0",
        python="3.11.9",
        onnxruntime="1.31.1",
        providers=("CPUExecutionProvider",),
        load_average=0.25,
        packages={"numpy": "2.0.0"},
    )
    rows = []
    for length, scale in ((32, 1.0), (128, 3.7)):
        for name, ms in (("torch eager", 11.4), ("fp32", 9.12), ("int8_dynamic", 2.78), ("fp16", 9.31)):
            percentiles = {"p50": ms * scale, "p90": ms * scale * 1.08}
            against = None if name == "torch eager" else _ratio("torch eager", ms / 11.4)
            rows.append(Latency(name, 1, length, 1, 100, ms * scale, percentiles, {"p95": 130, "p99": 662}, against))
    footprints = tuple(
        Footprint(name, size, load, first, peak, 61.0, {"CPUExecutionProvider": 214})
        for name, size, load, first, peak in (
            ("fp32", 91.4, 152.0, 14.2, 241.3),
            ("int8_dynamic", 23.3, 81.0, 5.1, 118.7),
            ("fp16", 45.9, 180.0, 15.0, 260.0),
        )
    )
    return BenchResult(
        machine, tuple(rows), footprints, ("2 threads are made-up trouble.",), "2026-01-02T03:04:05+00:00"
    )


def _variants() -> tuple[Variant, ...]:
    at = "batch 1, length 32, 1 thread"
    fp32 = Variant(
        "fp32",
        "fp32",
        _graph("model", 91_400_000),
        {"accuracy": 0.9551},
        {"accuracy": 0.9568},
        latency_ms=9.12,
        latency_at=at,
        reason="slower than int8_dynamic",
    )
    int8 = Variant(
        "int8_dynamic",
        "int8_dynamic",
        _graph("model_int8", 23_300_000),
        {"accuracy": 0.9534},
        {"accuracy": 0.9535},
        0.9871,
        2.78,
        at,
        _ratio("fp32", 0.305),
        True,
        "fastest within the budget: 0.30 (95 % interval 0.29 to 0.32) of fp32's time, accuracy -0.0017",
    )
    fp16 = Variant(
        "fp16",
        "fp16",
        _graph("model_fp16", 45_900_000),
        {"accuracy": 0.9551},
        {"accuracy": 0.9568},
        1.0,
        9.31,
        at,
        _ratio("fp32", 1.021),
        False,
        "not faster than fp32 here",
    )
    return fp32, int8, fp16


@pytest.fixture
def facts() -> Facts:
    """A run with one label a row, complete."""
    curve = tuple(Epoch(i, 2.4 * 0.85**i + 0.1, 2.2 * 0.86**i + 0.19, 0.955 - 0.6 * 0.8**i) for i in range(1, 31))
    return Facts(
        recipe="synthetic-commands",
        created="2026-01-02T03:14:15+00:00",
        task="text_classification",
        version="0.1.0",
        metric="accuracy",
        labels=LABELS,
        pipeline_tag="text-classification",
        recipe_yaml="name: synthetic-commands # <made up>\nseed: 42\n",
        data=DataFacts(
            sources={"train": "made_up.csv", "validation": "0.15 of made_up.csv", "test": "0.2 of made_up.csv"},
            rows={"train": 1234, "validation": 187, "calibration": 0, "test": 301},
            label_counts={"train": dict.fromkeys(LABELS, 80), "test": dict.fromkeys(LABELS, 20)},
            skipped={"empty <text>": 3},
            duplicates=12,
            conflicts=1,
        ),
        training=TrainingFacts("package:made-up/model", 22_713_216, 5_775, "probe", "mean", 64, 42, 83.4, "cpu", curve),
        variants=_variants(),
        baseline=0.1196,
        confusion=_confusion(),
        label_scores=tuple(
            LabelScore(label, 0.99 - i * 0.013, 0.98 - i * 0.01, 0.985 - i * 0.0117, 20)
            if i != 3
            else LabelScore(label, None, 0.0, None, 20)
            for i, label in enumerate(LABELS)
        ),
        wrong=tuple(
            WrongPrediction(text, LABELS[(i * 3) % 15], LABELS[(i * 3 + 1) % 15], 0.99 - i * 0.03)
            for i, text in enumerate((*WEIRD_TEXTS, *(f"made-up command number {i}" for i in range(5))))
        ),
        wrong_count=14,
        parity=tuple(
            ParityCase(f"random tokens, batch {b}, length {s}", b, s, b == 3, 1.2e-06 * s / 64, 1.04e-4, True, True)
            for s in (2, 3, 17, 33, 64)
            for b in (1, 3)
        ),
        bench=_bench(),
        stage_seconds={"data": 1.2, "train": 83.4, "export": 6.3, "quantize": 41.0},
        warnings=("these figures are made up.",),
    )


@pytest.fixture
def multilabel(facts: Facts) -> Facts:
    """A run with any number of labels a row: another metric, and no confusion matrix."""
    variants = tuple(
        dataclasses.replace(v, metrics={"micro_f1": 0.81}, test_metrics={"micro_f1": 0.7954}) for v in facts.variants
    )
    return dataclasses.replace(
        facts,
        task="text_multilabel",
        metric="micro_f1",
        many_labels=True,
        variants=variants,
        confusion=(),
        baseline=None,
        wrong=(WrongPrediction("a made-up text", "made_up_01, made_up_02", ""),),
    )


@pytest.fixture
def minimal(facts: Facts) -> Facts:
    """A run of which next to nothing was measured: no benchmark and no test rows."""
    only = dataclasses.replace(
        facts.variants[0], test_metrics={}, latency_ms=None, chosen=True, reason="no other was tried"
    )
    return Facts(
        "tiny", "2026-01-02T03:14:15+00:00", "text_classification", "0.1.0", "accuracy", ("a", "b"), variants=(only,)
    )
