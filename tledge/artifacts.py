"""What is carried from room to room: frozen facts that are stored as JSON.

Paths inside an artifact are strings relative to the folder that holds it, so that a run or a bundle can be moved.
"""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import types
import typing
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a graph; `shape` holds a size or the name of a dynamic dimension (`batch`, `sequence`)."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """One ONNX file; `path` is relative to the folder that holds the artifact."""

    path: str
    size_bytes: int
    opset: int
    ir_version: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True)
class ParityCase:
    """One comparison of a graph with torch on the same inputs.

    `max_abs_diff` is the absolute difference at the element that is nearest to its limit or furthest beyond it,
    `allowed` that limit (`atol + rtol * |torch|`), and `same_decision` whether both gave the same answers (`None` for
    tasks that estimate numbers). `sequence` is `None` for inputs without a length.
    """

    name: str
    batch: int
    sequence: int | None
    padded: bool
    max_abs_diff: float
    allowed: float
    same_decision: bool | None
    passed: bool


@dataclass(frozen=True, slots=True)
class LatencyRatio:
    """Paired, interleaved comparison with a reference: median ratio, bootstrap 95 % interval; below 1 is faster."""

    reference: str
    ratio: float
    low: float
    high: float
    samples: int


@dataclass(frozen=True, slots=True)
class Overflow:
    """Whether a graph's products of uint8 activations and int8 weights could overflow 16 bits (`tledge.overflow`).

    `products` counts these products, `pairs` their pairs of neighbouring weights, and `overflowing` those pairs that
    activations exist for which overflow; `layers` names the worst of the `n_layers` products that have any. `unknown`
    names products whose int8 operand is not stored, `n_unknown` counts them.
    """

    products: int = 0
    pairs: int = 0
    overflowing: int = 0
    layers: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    n_layers: int = 0
    n_unknown: int = 0

    @property
    def possible(self) -> bool:
        """Whether answers may differ on x86 processors without VNNI instructions."""
        return self.overflowing > 0 or self.n_unknown > 0


@dataclass(frozen=True, slots=True)
class Exactness:
    """A graph's outputs on the validation rows against those in exact integer arithmetic, on the same processor.

    `rows` were compared; `different` have other outputs, be it in the last bit, and `different_answers` of all answers
    (tokens, of a language model) are others. `largest` is the largest difference of an output.
    """

    rows: int
    different: int
    different_answers: int
    largest: float


@dataclass(frozen=True, slots=True)
class MetricDrop:
    """A metric of two models on the same rows.

    `drop` is how much worse it is than `other`, the metric of `reference`: `other` minus it where higher is better,
    and the other way round where lower is. `low` to `high` is the drop's 95 % interval and `p_value` that of `test`,
    two-sided, for no difference; the three are `None` where the rows are too few for a test.
    """

    reference: str
    other: float
    drop: float
    low: float | None
    high: float | None
    p_value: float | None
    test: str
    rows: int


@dataclass(frozen=True, slots=True)
class Variant:
    """The graph that one scheme gave, with what was measured of it.

    `metrics` are those of the validation rows, `test_metrics` those of the test rows. `latency_ms` is the median of one
    run at `latency_at` (such as `batch 1, length 32, 1 thread`). `agreement` is the share of validation rows with the
    same answer as fp32, `None` for tasks that estimate numbers. `reason` says why the variant was chosen or not.
    `settings` tells how it was made, where its scheme had a choice. `metric_drop` and `test_metric_drop` compare the
    budget's metric with fp32's, on the validation and on the test rows. `overflow` says whether it could answer
    otherwise on other processors, `exact` how its outputs here compare with exact arithmetic, where this processor's
    could differ, and `processor` where it was scored and timed; each is `None` where an older release made the graph.
    """

    name: str
    scheme: str
    graph: Graph
    metrics: Mapping[str, float] = field(default_factory=dict)
    test_metrics: Mapping[str, float] = field(default_factory=dict)
    agreement: float | None = None
    latency_ms: float | None = None
    latency_at: str = ""
    against_fp32: LatencyRatio | None = None
    chosen: bool = False
    reason: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    metric_drop: MetricDrop | None = None
    test_metric_drop: MetricDrop | None = None
    overflow: Overflow | None = None
    exact: Exactness | None = None
    processor: Processor | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One setting that a scheme with a choice tried; the picked one became the scheme's variant.

    `metrics` are those of the validation rows, empty where it was not scored, and `ratio` its time against fp32, `None`
    where it was not timed. `reason` says why it was picked or not.
    """

    scheme: str
    settings: Mapping[str, str | int] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    ratio: LatencyRatio | None = None
    reason: str = ""
    picked: bool = False


