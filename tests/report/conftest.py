"""Synthetic facts: every figure and every text here is made up."""

import base64
import dataclasses
import math
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tledge.artifacts import (
    BenchResult,
    Contender,
    Footprint,
    Gain,
    Generation,
    Graph,
    Latency,
    LatencyRatio,
    Machine,
    ParityCase,
    StudentCandidate,
    TensorSpec,
    Variant,
)
from tledge.report import (
    Candidate,
    DataFacts,
    Distillation,
    Epoch,
    Facts,
    ImageFacts,
    LabelScore,
    PreprocessingFacts,
    RateFinder,
    Regression,
    Sample,
    TrainingFacts,
    Transfer,
    WrongPrediction,
)

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
        baseline={"accuracy": 0.1196},
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
        usage='each["labels"], each["scores"]',
        always="most frequent answer",
        scope="It knows only the labels below: an input that fits none may get some of them all the same.",
        variants=variants,
        confusion=(),
        baseline={},
        wrong=(WrongPrediction("a made-up text", "made_up_01, made_up_02", ""),),
    )


def _picture(i: int, side: int = 96) -> str:
    """A made-up picture as a `data:` URI."""
    rows, columns = np.mgrid[0:side, 0 : side + 8 * i]
    pixels = np.stack([rows * 2 + 10 * i, columns * 2, 255 - rows - columns // 2], axis=-1).astype(np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _untimed(latency: Latency) -> Latency:
    return dataclasses.replace(latency, sequence=None)


def _candidates() -> tuple[Candidate, ...]:
    u8s8 = {"types": "u8s8", "method": "minmax", "keep_float": "none"}
    metrics = {"balanced_accuracy": 0.801, "accuracy": 0.83}
    good = {"balanced_accuracy": 0.849, "accuracy": 0.88}
    return (
        Candidate("int8_static", u8s8, metrics, _ratio("fp32", 0.53), "loses 0.0520, more than 0.01"),
        Candidate("int8_static", u8s8 | {"types": "s8s8"}, metrics, _ratio("fp32", 1.9), "slower than fp32 here"),
        Candidate("int8_static", u8s8 | {"method": "entropy"}, {}, None, "fails: <b>made-up</b> trouble | here"),
        Candidate(
            "int8_static",
            u8s8 | {"keep_float": "worst", "n_worst": 4},
            good,
            _ratio("fp32", 0.63),
            "the fastest within the budget",
            True,
        ),
    )


def _image_variants(metrics: dict[str, float], quantized: dict[str, float]) -> tuple[Variant, ...]:
    at = "batch 1, 1 thread"
    fp32 = Variant("fp32", "fp32", _graph("model", 8_900_000), metrics, metrics, None, 9.1, at, None, False, "slower")
    ratio, reason = _ratio("fp32", 0.63), "fastest within the budget: 0.63 of fp32's time"
    graph = _graph("model_quantized", 2_600_000)
    return fp32, Variant("int8_static", "int8_static", graph, quantized, quantized, 0.98, 5.7, at, ratio, True, reason)


@pytest.fixture
def photos(facts: Facts) -> Facts:
    """A run on images of two labels, with everything that images have."""
    labels = ("cracked <cell>", "whole cell")
    metrics = {"accuracy": 0.876, "balanced_accuracy": 0.851, "macro_f1": 0.853, "roc_auc": 0.912, "log_loss": 0.31}
    quantized = {"accuracy": 0.872, "balanced_accuracy": 0.847, "macro_f1": 0.85, "roc_auc": 0.911, "log_loss": 0.32}
    rates = tuple(10 ** (-6 + i / 10) for i in range(60))
    losses = tuple(0.7 - 0.4 * math.exp(-((x + 2.2) ** 2)) + 10 ** (2 * x + 1) for x in map(math.log10, rates))
    training = dataclasses.replace(
        facts.training,
        backbone="torchvision:mobilenet_v2",
        pooling="",
        max_length=None,
        notes=("312 tensors <matched> by order", "activations of the 14 frozen blocks are cached"),
        image=ImageFacts((224, 224), (256,), "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        rate_finders=(RateFinder(rates, losses, 6.3e-4),),
        augmentation={"flip": "both", "rotation_degrees": 10.0, "color": 0.2, "views": 4},
        contact_sheet=_picture(20),
    )
    images = ("", *(_picture(i) for i in range(1, 9)))
    wrong = tuple(
        WrongPrediction("", labels[i % 2], labels[1 - i % 2], 0.99 - i / 50, image, f"cells/{i:04d}" + "x" * i)
        for i, image in enumerate(images)
    )
    return dataclasses.replace(
        facts,
        task="image_classification",
        metric="balanced_accuracy",
        labels=labels,
        input_kind="image",
        pipeline_tag="image-classification",
        data=dataclasses.replace(
            facts.data,
            rows={"train": 1574, "validation": 420, "calibration": 105, "test": 525},
            label_counts={"train": {labels[0]: 500, labels[1]: 1074}, "test": {labels[0]: 164, labels[1]: 361}},
            image_sides={"p0": 300, "p5": 300, "p50": 300, "p95": 300, "p100": 512},
        ),
        training=training,
        variants=_image_variants(metrics, quantized),
        baseline={"accuracy": 0.687, "balanced_accuracy": 0.5, "macro_f1": 0.407, "roc_auc": 0.5, "log_loss": 0.621},
        transfer=Transfer(
            metrics,
            {"accuracy": 0.803, "balanced_accuracy": 0.752, "macro_f1": 0.76, "roc_auc": 0.85, "log_loss": 0.42},
            0.057,
            0.139,
            81.0,
        ),
        candidates=_candidates(),
        preprocessing=PreprocessingFacts(
            "torchvision", 420, 0.5 / 255, 1e-6, "balanced_accuracy", 0.851, 0.852, "resize_and_normalize", 2.0, 0.0012
        ),
        confusion=((120, 44), (23, 338)),
        label_scores=(LabelScore(labels[0], 0.84, 0.73, 0.78, 164), LabelScore(labels[1], 0.88, 0.94, 0.91, 361)),
        wrong=wrong,
        wrong_count=67,
        parity=tuple(dataclasses.replace(case, sequence=None, padded=False) for case in facts.parity[:2]),
        bench=dataclasses.replace(facts.bench, latencies=tuple(map(_untimed, facts.bench.latencies[:4]))),
    )


@pytest.fixture
def regression(photos: Facts) -> Facts:
    """A run that estimates a number for each image, with numbers far from 1."""
    rng = np.random.default_rng(3)
    truth = rng.choice([0.0, 333.3, 666.7, 1000.0], 500)
    points = tuple((float(t), float(t + e)) for t, e in zip(truth, rng.normal(0, 120, 500), strict=True))
    metrics = {"r2": 0.712, "pearson": 0.846, "mae": 96.1, "rmse": 121.5}
    quantized = {"r2": 0.708, "pearson": 0.845, "mae": 97.2, "rmse": 122.6}
    variants = tuple(dataclasses.replace(v, agreement=None) for v in _image_variants(metrics, quantized))
    wrong = tuple(
        dataclasses.replace(w, truth="1000", predicted=f"{480 + 9 * i}", score=None, error=-520.0 + 9 * i)
        for i, w in enumerate(photos.wrong)
    )
    return dataclasses.replace(
        photos,
        task="image_regression",
        metric="r2",
        labels=("defect <per mille>",),
        numeric=True,
        usage='each["value"]',
        always="mean of the training rows",
        scope="It gives a number for every input, even for one unlike those that it learnt from. "
        "It learnt from numbers of 0 to 1,000, median 333; what lies outside was never seen.",
        data=dataclasses.replace(
            photos.data,
            label_counts={"train": {"defect <per mille>": 1574}},
            target_quantiles={"train": {"p0": 0.0, "p50": 333.3, "p100": 1000.0}},
        ),
        variants=variants,
        baseline={"r2": -0.0004, "pearson": 0.0, "mae": 310.2, "rmse": 402.0},
        transfer=Transfer(metrics, {"r2": 0.71, "pearson": 0.84, "mae": 98.0, "rmse": 122.4}, -0.01, 0.013, 81.0),
        candidates=(),
        confusion=(),
        label_scores=(),
        regression=Regression(points, {"5": -198.2, "25": -81.0, "50": 1.25, "75": 82.0, "95": 199.0}),
        wrong=wrong,
        wrong_count=None,
        parity=tuple(dataclasses.replace(case, same_decision=None) for case in photos.parity),
    )


@pytest.fixture
def flowers(photos: Facts) -> Facts:
    """A run on images of 102 labels, some of them with long names."""
    labels = tuple(f"made-up flower {i}" + " of the alps" * (i % 5 == 0) for i in range(102))
    matrix = [[58 * (i == j) + (i % 7) * (j == (i + 1) % 102) for j in range(102)] for i in range(102)]
    return dataclasses.replace(
        photos,
        labels=labels,
        metric="accuracy",
        confusion=tuple(map(tuple, matrix)),
        label_scores=tuple(LabelScore(each, 0.9, 0.95 - i / 500, 0.93 - i / 400, 60) for i, each in enumerate(labels)),
        data=dataclasses.replace(photos.data, label_counts={"train": dict.fromkeys(labels, 10)}),
        wrong=tuple(
            dataclasses.replace(w, truth=labels[i], predicted=labels[i + 1]) for i, w in enumerate(photos.wrong)
        ),
        transfer=dataclasses.replace(photos.transfer, low=None, high=None),
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


def _curve(start: float, end: float, epochs: int = 6) -> tuple[Epoch, ...]:
    return tuple(
        Epoch(float(i), 1.4 * 0.7**i, 1.3 * 0.75**i + 0.1, end - (end - start) * 0.5**i) for i in range(1, epochs + 1)
    )


def _contender(name: str, parameters: int, values: tuple[float, ...], half: float | None, seconds: float) -> Contender:
    def metrics(value: float) -> dict[str, float]:
        return {"accuracy": value, "macro_f1": value - 0.01}

    mean = sum(values) / len(values)
    bounds = ({}, {}) if half is None else ({"accuracy": mean - half}, {"accuracy": mean + half})
    seeds = tuple(42 + i for i in range(len(values)))
    return Contender(name, parameters, seeds, tuple(map(metrics, values)), metrics(mean), *bounds, seconds)


def _ladder() -> tuple[StudentCandidate, ...]:
    at = ("int8_dynamic", "batch 1, length 32, 1 thread")
    return (
        StudentCandidate("layers 0, 1, 2, 4, 5", 20_939_136, 21.2, 4.31, *at, False, reason="4.31 ms is more than 3"),
        StudentCandidate("layers 0, 2, 4", 17_389_440, 17.7, 2.52, *at, True, True, True, 0.951, "the best of 2"),
        StudentCandidate("half as wide", 8_012_544, 8.1, 1.1, *at, True, True, False, 0.902, "0.049 less | `x`"),
        StudentCandidate("layers 0, 5", 15_614_592, 15.9, 1.9, *at, True, reason="distill.student.budget.train is 2"),
    )


@pytest.fixture
def distillation() -> Distillation:
    """A student that was trained three times with its teacher and three times without."""
    return Distillation(
        student="layers 0, 2, 4 of the teacher <made up>",
        layers=(0, 2, 4),
        teacher_parameters=22_713_216,
        parameters=17_389_440,
        contenders=(
            _contender("teacher", 22_713_216, (0.9568,), None, 0.0),
            _contender("student alone", 17_389_440, (0.9435, 0.9402, 0.9468), 0.0082, 241.0),
            _contender("student with teacher", 17_389_440, (0.9502, 0.9535, 0.9535), 0.0047, 402.0),
        ),
        gains=(Gain("accuracy", 0.0089, 0.0031, 0.0147, True), Gain("macro_f1", 0.0089, 0.0031, 0.0147, True)),
        ladder=_ladder(),
        losses={"soft_targets": 1.0, "hard_labels": 0.5, "hidden_cosine": 1.0},
        temperature=2.0,
        layer_map=(0, 2, 4),
        curve=_curve(0.7, 0.955),
        alone_curve=_curve(0.6, 0.946),
        notes=("made-up <note> of the students",),
        seconds=688.0,
    )


@pytest.fixture
def distilled(facts: Facts, distillation: Distillation) -> Facts:
    """A student's run, timed beside its teacher."""
    bench = facts.bench
    first = tuple(
        dataclasses.replace(row, against=_ratio("teacher in torch eager", row.mean_ms / 22.0))
        for row in bench.latencies[:4]
    )
    teacher = dataclasses.replace(
        first[0],
        candidate="teacher in torch eager",
        mean_ms=22.0,
        percentiles_ms={"p50": 22.0, "p90": 23.1},
        against=None,
    )
    return dataclasses.replace(
        facts, distillation=distillation, bench=dataclasses.replace(bench, latencies=(teacher, *first))
    )


def _language_variants() -> tuple[Variant, ...]:
    at = "batch 1, one token after 32, 1 thread"
    found = []
    for name, size, perplexity, ms, ratio, chosen, why in (
        ("fp32", 542_000_000, 41.13, 21.4, None, False, "slower than int8_dynamic"),
        ("int8_dynamic", 136_000_000, 41.26, 7.1, 0.33, True, "fastest within the budget: 0.33 of fp32's time"),
        ("int4_weight_only", 98_000_000, 43.9, 7.9, 0.37, False, "loss rises by 0.065, more than 0.01"),
    ):
        metrics = {
            "loss": math.log(perplexity),
            "perplexity": perplexity,
            "bits_per_byte": 1.21,
            "next_token_accuracy": 0.36,
        }
        validation = metrics | {"perplexity": perplexity * 0.97, "loss": math.log(perplexity * 0.97)}
        agreement = None if name == "fp32" else 0.951
        against = None if ratio is None else _ratio("fp32", ratio)
        graph = _graph(f"model_{name}", size)
        found.append(Variant(name, name, graph, validation, metrics, agreement, ms, at, against, chosen, why))
    return tuple(found)


def _generations() -> tuple[Generation, ...]:
    found = []
    for prompt, first in ((16, 1.0), (128, 5.2)):
        for name, ms in (("torch eager", 23.9), ("fp32", 21.4), ("int8_dynamic", 7.1), ("int4_weight_only", 7.9)):
            against = None if name == "torch eager" else _ratio("torch eager", ms / 23.9)
            rate = 32 / (31 * ms + first * ms * 2) * 1e3
            times = {"p50": ms * first * 2, "p90": ms * first * 2.1}
            found.append(
                Generation(
                    name, 1, prompt, 32, 1, 100, times, {"p50": ms, "p90": ms * 1.1, "p99": ms * 1.4}, rate,
                    rate * 0.98, rate * 1.01, {"p95": 130, "p99": 662}, {}, against,
                )
            )  # fmt: skip
    return tuple(found)


@pytest.fixture
def language_facts(facts: Facts) -> Facts:
    """A language model that was trained on, with everything that such a run has."""
    curve = tuple(Epoch(i, 5 * 0.9**i, 4.9 * 0.91**i, 4.9 * 0.91**i) for i in range(1, 9))
    samples = tuple(Sample(text, f" and so on, number {i}") for i, text in enumerate(WEIRD_TEXTS[:3]))
    splits = ("train", "validation", "test")
    return dataclasses.replace(
        facts,
        recipe="synthetic-language",
        task="causal_lm",
        metric="loss",
        lower_is_better=True,
        language=True,
        labels=(),
        pipeline_tag="text-generation",
        data=DataFacts(
            sources=dict.fromkeys(splits, "made_up.txt"),
            rows=dict(zip(splits, (1200, 96, 120), strict=True)),
            label_counts={},
            skipped={"the text is empty": 2},
            documents={"train": 1400, "test": 77},
            dropped_tokens=311,
            duplicates=3,
            conflicts=0,
            tokens=dict(zip(splits, (153_600, 12_288, 15_360), strict=True)),
            bytes=dict(zip(splits, (614_001, 49_002, 61_003), strict=True)),
            scored_tokens={"validation": 12_288, "test": 12_800},
        ),
        training=dataclasses.replace(facts.training, strategy="full", pooling="", max_length=128, curve=curve),
        variants=_language_variants(),
        baseline={},
        confusion=(),
        label_scores=(),
        wrong=(),
        wrong_count=None,
        samples=samples,
        bench=dataclasses.replace(facts.bench, latencies=(), generations=_generations(), decoding=True),
    )


@pytest.fixture
def taken(language_facts: Facts) -> Facts:
    """A language model that was taken as it is, and of which little was measured."""
    training = dataclasses.replace(
        language_facts.training, strategy="none", trained_parameters=0, curve=(), seconds=None, device=""
    )
    return dataclasses.replace(language_facts, training=training, bench=None, samples=(), metric="perplexity")


@pytest.fixture(
    params=["facts", "multilabel", "minimal", "photos", "regression", "flowers", "distilled", "language_facts", "taken"]
)
def any_facts(request: pytest.FixtureRequest) -> Facts:
    """Each of the runs above."""
    return request.getfixturevalue(request.param)
