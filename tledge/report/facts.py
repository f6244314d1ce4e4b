"""What a report shows, as plain facts.

Empty or `None` means not measured: a report then says so, or leaves it out. Facts go to JSON and back with
`artifacts.to_dict` and `artifacts.from_dict`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tledge.artifacts import BenchResult, Contender, Gain, LatencyRatio, ParityCase, StudentCandidate, Variant


@dataclass(frozen=True, slots=True)
class DataFacts:
    """The rows of a run.

    `sources`, `rows` and `label_counts` are by split: `train`, `validation`, `calibration`, `test`; `label_counts`
    then by label. `skipped` counts the rows left out, by reason. `duplicates` counts rows dropped because the same
    input with the same label was there before, and `conflicts` rows dropped because it was there with another label.
    `image_sides` has quantiles of the shorter side of the training images, in pixels, and `target_quantiles` by split
    those of the numbers that a regression learns, both by name (`p0`, `p50` ...). A language model's rows are blocks of
    tokens: `tokens` counts those of each split, and `bytes` the UTF-8 bytes of the text that is predicted, which is all
    but the first token of each block. `scored_tokens` counts those that variants were scored on, by split. `documents`
    counts those of each source, `dropped_tokens` what fills no block.
    """

    sources: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    label_counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    duplicates: int | None = None
    conflicts: int | None = None
    image_sides: Mapping[str, float] = field(default_factory=dict)
    target_quantiles: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)
    bytes: Mapping[str, int] = field(default_factory=dict)
    scored_tokens: Mapping[str, int] = field(default_factory=dict)
    documents: Mapping[str, int] = field(default_factory=dict)
    dropped_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Epoch:
    """One point of a learning curve; `phase` names the part of training where there are several."""

    epoch: float
    train_loss: float | None = None
    validation_loss: float | None = None
    validation_metric: float | None = None
    phase: str = ""


@dataclass(frozen=True, slots=True)
class RateFinder:
    """The loss at rising learning rates, and the rate that was taken from it; `phase` as in `Epoch`."""

    rates: tuple[float, ...]
    losses: tuple[float | None, ...]
    suggestion: float | None = None
    phase: str = ""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """How an image becomes a tensor.

    `size` is height and width of the model's input, `resize` the shorter side (one number) or height and width (two)
    before the middle is cut out, all in pixels; `mean` and `std` are of red, green and blue, which range from 0 to 1.
    """

    size: tuple[int, ...] = ()
    resize: tuple[int, ...] = ()
    interpolation: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class TrainingFacts:
    """What was trained and how.

    `seconds` is the duration of training, `time` where those of its loop went, by part (`data` is waiting for batches,
    and `captured` are passes that ran as CUDA graphs), and `rows_per_second` how fast rows trained. `max_length` counts
    tokens, and so does `stride`, by which windows overlap where texts are not cut but read in several; `notes` are
    sentences about the weights and the cache. `augmentation` has the recipe's settings that are not off, and
    `contact_sheet` a JPEG of some augmented samples as a `data:` URI.
    """

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
    notes: tuple[str, ...] = ()
    precision: str = ""
    time: Mapping[str, float] = field(default_factory=dict)
    rows_per_second: float | None = None
    image: ImageFacts | None = None
    rate_finders: tuple[RateFinder, ...] = ()
    augmentation: Mapping[str, float | str] = field(default_factory=dict)
    contact_sheet: str = ""
    stride: int | None = None


@dataclass(frozen=True, slots=True)
class PreprocessingFacts:
    """The image preprocessing of all stages and the device, beside that of the library that the backbone is from.

    Differences are of a pixel value between 0 and 1. `ours` and `theirs` are the fp32 graph's metric on `rows`
    validation rows. `graph_mode` says what the graph does itself; its pixels are then at most `graph_max_steps`
    steps of 1/255 from ours, and a share `graph_share_over_one` of them is more than one step away.
    """

    reference: str
    rows: int | None = None
    max_abs_diff: float | None = None
    mean_abs_diff: float | None = None
    metric: str = ""
    ours: float | None = None
    theirs: float | None = None
    graph_mode: str = ""
    graph_max_steps: float | None = None
    graph_share_over_one: float | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One setting that a scheme tried: its metrics on the validation rows, its time against fp32, and why (not)."""

    scheme: str
    settings: Mapping[str, str | int] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    ratio: LatencyRatio | None = None
    reason: str = ""
    picked: bool = False