@dataclass(frozen=True, slots=True)
class Latency:
    """Latencies of one candidate at one setting, in milliseconds.

    `percentiles_ms` maps `p50`, `p90` ... to a value; a percentile without enough samples is in `missing` with the
    number of samples it needs. `median_low_ms` and `median_high_ms` bound the median's 95 % interval. `against` is the
    paired ratio to the reference of the same interleaved run. `sequence` is `None` for inputs without a length.
    A percentile above p50 is itself an upper bound; `percentiles_low_ms` has lower ones, each at 99 % confidence.
    """

    candidate: str
    batch: int
    sequence: int | None
    threads: int
    samples: int
    mean_ms: float
    percentiles_ms: Mapping[str, float]
    missing: Mapping[str, int] = field(default_factory=dict)
    against: LatencyRatio | None = None
    median_low_ms: float | None = None
    median_high_ms: float | None = None
    percentiles_low_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EndToEnd:
    """One value after another through a whole bundle: raw value to tensors, the run, tensors to an answer.

    The three parts are medians in milliseconds; `percentiles_ms` and `missing` are those of the whole, as in `Latency`.
    """

    candidate: str
    threads: int
    samples: int
    preprocess_ms: float
    run_ms: float
    postprocess_ms: float
    percentiles_ms: Mapping[str, float]
    missing: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Generation:
    """A language model that goes on with a prompt, greedily: one candidate at one setting.

    `prompt` is the number of tokens of each prompt, `new_tokens` of those that are generated after it; `samples` counts
    whole generations. `first_token_ms` has the percentiles of the time to the first token (the pass over the prompt and
    the choice), `token_ms` those of one further token; `missing` and `token_missing` are as in `Latency`.
    `tokens_per_second` counts the new tokens of all rows over the whole time of a generation, the prompt's pass
    included, with its bootstrap 95 % interval. `against` is the paired ratio of the whole time to the reference's.
    """

    candidate: str
    batch: int
    prompt: int
    new_tokens: int
    threads: int
    samples: int
    first_token_ms: Mapping[str, float]
    token_ms: Mapping[str, float]
    tokens_per_second: float
    low: float
    high: float
    missing: Mapping[str, int] = field(default_factory=dict)
    token_missing: Mapping[str, int] = field(default_factory=dict)
    against: LatencyRatio | None = None


