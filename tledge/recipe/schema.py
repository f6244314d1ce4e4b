"""The recipe's keys; their descriptions here are the documentation, of the JSON schema and starters too."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tledge import tasks
from tledge.recipe.adaptation import Adapt
from tledge.recipe.contradictions import contradictions
from tledge.recipe.distillation import Distill, Shape, Student, StudentBudget
from tledge.recipe.section import Fraction, Rows, Section
from tledge.recipe.training import Augmentation, Finetune, Lora, Training

__all__ = [
    "Adapt",
    "Augmentation",
    "Bench",
    "Budget",
    "Bundle",
    "Data",
    "Distill",
    "Export",
    "Finetune",
    "Head",
    "Int8Static",
    "Lora",
    "Model",
    "Preprocessing",
    "Quantize",
    "Recipe",
    "Section",
    "Shape",
    "Student",
    "StudentBudget",
    "Training",
]


class Data(Section):
    """Where the labelled rows come from and how they are split."""

    train: str
    """A CSV, TSV, JSONL or Parquet file; for language models also plain text (`.txt`, `.md`, `.tokens`); a folder of
    photos with one subfolder for each label; photos with boxes (a `data.yaml`, a `.json` of COCO, a folder or list of
    VOC); a hub data set (`hub:owner/name`, `hub:owner/name/config@split`); a torchvision data set
    (`torchvision:CIFAR10@train`); arrays in an `.npz` file or from a function of an installed package
    (`arrays:MODULE:FUNCTION`); or a file or folder inside an installed package (`package:NAME/PATH`). A relative path
    is relative to the recipe."""
    validation: str | Fraction | Rows = 0.15
    """Rows that pick the epoch and the variant: a source like `train`, a fraction of the training rows, or a
    count."""
    test: str | Fraction | Rows = 0.2
    """Rows that nothing is chosen on: a source like `train`, a fraction of the training rows, or a count."""
    calibration: Annotated[int, Field(ge=0)] | None = None
    """Rows kept aside for schemes that calibrate, taken from the training rows; by default none for texts, and for
    images 100, or a tenth of the training rows where that is fewer."""
    shots: Annotated[int, Field(ge=1)] | None = None
    """For tasks with one label a row: how many rows of each label train, drawn by `seed` from the training rows; the
    others are rows without a label, which only a student of `distill` learns from. By default all rows train."""
    unlabelled: str | None = None
    """For `distill`: a source like `train` of rows that need no label; the teacher's answers serve instead."""
    documents: str | None = None
    """For `text_embedding`: a source like `train`, or a text file with one a line, of further texts, among which those
    that answer the validation and test rows are looked for."""
    columns: dict[str, str] = {}
    """The file's column for each of the task's columns, such as `text: review`; a column of the same name
    needs no entry."""
    where: dict[str, str] = {}
    """Only those rows of `train`, and of `validation` and `test` where these are sources: a value for each column
    named, such as `site: north`."""
    label_columns: Annotated[list[str], Field(min_length=2)] | None = None
    """For tasks with several labels a row: a column of 0 and 1 for each label, instead of one column of labels."""
    group: Annotated[str, Field(min_length=1)] | None = None
    """A column whose equal values stay together, such as `patient`: no two splits have rows of the same one. Labels
    have about the same shares in each split, as far as whole groups allow."""
    labels: list[str] | dict[str, str | list[str]] | None = None
    """The labels in the order of the outputs; by default every label of the training rows, sorted. As a mapping each
    label has a description, or a list of them, which strategy `zero_shot` compares rows with."""
    label_names: dict[str, str] = {}
    """A name for raw label values, such as `0: negative`; a value without an entry is its own name."""
    label_separator: Annotated[str, Field(min_length=1)] = "|"
    """What separates the labels of one row in a CSV cell, for tasks with several labels a row; a list as Python writes
    one, such as `['a', 'b']`, is read as a list."""
    encoding: str = "utf-8"
    """The character encoding of CSV, TSV and JSONL files; a file with a byte-order mark tells its own."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """The column delimiter of a CSV file; by default what a first line such as `sep=;` tells, else `,` and a tab for
    `.tsv`, or the one of `;`, `|` and tab that stands in a header without it."""
    decimal: Literal[".", ","] = "."
    """What stands before the decimals of a regression's numbers in a CSV cell."""
    download: bool = False
    """Whether a `torchvision:` data set may be downloaded to tledge's cache folder when it is not there."""
    on_error: Literal["fail", "skip"] = "fail"
    """What a broken row does: stop with its file, line and reason, or be left out and counted."""
    on_overlap: Literal["fail", "drop"] = "fail"
    """What happens when a row of your own test or validation file is also in the training file: stop, or drop
    it from the training rows."""

    @property
    def label_list(self) -> list[str] | None:
        """The names of `labels` in their order."""
        return None if self.labels is None else list(self.labels)

    @property
    def descriptions(self) -> dict[str, list[str]]:
        """The descriptions of each label; none where `labels` has names alone."""
        if not isinstance(self.labels, dict):
            return {}
        return {name: [each] if isinstance(each, str) else each for name, each in self.labels.items()}


