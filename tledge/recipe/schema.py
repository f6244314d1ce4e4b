"""The recipe's keys; their descriptions here are the documentation, of the JSON schema and starters too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(gt=0, lt=1)]
Rows = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A part of a recipe: frozen, without unknown keys, each value of the type that it is written with."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        validate_default=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, value: Any) -> Any:
        """A section whose keys are all commented out reads as null in YAML; it means the defaults."""
        return {} if value is None else value


class Data(Section):
    """Where the labelled rows come from and how they are split."""

    train: str
    """A CSV, TSV, JSONL or Parquet file; a hub data set (`hub:owner/name`, `hub:owner/name/config@split`); or
    a file inside an installed package (`package:NAME/PATH`). A relative path is relative to the recipe."""
    validation: str | Fraction | Rows = 0.15
    """Rows that pick the epoch and the variant: a source like `train`, a fraction of the training rows, or a
    count."""
    test: str | Fraction | Rows = 0.2
    """Rows that nothing is chosen on: a source like `train`, a fraction of the training rows, or a count."""
    calibration: Annotated[int, Field(ge=0)] = 0
    """Rows kept aside for schemes that calibrate (taken from the training rows; such schemes need about
    200)."""
    columns: dict[str, str] = {}
    """The file's column for each of the task's columns, such as `text: review`; a column of the same name
    needs no entry."""
    labels: Annotated[list[str], Field(min_length=1)] | None = None
    """The labels in the order of the outputs; by default every label of the training rows, sorted."""
    label_names: dict[str, str] = {}
    """A name for raw label values, such as `0: negative`; a value without an entry is its own name."""
    label_separator: Annotated[str, Field(min_length=1)] = "|"
    """What separates the labels of one row in a CSV cell, for tasks with several labels a row."""
    encoding: str = "utf-8"
    """The character encoding of CSV, TSV and JSONL files."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """The column delimiter of a CSV file; by default `,`, and a tab for `.tsv`."""
    on_error: Literal["fail", "skip"] = "fail"
    """What a broken row does: stop with its file, line and reason, or be left out and counted."""
    on_overlap: Literal["fail", "drop"] = "fail"
    """What happens when a row of your own test or validation file is also in the training file: stop, or drop
    it from the training rows."""


class Head(Section):
    """The small task layer that is put on the backbone."""

    dropout_prob: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The share of features dropped in training, before the last layer."""
    hidden_size: Annotated[int, Field(ge=1)] | None = None
    """The width of one hidden layer with a tanh; none by default, so that the head is one linear layer."""


class Model(Section):
    """The pretrained backbone and the head."""

    backbone: str
    """A hub id (`sentence-transformers/all-MiniLM-L6-v2`), a local folder, or a folder inside an installed
    package (`package:NAME/PATH`)."""
    revision: str | None = None
    """The branch, tag or commit of a hub id."""
    pooling: Literal["auto", "mean", "cls", "last", "pooler"] = "auto"
    """How token features become one feature vector: their mean, the first token, the last token, or the
    checkpoint's trained pooler. `auto` is `pooler` where the checkpoint's own task trained one, `last` for
    decoders, else `mean`."""
    max_length: Annotated[int, Field(ge=2)] = 128
    """Texts are cut at this number of tokens."""
    head: Head = Head()