@dataclass(frozen=True, slots=True)
class Throughput:
    """Scenario `offline`: rows a second at one batch size over `runs` runs, with its bootstrap 95 % interval."""

    candidate: str
    batch: int
    sequence: int | None
    threads: int
    runs: int
    rows_per_second: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ServerLoad:
    """Scenario `server`: requests of one batch each that arrive at random (Poisson) and wait for the one session.

    A latency runs from a request's arrival to its answer. `rate` is the asked and `achieved_rate` the answered number
    of requests a second, `utilization` the share of time in which the session ran. `met` tells whether the percentile
    `percentile` is within `bound_ms`, `None` where there are too few requests to say so.
    """

    candidate: str
    batch: int
    sequence: int | None
    threads: int
    rate: float
    achieved_rate: float
    utilization: float
    requests: int
    percentile: str
    bound_ms: float
    within_bound: float
    met: bool | None
    percentiles_ms: Mapping[str, float]
    missing: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """All nodes of one operator type on one provider: how many, their time in one run, and its share of all nodes'."""

    operator: str
    provider: str
    nodes: int
    time_ms: float
    share: float


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a candidate costs beside its latency, taken in a fresh process of its own.

    `load_ms` is the time to open the session, `first_run_ms` that of the first run after it; `peak_memory_mb` is the
    process's peak resident size and `base_memory_mb` what the interpreter and its libraries took before the load (MB
    of 10^6 bytes, like `size_mb`). `nodes_by_provider` counts nodes, of which `shape_arithmetic` has those on the CPU,
    by operator type, that another provider leaves there on purpose; `time_share_by_provider` is the share of the nodes'
    time, 0 to 1; `operators` are the ten slowest operator types. `threads` is the pool that was asked for and
    `busy_cores` the processor time of a run divided by its duration.
    """

    candidate: str
    size_mb: float
    load_ms: float
    first_run_ms: float
    peak_memory_mb: float
    base_memory_mb: float
    nodes_by_provider: Mapping[str, int] = field(default_factory=dict)
    time_share_by_provider: Mapping[str, float] = field(default_factory=dict)
    operators: tuple[OperatorTime, ...] = ()
    threads: int | None = None
    busy_cores: float | None = None
    shape_arithmetic: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A candidate against a reference in paired, interleaved rounds, and the host's own noise measured before.

    `noise` is the reference against itself. `within` is the difference that matters, as a share of the reference's
    time; `answer` is `faster`, `slower`, `same` (within that difference) or `inconclusive`, and `reason` says why.
    `isolated` tells whether each had a process of its own. `clock` is what `ratio` and `noise` are of: `processor`
    time, which neighbours do not lengthen, or `wall`; `wall` is the ratio by the wall's clock, which the medians
    `candidate_ms` and `reference_ms` are of too.
    """

    candidate: str
    reference: str
    batch: int
    sequence: int | None
    threads: int
    provider: str
    ratio: LatencyRatio
    noise: LatencyRatio
    within: float
    answer: str
    reason: str
    candidate_ms: float
    reference_ms: float
    isolated: bool = False
    clock: str = "wall"
    wall: LatencyRatio | None = None


