"""What a report shows, as plain facts.

Empty or `None` means not measured: a report then says so, or leaves it out. Facts go to JSON and back with
`artifacts.to_dict` and `artifacts.from_dict`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tledge.artifacts import BenchResult, ParityCase, Variant


@dataclass(frozen=True, slots=True)
class DataFacts:
    """The rows of a run.

    `sources`, `rows` and `label_counts` are by split: `train`, `validation`, `calibration`, `test`; `label_counts`
    then by label. `skipped` counts the rows left out, by reason. `duplicates` counts rows dropped because the same
    input with the same label was there before, and `conflicts` rows dropped because it was there with another label.
    """

    sources: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    label_counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    duplicates: int | None = None
    conflicts: int | None = None


@dataclass(frozen=True, slots=True)
class Epoch:
    """One point of a learning curve; `phase` names the part of training where there are several."""

    epoch: float
    train_loss: float | None = None
    validation_loss: float | None = None
    validation_metric: float | None = None
    phase: str = ""


@dataclass(frozen=True, slots=True)
class TrainingFacts:
    """What was trained and how; `seconds` is the duration of training, `max_length` counts tokens."""

    backbone: str = ""
    parameters: int | None = None
    trained_parameters: int | None = None
    strategy: str = ""
    pooling: str = ""
    max_length: int | None = None
    seed: int | None = None
    seconds: float | None = None
    device: str = ""
    curve: tuple[Epoch, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelScore:
    """How the chosen variant did on one label of the test rows; a quotient of zero by zero is `None`.

    `count` is the number of test rows that truly have the label.
    """

    label: str
    precision: float | None
    recall: float | None
    f1: float | None
    count: int


@dataclass(frozen=True, slots=True)
class WrongPrediction:
    """One test row that the chosen variant got wrong, with the score (0 to 1) of its answer."""

    text: str
    truth: str
    predicted: str
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a report shows of one run.

    Args:
        recipe: The recipe's name.
        created: When the report was made: UTC, ISO 8601.
        task: The task's name.
        version: tledge's version.
        metric: The metric that picked the variant, a key of `Variant.metrics`; higher is better.
        labels: In the order of the model's outputs.
        many_labels: Whether a row may have any number of labels instead of exactly one.
        pipeline_tag: The ecosystem's name of the task, such as `text-classification`.
        recipe_yaml: The resolved recipe.
        data: The rows.
        training: The model and its training.
        variants: Every variant; at most one is chosen.
        baseline: The metric of always answering the most frequent training label, on the test rows.
        confusion: The chosen variant's test rows: `confusion[truth][predicted]` counts, in the order of `labels`.
        label_scores: One entry for each label.
        wrong: A few wrong predictions, the most confident first.
        wrong_count: How many test rows are wrong in all.
        parity: The graph against torch.
        bench: Latencies, footprints and the machine.
        stage_seconds: The duration of each stage, in the order they ran.
        warnings: What a reader must know before trusting the figures, one sentence each.
    """

    recipe: str
    created: str
    task: str
    version: str
    metric: str
    labels: tuple[str, ...] = ()
    many_labels: bool = False
    pipeline_tag: str = ""
    recipe_yaml: str = ""
    data: DataFacts = field(default_factory=DataFacts)
    training: TrainingFacts = field(default_factory=TrainingFacts)
    variants: tuple[Variant, ...] = ()
    baseline: float | None = None
    confusion: tuple[tuple[int, ...], ...] = ()
    label_scores: tuple[LabelScore, ...] = ()
    wrong: tuple[WrongPrediction, ...] = ()
    wrong_count: int | None = None
    parity: tuple[ParityCase, ...] = ()
    bench: BenchResult | None = None
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
