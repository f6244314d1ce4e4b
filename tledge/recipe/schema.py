"""The recipe's keys; their descriptions here are the documentation, of the JSON schema and starters too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tledge import plugins, tasks
from tledge.errors import did_you_mean

Fraction = Annotated[float, Field(gt=0, lt=1)]
Rows = Annotated[int, Field(ge=1)]


DEFAULT_SCHEMES = {"text": ["int8_dynamic", "fp16"], "image": ["int8_static"]}
"""The schemes that are tried unless the recipe names others, by the task's kind of input."""


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
    """A CSV, TSV, JSONL or Parquet file; a folder of photos with one subfolder for each label; a hub data set
    (`hub:owner/name`, `hub:owner/name/config@split`); a torchvision data set (`torchvision:CIFAR10@train`); arrays
    in an `.npz` file or from a function of an installed package (`arrays:MODULE:FUNCTION`); or a file or folder
    inside an installed package (`package:NAME/PATH`). A relative path is relative to the recipe."""
    validation: str | Fraction | Rows = 0.15
    """Rows that pick the epoch and the variant: a source like `train`, a fraction of the training rows, or a
    count."""
    test: str | Fraction | Rows = 0.2
    """Rows that nothing is chosen on: a source like `train`, a fraction of the training rows, or a count."""
    calibration: Annotated[int, Field(ge=0)] | None = None
    """Rows kept aside for schemes that calibrate, taken from the training rows; by default none for texts, and for
    images 100, or a tenth of the training rows where that is fewer."""
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
    download: bool = False
    """Whether a `torchvision:` data set may be downloaded to tledge's cache folder when it is not there."""
    on_error: Literal["fail", "skip"] = "fail"
    """What a broken row does: stop with its file, line and reason, or be left out and counted."""
    on_overlap: Literal["fail", "drop"] = "fail"
    """What happens when a row of your own test or validation file is also in the training file: stop, or drop
    it from the training rows."""


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
    folder inside an installed package (`package:NAME/PATH`); for images also `torchvision:NAME` or `timm:NAME`."""
    weights: str | None = None
    """Only for `torchvision:` and `timm:` backbones: a name of torchvision's (`DEFAULT`, `IMAGENET1K_V2`), a tag of
    timm's, a `.safetensors` or `.pth` file, `package:NAME/PATH`, or `none` for random weights; by default the
    library's own choice, which it downloads."""
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
    """Texts are cut at this number of tokens."""
    preprocessing: Preprocessing = Preprocessing()
    head: Head = Head()


class Augmentation(Section):
    """Random changes of the training images; validation, calibration and test images are never changed."""

    flip: Literal["none", "horizontal", "vertical", "both"] = "none"
    """Mirror half of the images in this direction, or in each of both."""
    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Turn by up to this many degrees either way."""
    min_scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Cut out a part of this share of the area or more, with its sides changed by up to a third, and resize it; 1
    leaves images whole."""
    color: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Change brightness, contrast and saturation by up to this share."""
    randaugment: Annotated[int, Field(ge=0, le=14)] = 0
    """How many operations of RandAugment (Cubuk et al. 2020) each image gets."""
    randaugment_magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    """The strength of RandAugment's operations."""
    mixup: Annotated[float, Field(ge=0)] = 0.0
    """Blend pairs of images and of their labels (Zhang et al. 2018): the alpha of the Beta distribution, 0 for off."""
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    """Paste a part of another image, and of its label (Yun et al. 2019): the alpha of the Beta distribution, 0 for off;
    with `mixup` too, each batch gets one of them."""
    views: Annotated[int, Field(ge=1)] = 4
    """How many differently changed copies of each training image the cache holds (`finetune.cache`); an epoch takes
    one of them for each image."""

    @property
    def changes_images(self) -> bool:
        """Whether single images are changed: everything but `mixup` and `cutmix`."""
        return bool(
            self.flip != "none" or self.rotation_degrees or self.min_scale < 1 or self.color or self.randaugment
        )

    @property
    def mixes_images(self) -> bool:
        """Whether images are mixed with others of their batch."""
        return bool(self.mixup or self.cutmix)