@dataclass(frozen=True, slots=True)
class Transfer:
    """The recipe on its pretrained backbone and on one with random weights, both in fp32, on the test rows.

    `low` and `high` bound the 95 % interval of the gain in `Facts.metric`, where the rows' answers were at hand.
    """

    pretrained: Mapping[str, float]
    random: Mapping[str, float]
    low: float | None = None
    high: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Distillation:
    """What a student learnt from its teacher, beside the same student without one.

    `student` says what the student is, `layers` which of the teacher's blocks it started from, counted from 0. The test
    metrics of teacher and students are in `contenders`, and what the teacher gave in `gains`; `ladder` has the students
    that were weighed against a budget. `losses` are weights by name. `curve` is of the student that ships,
    `alone_curve` of the one without a teacher with the same seed. `teacher_cache` tells that the teacher saw each row
    once, unchanged.
    """

    student: str
    teacher_parameters: int
    parameters: int
    contenders: tuple[Contender, ...]
    gains: tuple[Gain, ...] = ()
    layers: tuple[int, ...] = ()
    ladder: tuple[StudentCandidate, ...] = ()
    losses: Mapping[str, float] = field(default_factory=dict)
    temperature: float | None = None
    layer_map: tuple[int, ...] = ()
    teacher_cache: bool = False
    curve: tuple[Epoch, ...] = ()
    alone_curve: tuple[Epoch, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class AdaptedRow:
    """One method of an adaptation, trained once for each seed.

    `contender` has the metrics of the rows that judge, where there are some, and `gain` and `p_value` what the method
    gave over source only: over seeds, and of the first seed row by row. `apart` is the share of rows whose domain a
    linear probe tells by their features, 0.5 for chance. `scores` are those that need no label of the other domain, and
    `candidate` tells whether they could choose this one.
    """

    name: str
    candidate: bool
    apart: float
    scores: Mapping[str, float] = field(default_factory=dict)
    contender: Contender | None = None
    gain: Gain | None = None
    p_value: float | None = None


@dataclass(frozen=True, slots=True)
class Adaptation:
    """What came of adapting to another domain.

    `method` is the recipe's, `taken` the one that ships, and `choose` the score that `auto` goes by. `n_target` rows
    had no label, and `n_judge` judged. `before` and `after` are places of some source and target rows in a projection
    of the features that the head takes, with source only and as it ships; `after` is empty where that is the same.
    """

    method: str
    taken: str
    choose: str
    n_target: int
    n_judge: int | None
    rows: tuple[AdaptedRow, ...]
    before: tuple[tuple[tuple[float, float], ...], ...] = ()
    after: tuple[tuple[tuple[float, float], ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """How the chosen variant of a language model went on with a prompt, one most likely token after another."""

    prompt: str
    text: str


@dataclass(frozen=True, slots=True)
class Regression:
    """How the chosen variant estimated numbers: `points` of truth and estimate, and quantiles of their difference.

    `points` are at most some hundreds, evenly taken from the test rows. `residuals` maps a percentage to a quantile
    of estimate minus truth.
    """

    points: tuple[tuple[float, float], ...]
    residuals: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The texts nearest to a text in the test rows, each with its cosine, the nearest first."""

    text: str
    nearest: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Vectors:
    """How near the vectors of texts are, on the test rows, by the chosen variant.

    `points` are some rows' scores and the cosines of their texts, where rows have a score; else `shares` has, by what
    is known of two texts (`alike`, `not alike`), the middles of steps of the cosine and the share of pairs in each.
    """

    points: tuple[tuple[float, float], ...] = ()
    shares: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    neighbours: tuple[Neighbours, ...] = ()


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
    """One test row that the chosen variant got wrong, with the score (0 to 1) of its answer.

    For images `text` is empty, `row` the row's name and `image` a thumbnail as a `data:` URI, empty where the file is
    gone. For regression `error` is estimate minus truth, and there is no score.
    """

    text: str
    truth: str
    predicted: str
    score: float | None = None
    image: str = ""
    row: str = ""
    error: float | None = None


@dataclass(frozen=True, slots=True)
class MarkedPart:
    """A part of a text; `kind` is `right`, `wrong` or `missed` where it is marked, several with a space, else empty."""

    text: str
    label: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class MarkedText:
    """A text, its parts, and what stands above it, such as a question.

    Where marks with labels overlap each is a part of its own, so that some of the text is there twice.
    """

    text: str
    parts: tuple[MarkedPart, ...]
    above: str = ""


@dataclass(frozen=True, slots=True)
class BoxScore:
    """How well objects of one label are found: the mean average precision over IoUs, that at 0.5, and recall.

    `count` is how many true boxes it has.
    """

    label: str
    count: int
    map: float
    map_50: float
    recall: float


@dataclass(frozen=True, slots=True)
class BoxedPicture:
    """A test row with its true boxes, and with those that were found, as `data:` URIs; empty where the file is gone.

    `missed` counts the objects that were not found, and `false` the detections that are of none.
    """

    row: str
    truth: str
    found: str
    missed: int
    false: int


@dataclass(frozen=True, slots=True)
class Detections:
    """What the chosen variant finds in the test rows.

    Args:
        threshold: The score from which a detection is shown, and counted as a mistake.
        scores: One entry for each label that has boxes.
        sizes: The figures of small, medium and large boxes (COCO's bounds), and how many `boxes` there are.
        recalls: Where the precision of `curves` is read.
        curves: By label, the precision at an IoU of 0.5.
        confusion: `confusion[truth][found]` counts, in the order of the labels; the last one is the background.
        pictures: Test rows, those with most mistakes first.
    """

    threshold: float
    scores: tuple[BoxScore, ...] = ()
    sizes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    recalls: tuple[float, ...] = ()
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    confusion: tuple[tuple[int, ...], ...] = ()
    pictures: tuple[BoxedPicture, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a report shows of one run.

    Args:
        recipe: The recipe's name.
        created: When the report was made: UTC, ISO 8601.
        task: The task's name.
        version: tledge's version.
        metric: The metric that picked the variant, a key of `Variant.metrics`.
        labels: In the order of the model's outputs.
        many_labels: Whether a row may have any number of labels instead of exactly one.
        numeric: Whether a number is estimated; `labels` then has its name alone.
        language: Whether tokens of texts are predicted; there are no labels then.
        hidden: Whether these are hidden in the text; else it is gone on with.
        vectors: How near vectors of texts are, where that is what the model gives; there are no labels then.
        lower_is_better: Whether a smaller value of `metric` is the better one.
        input_kind: `text`, `text_pair`, `sentence` or `image`.
        pipeline_tag: The ecosystem's name of the task, such as `text-classification`.
        recipe_yaml: The resolved recipe.
        data: The rows.
        training: The model and its training.
        variants: Every variant; at most one is chosen.
        baseline: The metrics, on the test rows, of always giving the most frequent answer of the training rows, or
            their mean where numbers are estimated.
        transfer: What the pretrained weights gave.
        distillation: What the student learnt from its teacher, where there is one.
        adaptation: What came of adapting to another domain, where the recipe asks for that.
        samples: How a language model goes on with a few prompts, or what it finds in the place of hidden words.
        candidates: What schemes with a choice of settings tried.
        preprocessing: What became of images before the model.
        regression: The estimates, where numbers are estimated.
        confusion: The chosen variant's test rows: `confusion[truth][predicted]` counts, in the order of `labels`.
        label_scores: One entry for each label.
        wrong: A few wrong predictions, the most confident first; the largest errors where numbers are estimated.
        wrong_count: How many test rows are wrong in all; `None` where numbers are estimated.
        marked: Test rows in which what the chosen variant found is marked.
        detections: What is found in images, where objects are.
        usage: What an example in Python prints of an answer, `each`.
        bounds: The 95 % interval of the chosen variant's metric on the test rows, where their answers were at hand.
        always: What `baseline` always gives, in words.
        scope: What the model can be asked, and what it answers to anything else; one sentence or two.
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
    numeric: bool = False
    language: bool = False
    hidden: bool = False
    vectors: Vectors | None = None
    lower_is_better: bool = False
    input_kind: str = "text"
    pipeline_tag: str = ""
    recipe_yaml: str = ""
    data: DataFacts = field(default_factory=DataFacts)
    training: TrainingFacts = field(default_factory=TrainingFacts)
    variants: tuple[Variant, ...] = ()
    baseline: Mapping[str, float] = field(default_factory=dict)
    bounds: tuple[float, float] | None = None
    transfer: Transfer | None = None
    distillation: Distillation | None = None
    adaptation: Adaptation | None = None
    samples: tuple[Sample, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    preprocessing: PreprocessingFacts | None = None
    regression: Regression | None = None
    confusion: tuple[tuple[int, ...], ...] = ()
    label_scores: tuple[LabelScore, ...] = ()
    wrong: tuple[WrongPrediction, ...] = ()
    wrong_count: int | None = None
    marked: tuple[MarkedText, ...] = ()
    detections: Detections | None = None
    usage: str = 'each["label"], each["scores"]'
    always: str = "most frequent label"
    scope: str = "It knows only the labels below: an input that fits none gets one of them all the same."
    parity: tuple[ParityCase, ...] = ()
    bench: BenchResult | None = None
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def writes(self) -> bool:
        """Whether a text is gone on with, token after token."""
        return self.language and not self.hidden