@dataclass(frozen=True, slots=True)
class Processor:
    """A processor by name and architecture, with its instruction sets.

    `kind` says how it multiplies int8 numbers, such as `x86_64 AVX512-VNNI` (`tledge.processor.kind`).
    """

    cpu: str
    architecture: str
    cpu_flags: tuple[str, ...]
    kind: str


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a measurement was made.

    `frequency_mhz` and `max_frequency_mhz` are of the cores that this process may use, `temperature_c` is that of the
    hottest sensor, `governor` the system's rule for frequencies: `None` or empty where they cannot be read.
    `fingerprint` is a hash of what determines speed: results with the same one may be compared.
    """

    cpu: str
    architecture: str
    cpu_flags: tuple[str, ...]
    cores: int
    quota_cores: float | None
    memory_mb: float
    system: str
    python: str
    onnxruntime: str
    providers: tuple[str, ...]
    load_average: float | None
    packages: Mapping[str, str] = field(default_factory=dict)
    onnxruntime_build: str = ""
    frequency_mhz: float | None = None
    max_frequency_mhz: float | None = None
    governor: str = ""
    temperature_c: float | None = None
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class BenchResult:
    """One `tledge bench`: every candidate at every setting, interleaved, and the machine.

    `name` is the bundle's or the file's, `provider` the execution provider that was asked for. `decoding` tells that
    one run is one token of a language model's, after as many as a row's `sequence` says.
    """

    machine: Machine
    latencies: tuple[Latency, ...]
    footprints: tuple[Footprint, ...]
    notes: tuple[str, ...] = ()
    created: str = ""
    name: str = ""
    provider: str = "cpu"
    end_to_end: tuple[EndToEnd, ...] = ()
    throughput: tuple[Throughput, ...] = ()
    server: tuple[ServerLoad, ...] = ()
    generations: tuple[Generation, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    decoding: bool = False


@dataclass(frozen=True, slots=True)
class Contender:
    """One row of a distillation's table: the teacher, or a student trained once for each seed.

    `name` is `teacher`, `student with teacher`, `student with cached teacher` or `student alone`. `metrics` are the
    test metrics of each seed in turn, one for the teacher; `mean` is over them, and `low` and `high` bound the 95 %
    interval of the mean (Student's t over seeds), empty where there are fewer than two. `seconds` is the training time
    of all seeds together.
    """

    name: str
    parameters: int
    seeds: tuple[int, ...]
    metrics: tuple[Mapping[str, float], ...]
    mean: Mapping[str, float]
    low: Mapping[str, float] = field(default_factory=dict)
    high: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Gain:
    """What the teacher gave the student in one metric: student with teacher minus student alone, seed by seed.

    `low` and `high` bound the 95 % interval of the mean difference (paired Student's t), `None` with fewer than two
    seeds. `helps` is `True` where the whole interval is on the better side of 0, `False` where it is on the worse side,
    and `None` where it holds 0 or there is none.
    """

    metric: str
    mean: float
    low: float | None = None
    high: float | None = None
    helps: bool | None = None


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The metric of the test rows after trainings on so many rows of each label, by seed.

    `low` and `high` bound the 95 % interval of the mean (Student's t over seeds), `None` with fewer than two. `gain` is
    by how much it is better than the point before, the mean over seeds, whose rows are a part of this one's, and
    `gain_low` and `gain_high` bound the interval of that mean.
    """

    shots: int
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    mean: float
    low: float | None = None
    high: float | None = None
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None


@dataclass(frozen=True, slots=True)
class LabelCurve:
    """A metric over the number of labelled rows of each label, `points` by rising number.

    `n_test` are the test rows and `most` the training rows of the rarest label. `key` is the hash of what a value
    depends on beside its rows.
    """

    name: str
    backbone: str
    strategy: str
    metric: str
    lower_is_better: bool
    n_labels: int
    n_test: int
    most: int
    points: tuple[CurvePoint, ...]
    key: str = ""


@dataclass(frozen=True, slots=True)
class StudentCandidate:
    """One step of the ladder: a student that a budget allows or not, measured with random or copied weights.

    `scheme` is the scheme (`fp32` too) whose graph was measured; `p95_ms` is at `measured_at`. `metric` is that of the
    validation rows where it was trained. `reason` says why it was trained or not, or chosen.
    """

    name: str
    parameters: int
    size_mb: float
    p95_ms: float
    scheme: str
    measured_at: str
    fits: bool
    trained: bool = False
    chosen: bool = False
    metric: float | None = None
    reason: str = ""


ACCEPT, REGRESSION, ANOMALOUS, INCONCLUSIVE = "ACCEPT", "REGRESSION", "ANOMALOUS", "INCONCLUSIVE"


@dataclass(frozen=True, slots=True)
class Finding:
    """One limit or one sign of trouble that the gate looked at, with its own verdict.

    `limit` is the budget's key, such as `p95_ms`, or the name of a check; `low` and `high` bound the 95 % interval of
    `measured` where there is one. `variant`, `provider`, `batch`, `sequence` and `threads` say what was measured, as
    far as that matters.
    """

    limit: str
    verdict: str
    reason: str
    allowed: float | None = None
    measured: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    variant: str = ""
    provider: str = ""
    batch: int | None = None
    sequence: int | None = None
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says: ACCEPT, REGRESSION, ANOMALOUS or INCONCLUSIVE, every finding, and what it rests on.

    `name` and `version` are the bundle's name and the first twelve digits of its manifest's SHA-256, `against` the
    same of the bundle that it was compared with, empty where there was none. `processors` are the kinds that the
    evidence was gathered on: where the bundle's variants were scored and timed, and this one.
    """

    verdict: str
    findings: tuple[Finding, ...]
    name: str = ""
    version: str = ""
    against: str = ""
    created: str = ""
    bench: BenchResult | None = None
    processors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OnMachine:
    """What one of several machines gave for the same benchmark or gate, or the error for which it gave nothing.

    `device` is how it was asked for: an address, `local`, or the file with the result. `exit_code` is the error's.
    """

    device: str
    bench: BenchResult | None = None
    verdict: Verdict | None = None
    error: str = ""
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class Fastest:
    """Which candidates are the fastest at one setting, for each machine by its name in tables.

    Several are those whose 95 % intervals reach into that of the fastest: the measurement does not tell them apart.
    """

    setting: str
    candidates: Mapping[str, tuple[str, ...]]
    sentence: str


@dataclass(frozen=True, slots=True)
class SideBySide:
    """One benchmark or gate on several machines; `verdict` is the worst one of a gate, empty for a benchmark."""

    machines: tuple[OnMachine, ...]
    fastest: tuple[Fastest, ...] = ()
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a history: one variant at one setting as it was measured at one time on one machine.

    `name` and `version` are those of a `Verdict`, `variant` is the candidate's name. The latencies are those of
    `Latency`, `ratio` is against `against`, `load_ms` and `peak_memory_mb` are of the variant's footprint; `batch` and
    `threads` are `None` where only that was taken. `verdict` is the gate's, empty where only a benchmark was run.
    `fingerprint` is the machine's: only records with the same one may be compared.

    Of a language model one run is one token after `sequence`, with `decoding` as in `BenchResult`. Where whole texts of
    `new_tokens` were generated, as in `Generation`, `sequence` is the prompt's length, the latencies are those of one
    further token, `samples` counts generations, and the first token's median and the tokens a second with their
    interval are there too.
    """

    created: str
    name: str
    variant: str
    batch: int | None
    sequence: int | None
    threads: int | None
    provider: str
    version: str = ""
    p50_ms: float | None = None
    p50_low_ms: float | None = None
    p50_high_ms: float | None = None
    percentiles_ms: Mapping[str, float] = field(default_factory=dict)
    samples: int | None = None
    against: str = ""
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    size_mb: float | None = None
    load_ms: float | None = None
    peak_memory_mb: float | None = None
    verdict: str = ""
    fingerprint: str = ""
    cpu: str = ""
    onnxruntime: str = ""
    decoding: bool = False
    new_tokens: int | None = None
    first_token_ms: float | None = None
    tokens_per_second: float | None = None
    tokens_per_second_low: float | None = None
    tokens_per_second_high: float | None = None


def to_dict(artifact: Any) -> dict[str, Any]:
    """A dataclass as plain JSON types; tuples become lists."""
    return typing.cast("dict[str, Any]", json.loads(json.dumps(dataclasses.asdict(artifact))))


def from_dict(cls: type[T], data: Mapping[str, Any]) -> T:
    """A dataclass from what `to_dict` gave; unknown keys are ignored, so that a newer writer can be read.

    Raises:
        TypeError, ValueError: `data` has not the shape of `cls`; the message names the value.
    """
    if not isinstance(data, Mapping):
        raise TypeError(f"expected an object, got {_shown(data)}")
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    return cls(**{name: _value(hints[name], data[name], name) for name in names if name in data})


def _value(hint: Any, data: Any, name: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _one_of(args, data, name)
    if dataclasses.is_dataclass(hint):
        try:
            return from_dict(typing.cast("type[Any]", hint), data)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from error
    if origin is tuple:
        if not isinstance(data, (list, tuple)):
            raise TypeError(f"{name} must be a list, got {_shown(data)}")
        inner = args if args[-1:] != (Ellipsis,) else (args[0],) * len(data)
        return tuple(_value(arg, item, name) for arg, item in zip(inner, data, strict=True))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(data, Mapping):
            raise TypeError(f"{name} must be an object, got {_shown(data)}")
        return {key: _value(args[1], item, f"{name}.{key}") for key, item in data.items()}
    if hint in _PLAIN and not _is_plain(hint, data):
        raise TypeError(f"{name} must be {_PLAIN[hint]}, got {_shown(data)}")
    return data


def _one_of(hints: tuple[Any, ...], data: Any, name: str) -> Any:
    """A value of the first of several types that it has."""
    if data is None and types.NoneType in hints:
        return None
    others = [hint for hint in hints if hint is not types.NoneType]
    for hint in others[:-1]:
        try:
            return _value(hint, data, name)
        except (TypeError, ValueError):
            continue
    return _value(others[-1], data, name)


_PLAIN = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def _is_plain(hint: type, data: Any) -> bool:
    if hint is bool or isinstance(data, bool):
        return hint is bool and isinstance(data, bool)
    if isinstance(data, int):
        return hint in (int, float) and -(2**63) <= data < 2**63  # what every reader's numbers hold
    return isinstance(data, hint)


def _shown(data: Any) -> str:
    """A value for an error: at most so much of it that the message stays a line."""
    if isinstance(data, (Mapping, list, tuple)):
        return "an object" if isinstance(data, Mapping) else "a list"
    if isinstance(data, int) and data.bit_length() > 64:
        return "a number of more than 64 bits"
    return repr(data[:40]) + "..." if isinstance(data, str) and len(data) > 40 else repr(data)


def to_json(data: Any) -> str:
    """A dataclass or plain types as a JSON document."""
    plain = dataclasses.asdict(data) if dataclasses.is_dataclass(data) and not isinstance(data, type) else data
    return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"


def write_json(path: Path, data: Any) -> None:
    """Write JSON (a dataclass or plain types) aside and rename it, so that a reader never sees half a file."""
    aside = path.with_name(path.name + ".partial")
    aside.write_text(to_json(data), encoding="utf-8")
    os.replace(aside, path)


def read_json(path: Path) -> Any:
    """The plain types in a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


LARGEST_JSON = 64 * 1024 * 1024
"""Bytes of a JSON file at most; the largest tokenizers have 35 million."""
_MOST_VALUES = 4_000_000
"""Values in it at most, which bounds the memory that they take; the largest tokenizers have 1.5 million."""


def read_object(path: Path, largest: int = LARGEST_JSON) -> tuple[dict[str, Any], bytes]:
    """The JSON object in a file that anybody may have made, and the file's bytes; as for `read_values`."""
    data, content = read_values(path, largest)
    if not isinstance(data, dict):
        raise ValueError(f"expected a JSON object, got {type(data).__name__}")
    return data, content


def read_values(path: Path, largest: int = LARGEST_JSON) -> tuple[dict[str, Any] | list[Any], bytes]:
    """The JSON object or list in a file that anybody may have made, and the file's bytes.

    It must mean the same to every reader: UTF-8 without a mark, no key twice in an object, and no `NaN`.

    Raises:
        FileNotFoundError: there is no such file.
        OSError, ValueError: it cannot be read, or is no such object; the message says why in one line.
    """
    content = read_file(path, largest)
    if content.count(b",") + content.count(b"[") + content.count(b"{") > _MOST_VALUES:
        raise ValueError(f"it has more than {_MOST_VALUES:,} values")
    try:
        data = json.loads(content.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("its values are nested too deep") from error
    if not isinstance(data, dict | list):
        raise ValueError(f"expected a JSON object, got {type(data).__name__}")
    if _at_depth(data, _DEEPEST):
        raise ValueError("its values are nested too deep")
    return data, content


_DEEPEST = 100


def _at_depth(data: Any, depth: int) -> list[Any]:
    """The objects and lists inside so many others."""
    level = [data]
    for _ in range(depth):
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [item for each in inner for item in each if isinstance(item, (dict, list))]
    return level


def read_file(path: Path, largest: int) -> bytes:
    """The bytes of a regular file of at most so many.

    Raises:
        OSError, ValueError: it cannot be read, is no file, such as a pipe, which could wait for ever, or is larger.
    """
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise ValueError("it is no regular file")
    if facts.st_size > largest:
        raise ValueError(f"it is {facts.st_size:,} bytes; expected at most {largest:,}")
    return path.read_bytes()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"an object has the key {_shown(twice)} twice")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number in JSON")