class Finetune(Section):
    """How the head and, as the strategy says, the backbone are trained."""

    strategy: Literal["probe", "partial", "full", "probe_then_full", "gradual"] = "probe"
    """`probe` trains the head on cached features of the frozen backbone; `partial` also the last blocks
    (`unfreeze` or `freeze`); `full` everything; `probe_then_full` the head first and then everything (LP-FT, Kumar
    et al. 2022); `gradual` the head first and then one block more at a time, from the top down (ULMFiT, Howard and
    Ruder 2018)."""
    unfreeze: Annotated[int, Field(ge=1)] | str | None = None
    """For `partial`: how many of the last blocks train, the name of the first block that trains (`layer4`: it and all
    after it), or a glob pattern of parameter names (`encoder.layer.5.*`). For `gradual`: how many blocks train in the
    end, by default all. `tledge inspect` lists the blocks."""
    freeze: Annotated[int, Field(ge=1)] | str | None = None
    """For `partial`, instead of `unfreeze`: how many of the first blocks stay frozen, or the name of the last one that
    does."""
    cache: bool = True
    """Keep features (`probe`), or activations at the freeze boundary (`partial` with a number), on disk and
    reuse them."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """Passes over the training rows; by default 40 for `probe` and 3 otherwise (for `probe_then_full` those
    of its second phase)."""
    probe_epochs: Annotated[float, Field(gt=0)] = 40
    """Epochs of the first phase of `probe_then_full` and `gradual`."""
    loss: str | None = None
    """The name of a loss that fits the task; by default `cross_entropy`, `binary_cross_entropy` for several labels a
    row, and for regression `mse` (or `huber`)."""
    augmentation: Augmentation = Augmentation()
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Rows in one step on one device."""
    gradient_accumulation_steps: Annotated[int, Field(ge=1)] = 1
    """Steps whose gradients are summed before the weights move."""
    optimizer: str = "adamw_torch"
    """An optimizer name of the Hugging Face Trainer (`adamw_torch`, `sgd`, `adafactor`, ...)."""
    learning_rate: Annotated[float, Field(gt=0)] | Literal["auto"] | None = None
    """Peak learning rate; by default 3e-3 when only the head trains, and when blocks do 5e-5 for texts and 1e-4 for
    images; `auto` tries rising rates on a copy of the model first (the range test of Smith 2017) and takes a tenth of
    the rate at which the loss is lowest."""
    head_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate of the head when blocks train too; by default ten times `learning_rate`."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Each block trains with this share of the learning rate of the block above it; 1 gives all the same."""
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
    workers: Annotated[int, Field(ge=0)] | None = None
    """Processes that decode and change images beside the training one; by default none on a CPU, and one for each
    core, at most 8, where a GPU trains."""
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
    preprocessing: Literal["none", "normalize", "resize_and_normalize"] = "none"
    """What the graph does with an image itself: nothing (it takes float32 `pixel_values`, channels first, which other
    tools expect), or it takes uint8 images, channels last: already resized and cut, or of any size."""
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
    keep_float: Annotated[list[Literal["none", "ends", "worst"]], Field(min_length=1)] = ["none", "ends", "worst"]
    """Layers that stay in float: none, the first and the last, or those that lose most."""
    n_worst: Annotated[int, Field(ge=1)] = 4
    """How many layers `worst` keeps in float."""