class Preprocessing(Section):
    """How an image becomes a tensor, where that differs from what the backbone's own files say."""

    size: Annotated[int, Field(ge=1)] | None = None
    """Height and width of the model's input in pixels; by default the backbone's own."""
    resize: Annotated[int, Field(ge=1)] | None = None
    """The shorter side after resizing, in pixels, before the middle of `size` by `size` is cut out; by default the
    backbone's own, scaled with `size`."""
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] | None = None
    """The filter of resizing; by default the backbone's own."""
    mean: Annotated[list[float], Field(min_length=3, max_length=3)] | None = None
    """Subtracted from red, green and blue, which range from 0 to 1; by default the backbone's own."""
    std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=3, max_length=3)] | None = None
    """What red, green and blue are then divided by; by default the backbone's own."""


class Head(Section):
    """The small task layer that is put on the backbone."""

    dropout_prob: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The share of features dropped in training, before the last layer."""
    hidden_size: Annotated[int, Field(ge=1)] | None = None
    """The width of one hidden layer with a tanh; none by default, so that the head is one linear layer."""


class Model(Section):
    """The pretrained backbone and the head."""

    backbone: str
    """A hub id (`sentence-transformers/all-MiniLM-L6-v2`), a local folder (a checkpoint of an earlier run too), or a
    folder inside an installed package (`package:NAME/PATH`); for images also `torchvision:NAME` or `timm:NAME`; for
    language models also a `.gguf` file, or `fresh:TYPE` for random weights of an architecture of transformers
    (`fresh:gpt2`, `fresh:llama`)."""
    shape: Shape | None = None
    tokenizer: str | None = None
    """For language models: a hub id or folder whose tokenizer is taken instead of the backbone's own; `fresh:TYPE`
    needs it."""
    weights: str | None = None
    """Only for `torchvision:` and `timm:` backbones: a name of torchvision's (`DEFAULT`, `IMAGENET1K_V2`), a tag of
    timm's, a file (`.safetensors`, `.pth`, `.pt`, `.bin`, `.ckpt`), `package:NAME/PATH`, or `none` for random weights;
    by default the library's own choice, which it downloads."""
    match: Literal["names", "order"] = "names"
    """How tensors of a weights file are matched with the backbone's: by their names, or, for a file that uses other
    names, by their order, where all shapes must agree."""
    revision: str | None = None
    """The branch, tag or commit of a hub id."""
    pooling: Literal["auto", "mean", "cls", "last", "pooler"] = "auto"
    """How token features become one feature vector: their mean, the first token, the last token, or the
    checkpoint's trained pooler. `auto` is `pooler` where the checkpoint's own task trained one, `last` for
    decoders, else `mean`."""
    max_length: Annotated[int, Field(ge=2)] = 128
    """Texts are cut at this number of tokens; a language model trains on blocks of so many."""
    stride: Annotated[int, Field(ge=0)] | None = None
    """Tokens that two neighbouring windows of a text share, for tasks that read texts of any length in windows of
    `max_length` tokens; by default a quarter of it."""
    aggregation: Literal["first", "average", "max", "simple"] = "first"
    """How the tokens of a word answer together, for tasks that answer words: the `first` one does, the `average` of
    their probabilities, or the one that is surest (`max`); with `simple` each token is a word of its own."""
    max_answer_length: Annotated[int, Field(ge=1)] = 30
    """Tokens that the answer to a question has at most."""
    dimensions: Annotated[int, Field(ge=1)] | None = None
    """For `text_embedding`: keep the first so many numbers of a vector, which the graph then gives (Matryoshka); by
    default all."""
    normalize: bool = True
    """For `text_embedding`: the graph gives vectors of length 1, whose dot product is their cosine."""
    prompts: dict[str, str] | None = None
    """For `text_embedding`: what stands before texts, by name, such as `query: "query: "`; by default the backbone's
    own. Pairs and triples have `query` before `text` and `document` before the others, where both are there."""
    max_unknown: Annotated[float, Field(ge=0, le=1)] = 0.3
    """The largest share of the training texts' tokens that the vocabulary may not know, as an English vocabulary does
    not know Chinese characters; from 0.05 on it is said, with the characters."""
    detector: Literal["fcos", "retinanet", "faster_rcnn", "ssdlite"] | None = None
    """For `object_detection`: what is put on the backbone to find objects: `fcos` is a good first choice; by default
    the backbone is a detector itself, such as `torchvision:fasterrcnn_resnet50_fpn` or a hub id of one."""
    input_size: Annotated[list[Annotated[int, Field(ge=32)]], Field(min_length=2, max_length=2)] | None = None
    """For `object_detection`: height and width of the model's input in pixels, `[240, 320]`, best near the proportions
    of the images; by default the backbone's own."""
    fit: Literal["stretch", "letterbox", "pad"] = "stretch"
    """For `object_detection`: how an image fills the input: resized to it whatever its proportions are (`stretch`), or
    with its own proportions and a grey border, in the middle (`letterbox`) or at the top left (`pad`)."""
    preprocessing: Preprocessing = Preprocessing()
    head: Head = Head()