class Finetune(Section):
    """How the head and, as the strategy says, the backbone are trained."""

    strategy: Literal["probe", "partial", "full", "probe_then_full"] = "probe"
    """`probe` trains the head on cached features of the frozen backbone; `partial` also the last blocks
    (`unfreeze`); `full` everything; `probe_then_full` the head first and then everything (LP-FT, Kumar et al.
    2022)."""
    unfreeze: Annotated[int, Field(ge=1)] | str | None = None
    """Only for `partial`: how many of the last blocks train, or a glob pattern of parameter names
    (`encoder.layer.5.*`)."""
    cache: bool = True
    """Keep features (`probe`), or activations at the freeze boundary (`partial` with a number), on disk and
    reuse them."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """Passes over the training rows; by default 40 for `probe` and 3 otherwise (for `probe_then_full` those
    of its second phase)."""
    probe_epochs: Annotated[float, Field(gt=0)] = 40
    """Epochs of the first phase of `probe_then_full`."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Rows in one step on one device."""
    gradient_accumulation_steps: Annotated[int, Field(ge=1)] = 1
    """Steps whose gradients are summed before the weights move."""
    optimizer: str = "adamw_torch"
    """An optimizer name of the Hugging Face Trainer (`adamw_torch`, `sgd`, `adafactor`, ...)."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate; by default 3e-3 when only the head trains and 5e-5 when blocks do."""
    head_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate of the head when blocks train too; by default ten times `learning_rate`."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """How strongly weights are pulled towards zero (AdamW's decoupled weight decay)."""
    schedule: str = "linear"
    """A schedule name of the Hugging Face Trainer (`linear`, `cosine`, `constant_with_warmup`, ...)."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The share of all steps in which the learning rate rises."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are scaled down to this norm."""
    class_weights: Literal["balanced"] | dict[str, Annotated[float, Field(gt=0)]] | None = None
    """Weights of the labels in the loss: `balanced` takes the inverse of their frequency; or a number for
    each label; by default all weigh the same."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of the target that is spread evenly over all labels."""
    early_stopping_patience: Annotated[int, Field(ge=1)] | None = None
    """Stop after this many epochs without a better validation metric; by default all epochs run."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Mixed precision of the training steps; the weights stay fp32."""
    report_to: list[str] = ["tensorboard"]
    """Where training curves go: names that the Hugging Face Trainer knows (`tensorboard`, `wandb`, `mlflow`,
    ...)."""


class Export(Section):
    """How the checkpoint becomes a graph, and how close it must be to torch."""

    opset: Annotated[int, Field(ge=17)] = 20
    """The ONNX operator set."""
    atol: Annotated[float, Field(gt=0)] = 1e-4
    """Parity: the largest allowed difference from torch is `atol + rtol * |torch's value|`."""
    rtol: Annotated[float, Field(ge=0)] = 1e-3
    """Parity: the part of the allowed difference that grows with torch's value; see `atol`."""
    external_data: bool = False
    """Keep the weights in a file of their own beside the graph (needed at 2 GB and above)."""


class Quantize(Section):
    """Which schemes are tried."""

    schemes: list[str] = ["int8_dynamic", "fp16"]
    """Names of schemes; each gives one variant, and the fastest one within the budget is chosen."""


class Budget(Section):
    """What a variant is allowed to cost."""

    max_metric_drop: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """How much of the task's metric, on the validation rows, a variant may lose against fp32."""
    latency_ms: Annotated[float, Field(gt=0)] | None = None
    """The largest median latency in milliseconds at the first setting of `bench`; by default any."""
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
    """Batch sizes: texts in one run."""
    length: Annotated[list[Rows], Field(min_length=1)] | None = None
    """Sequence lengths in tokens; by default 32 and `model.max_length`."""
    threads: Annotated[list[Rows], Field(min_length=1)] = [1]
    """Threads of one run (onnxruntime's intra-op pool)."""
    percentile: Literal[50, 90, 95, 97, 99] = 90
    """The percentile asked for; enough samples are taken for it (p90 needs 64, p95 130, p99 662)."""
    max_seconds: Annotated[float, Field(gt=0)] = 120
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
    """What is learnt: the name of a task (`text_classification`, `text_multilabel`)."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """Seeds the splits, the head's first weights, the order of rows and dropout."""
    data: Data
    model: Model
    finetune: Finetune = Finetune()
    export: Export = Export()
    quantize: Quantize = Quantize()
    budget: Budget = Budget()
    bundle: Bundle = Bundle()
    bench: Bench = Bench()

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        problems = list(self._contradictions())
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def bench_lengths(self) -> list[int]:
        """The sequence lengths to measure: those asked for, or 32 and the longest."""
        longest = self.model.max_length
        return list(self.bench.length or sorted({min(32, longest), longest}))

    def _contradictions(self) -> Iterator[str]:
        """What single keys cannot tell; each text starts with the key to mend."""
        strategy, unfreeze = self.finetune.strategy, self.finetune.unfreeze
        if strategy == "partial" and unfreeze is None:
            yield (
                "finetune.unfreeze: missing key; strategy 'partial' needs the number of last blocks to train "
                "or a glob pattern of parameter names"
            )
        if strategy != "partial" and unfreeze is not None:
            yield (
                f"finetune.unfreeze: only for strategy 'partial', but the strategy is {strategy!r}; "
                "remove the key (or set it to null), or change finetune.strategy"
            )
        test, validation = self.data.test, self.data.validation
        if sum(part for part in (test, validation) if isinstance(part, float)) >= 1:
            yield (
                f"data.test: test ({test}) and validation ({validation}) leave no training "
                "rows; make their sum smaller than 1"
            )
        if max(self.bench_lengths) > self.model.max_length:
            yield (
                f"bench.length: {max(self.bench_lengths)} is more than model.max_length, {self.model.max_length}; "
                "the model never sees a longer text"
            )
        lists = {"data.labels": self.data.labels or [], "quantize.schemes": self.quantize.schemes}
        for key, values in lists.items():
            twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
            if twice is not None:
                yield f"{key}: {twice!r} is there twice; name it once"