class Quantize(Section):
    """Which schemes are tried."""

    schemes: list[str] | None = None
    """Names of schemes; each gives one variant, and the fastest one within the budget is chosen. By default
    `int8_dynamic` and `fp16` for texts, and `int8_static` for images."""
    int8_static: Int8Static = Int8Static()


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
    """Batch sizes: texts or images in one run."""
    length: Annotated[list[Rows], Field(min_length=1)] | None = None
    """Sequence lengths in tokens; by default 32 and `model.max_length`. Images have none."""
    threads: Annotated[list[Rows], Field(min_length=1)] = [1]
    """Threads of one run (onnxruntime's intra-op pool)."""
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
    and that is better when higher (`accuracy`, `balanced_accuracy`, `roc_auc`, `macro_f1`, `micro_f1`, `r2`); by
    default the task's own."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """Seeds the splits, the head's first weights, the order of rows and dropout."""
    baseline: Literal["random_backbone"] | None = None
    """Train once more for comparison: `random_backbone` takes the same recipe on a backbone with random weights, which
    shows what the pretrained ones gave."""
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
    def bench_lengths(self) -> list[int | None]:
        """The sequence lengths to measure: those asked for, or 32 and the longest; `[None]` for images."""
        if self.input_kind == "image":
            return [None]
        longest = self.model.max_length
        return list(self.bench.length or sorted({min(32, longest), longest}))

    @property
    def schemes(self) -> list[str]:
        """The schemes to try: those asked for, or the default of the task's kind of input."""
        if self.quantize.schemes is not None:
            return self.quantize.schemes
        return list(DEFAULT_SCHEMES[self.input_kind])

    @property
    def input_kind(self) -> str:
        """What the task takes: `text` or `image`."""
        return tasks.load(self.task).INPUT

    def _contradictions(self) -> Iterator[str]:
        """What single keys cannot tell; each text starts with the key to mend."""
        yield from _in_strategy(self.finetune)
        test, validation = self.data.test, self.data.validation
        if sum(part for part in (test, validation) if isinstance(part, float)) >= 1:
            yield (
                f"data.test: test ({test}) and validation ({validation}) leave no training "
                "rows; make their sum smaller than 1"
            )
        lists = {"data.labels": self.data.labels or [], "quantize.schemes": self.quantize.schemes or []}
        for key, values in lists.items():
            twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
            if twice is not None:
                yield f"{key}: {twice!r} is there twice; name it once"
        if self.task in plugins.names("tledge.tasks"):  # an unknown one is told of elsewhere
            yield from self._in_task(tasks.load(self.task))

    def _in_task(self, task: tasks.Task) -> Iterator[str]:
        if self.metric is not None and self.metric not in task.METRICS:
            yield (
                f"metric: got {self.metric!r}, but {self.task} is judged by one of {', '.join(task.METRICS)}"
                f"{did_you_mean(self.metric, task.METRICS)}"
            )
        losses = task.LOSSES
        if self.finetune.loss is not None and self.finetune.loss not in losses:
            yield f"finetune.loss: got {self.finetune.loss!r}, but {self.task} trains with {' or '.join(losses)}"
        if task.INPUT == "image":
            if self.bench.length is not None:
                yield "bench.length: images have no length; remove the key"
            yield from _in_augmentation(self.finetune, task)
        else:
            for section, settings, keys in (
                ("finetune.augmentation", self.finetune.augmentation, Augmentation.model_fields),
                ("model.preprocessing", self.model.preprocessing, Preprocessing.model_fields),
                ("export", self.export, ("preprocessing",)),
                ("model", self.model, ("weights",)),
            ):
                for key in keys:
                    if getattr(settings, key) != type(settings).model_fields[key].default:
                        yield f"{section}.{key}: is for images, but {self.task} takes texts; remove the key"
            longest = max(length for length in self.bench_lengths if length is not None)
            if longest > self.model.max_length:
                yield (
                    f"bench.length: {longest} is more than model.max_length, {self.model.max_length}; "
                    "the model never sees a longer text"
                )


def _in_strategy(settings: Finetune) -> Iterator[str]:
    strategy, unfreeze, freeze = settings.strategy, settings.unfreeze, settings.freeze
    if strategy == "partial" and unfreeze is None and freeze is None:
        yield (
            "finetune.unfreeze: missing key; strategy 'partial' needs the number of last blocks to train, the first "
            "one's name or a glob pattern of parameter names (or finetune.freeze: what stays frozen)"
        )
    if unfreeze is not None and freeze is not None:
        yield "finetune.freeze: say either what trains (finetune.unfreeze) or what stays frozen; remove one key"
    if strategy not in ("partial", "gradual") and unfreeze is not None:
        yield (
            f"finetune.unfreeze: only for strategy 'partial' or 'gradual', but the strategy is {strategy!r}; "
            "remove the key (or set it to null), or change finetune.strategy"
        )
    if strategy == "gradual" and isinstance(unfreeze, str):
        yield f"finetune.unfreeze: strategy 'gradual' takes a number of blocks, got {unfreeze!r}"
    if strategy != "partial" and freeze is not None:
        yield (
            f"finetune.freeze: only for strategy 'partial', but the strategy is {strategy!r}; "
            "remove the key (or set it to null), or change finetune.strategy"
        )


def _in_augmentation(settings: Finetune, task: tasks.Task) -> Iterator[str]:
    mixed = next((key for key in ("mixup", "cutmix") if getattr(settings.augmentation, key)), None)
    if mixed is None:
        return
    if task.PROBLEM_TYPE != "single_label_classification":
        yield f"finetune.augmentation.{mixed}: mixes labels of rows that have one each; remove the key"
    if settings.cache and settings.strategy != "full":
        yield (
            f"finetune.augmentation.{mixed}: mixes images in every batch anew, which features kept on disk cannot do; "
            "set finetune.cache: false, or remove the key"
        )