class Export(Section):
    """How the checkpoint becomes a graph, and how close it must be to torch."""

    opset: Annotated[int, Field(ge=17)] = 20
    """The ONNX operator set."""
    atol: Annotated[float, Field(gt=0)] = 1e-4
    """Parity: the largest allowed difference from torch is `atol + rtol * |torch's value|`; for language models `atol`
    grows with the root mean square of torch's values where that is more than 1."""
    rtol: Annotated[float, Field(ge=0)] = 1e-3
    """Parity: the part of the allowed difference that grows with torch's value; see `atol`."""
    preprocessing: Literal["none", "normalize", "resize_and_normalize"] = "none"
    """What the graph does with an image itself: nothing (it takes float32 `pixel_values`, channels first, which other
    tools expect), or it takes uint8 images, channels last: already resized and cut, or of any size."""
    nms: Literal["graph", "device"] = "graph"
    """For `object_detection`: whether overlapping boxes are sorted out in the graph (the operator NonMaxSuppression),
    or in numpy after it (`device`), for accelerators that lack the operator; detectors of two stages always need it."""
    external_data: bool = False
    """Keep the weights in a file of their own beside the graph (needed at 2 GB and above)."""


class Int8Static(Section):
    """What scheme `int8_static` tries; the best candidate on the validation rows becomes the variant."""

    types: Annotated[list[Literal["u8s8", "u8u8", "s8s8"]], Field(min_length=1)] = ["u8s8", "u8u8", "s8s8"]
    """Types of activations and weights, unsigned or signed; which is fast depends on the CPU, so each is timed."""
    methods: Annotated[list[Literal["minmax", "entropy", "percentile"]], Field(min_length=1)] = [
        "minmax", "entropy", "percentile",
    ]  # fmt: skip
    """How ranges of activations are found from the calibration rows."""
    keep_float: Annotated[list[Literal["none", "first", "ends", "worst"]], Field(min_length=1)] | None = None
    """Layers that stay in float: none, those on maps of at least half of the image's height (`first`), the first and
    the last (`ends`), or those that lose most (`worst`); by default `[none, ends, worst]`, and for `object_detection`
    `[first, none, ends, worst]`."""
    n_worst: Annotated[int, Field(ge=1)] = 4
    """How many layers `worst` keeps in float."""
    bias_correction: bool = True
    """Let the biases of convolutions and linear layers take back what rounded weights add on average, measured on the
    calibration rows."""


class Quantize(Section):
    """Which schemes are tried."""

    schemes: list[str] | None = None
    """Names of schemes; each gives one variant, and the fastest one within the budget is chosen. By default
    `int8_dynamic` and `fp16` for texts, `int8_static` for images, and `int8_weight_only` and `int4_weight_only` for
    language models."""
    overflow_fix: Literal["pairs", "reduce_range", "none"] = "pairs"
    """How `int8_dynamic` and `int8_static` keep sums from overflowing on x86 processors without VNNI, where two
    products are added in 16 bits: `pairs` gives each channel a scale at which no two neighbouring weights can,
    `reduce_range` gives all weights 7 bits, and with `none` a graph may answer otherwise there."""
    int8_static: Int8Static = Int8Static()


class Budget(Section):
    """What a variant is allowed to cost."""

    max_metric_drop: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """How much of the task's metric, on the validation rows, a variant may lose against fp32; for a metric that is
    better when lower (`loss`), by how much it may rise. It is the gate's paired test that decides."""
    inconclusive: Literal["estimate", "ship", "refuse"] = "estimate"
    """What becomes of a variant of which these rows cannot tell whether it keeps `max_metric_drop`: `estimate` lets the
    drop that was measured decide, whatever its interval; `ship` counts it as kept unless the test says otherwise, and
    `refuse` as broken."""
    latency_ms: Annotated[float, Field(gt=0)] | None = None
    """The largest median latency in milliseconds at the first setting of `bench`, for a language model that of one
    token after the prompt; by default any."""
    size_mb: Annotated[float, Field(gt=0)] | None = None
    """The largest size of the graph's files, in MB of 10^6 bytes; by default any."""


class Bundle(Section):
    """What is shipped."""

    variants: Literal["all", "chosen"] = "all"
    """`all` keeps every variant in the bundle, so that another machine can time them and choose anew; `chosen` ships
    the chosen one alone."""


class Bench(Section):
    """The settings at which latency is measured; the first of each list is the one that decides."""

    batch: Annotated[list[Rows], Field(min_length=1)] = [1]
    """Batch sizes: texts or images in one run."""
    length: Annotated[list[Rows], Field(min_length=1)] | None = None
    """Sequence lengths in tokens; by default 32 and `model.max_length`. Images have none; for language models it is the
    length of the prompt."""
    new_tokens: Annotated[int, Field(ge=2)] = 32
    """Tokens that a language model generates after each prompt."""
    threads: Annotated[list[Rows], Field(min_length=1)] = [1]
    """Threads of one run (onnxruntime's intra-op pool)."""
    provider: Annotated[str, Field(min_length=1)] = "cpu"
    """Execution provider on which graphs are timed, and by whose latencies a variant, or a student, is chosen: `cpu`,
    `cuda`, `tensorrt`, `openvino`, `coreml` ... The installed onnxruntime must have it. Metrics are the CPU's."""
    percentile: Literal[50, 90, 95, 97, 99] = 90
    """The percentile asked for; enough samples are taken for it (p90 needs 64, p95 130, p99 662)."""
    duration_s: Annotated[float, Field(gt=0)] = 120
    """Time limit in seconds for one setting; a percentile that lacks samples is then named instead of
    printed."""


class Recipe(Section):
    """One job: from labelled data and a pretrained model to a verified, measured ONNX bundle."""

    name: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
            json_schema_extra={
                "patternErrorMessage": "a name of letters, digits, '.', '_' and '-', a letter or digit first"
            },
        ),
    ]
    """The run's name: its folder is `runs/NAME` unless `--out` says otherwise."""
    task: str
    """What is learnt: the name of a task, an input and what is told of it (`text_classification`,
    `image_classification`, `image_multilabel`, `image_regression`, ...)."""
    metric: str | None = None
    """The metric that picks epochs and variants, and that `budget.max_metric_drop` is about: one that the task scores
    (higher is better: `accuracy`, `balanced_accuracy`, `roc_auc`, `macro_f1`, `micro_f1`, `r2`, `pearson`,
    `spearman`; lower is better: `log_loss`, `mae` and `rmse` in the data's unit; for language models `loss` in nats a
    token, `perplexity`, `bits_per_byte`); by default the task's own."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """Seeds the splits, the head's first weights, the order of rows and dropout."""
    baseline: Literal["random_backbone"] | None = None
    """Train once more for comparison: `random_backbone` takes the same recipe on a backbone with random weights, which
    shows what the pretrained ones gave."""
    data: Data
    model: Model
    finetune: Finetune = Finetune()
    adapt: Adapt | None = None
    distill: Distill | None = None
    export: Export = Export()
    quantize: Quantize = Quantize()
    budget: Budget = Budget()
    bundle: Bundle = Bundle()
    bench: Bench = Bench()

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        problems = list(contradictions(self))
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def bench_lengths(self) -> list[int | None]:
        """The sequence lengths to measure: those asked for, or 32 and the longest; `[None]` for images."""
        if not tasks.load(self.task).HAS_LENGTH:
            return [None]
        longest = self.model.max_length
        return list(self.bench.length or sorted({min(32, longest), longest}))

    @property
    def stride(self) -> int:
        """The tokens that neighbouring windows share."""
        return self.model.max_length // 4 if self.model.stride is None else self.model.stride

    @property
    def schemes(self) -> list[str]:
        """The schemes to try: those asked for, or the task's own."""
        if self.quantize.schemes is not None:
            return self.quantize.schemes
        return list(tasks.load(self.task).SCHEMES)

    @property
    def quantizing(self) -> Quantize:
        """The settings of `quantize`, with the task's own where the recipe does not say."""
        static, own = self.quantize.int8_static, tasks.keep_float(tasks.load(self.task))
        if static.keep_float is not None or own is None:
            return self.quantize
        return self.quantize.model_copy(update={"int8_static": static.model_copy(update={"keep_float": list(own)})})
