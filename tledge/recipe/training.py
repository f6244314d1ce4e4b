"""The recipe's keys about training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tledge.recipe.section import Section


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
    """Change brightness, contrast and saturation by up to this share, in this order."""
    randaugment: Annotated[int, Field(ge=0, le=14)] = 0
    """How many operations of RandAugment (Cubuk et al. 2020) each image gets."""
    randaugment_magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    """The strength of RandAugment's operations."""
    mixup: Annotated[float, Field(ge=0)] = 0.0
    """Blend pairs of images and of their labels (Zhang et al. 2018): the alpha of the Beta distribution, 0 for off."""
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    """Paste a part of another image, and of its label (Yun et al. 2019): the alpha of the Beta distribution, 0 for off;
    with `mixup` too, each batch gets one of them."""
    mosaic: Annotated[float, Field(ge=0, le=1)] = 0.0
    """For `object_detection`: the share of images that are made of four at half their size (Bochkovskiy et al. 2020);
    with `min_scale` a part of them is then cut out."""
    epochs_without_mosaic: Annotated[float, Field(ge=0)] = 5
    """The last epochs, in which images are not made of four, so that training ends on images as they are."""
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


class Training(Section):
    """The settings of a training, whatever it trains on."""

    epochs: Annotated[float, Field(gt=0)] | None = None
    """Passes over the training rows."""
    augmentation: Augmentation = Augmentation()
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Rows in one step on one device."""
    gradient_accumulation_steps: Annotated[int, Field(ge=1)] = 1
    """Steps whose gradients are summed before the weights move."""
    optimizer: str = "adamw_torch_fused"
    """An optimizer name of transformers (`adamw_torch_fused`, `sgd`, `adafactor`, ...)."""
    learning_rate: Annotated[float, Field(gt=0)] | Literal["auto"] | None = None
    """Peak learning rate; `auto` tries rising rates on a copy of the model first (the range test of Smith 2017) and
    takes a tenth of the rate at which the loss is lowest."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """How strongly weights are pulled towards zero (AdamW's decoupled weight decay)."""
    schedule: str = "linear"
    """A schedule name of transformers (`linear`, `cosine`, `constant_with_warmup`, ...)."""
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
    """Threads that decode images, 0 for the one that trains; by default one for each core, at most 16."""
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """Mixed precision of the training steps; the weights stay fp32. `auto` is `bf16` on a GPU that has it, and `fp32`
    elsewhere."""
    tf32: bool = False
    """Let a GPU round the factors of float32 products to TF32's 10 bits, which is faster; without effect elsewhere."""
    compile: Literal["auto", "off"] = "auto"
    """`auto` runs a GPU's steps as CUDA graphs, one for each shape of batch that occurs often, so that Python's own
    time is not spent on every kernel; each is first compared with the step itself. It takes more of the GPU's memory.
    Without effect on a CPU."""
    report_to: list[str] = ["tensorboard"]
    """Where training curves go: names of loggers that accelerate knows (`tensorboard`, `wandb`, `mlflow`, ...)."""


class Lora(Section):
    """Low-rank adapters (Hu et al. 2022) of strategy `lora`, trained beside the frozen weights and merged into them."""

    rank: Annotated[int, Field(ge=1)] = 8
    """The rank of the two matrices of an adapter."""
    alpha: Annotated[float, Field(gt=0)] = 16
    """An adapter's output is scaled by `alpha / rank`."""
    dropout_prob: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of an adapter's inputs dropped in training."""
    targets: Annotated[list[str], Field(min_length=1)] | None = None
    """Names of the layers that get an adapter, such as `[q_proj, v_proj]`; by default all linear layers of the
    blocks."""


class FewShot(Section):
    """How strategy `few_shot` learns from a few labelled rows."""

    tune: Literal["contrastive", "none"] = "contrastive"
    """`contrastive` trains the whole encoder on pairs of the labelled rows, so that the vectors of rows with one label
    point the same way (SetFit, Tunstall et al. 2022); `none` leaves it as it is."""
    head: Literal["logistic", "prototypes"] = "logistic"
    """The linear head, which is solved and not trained: logistic regression, or the nearest of the labels' mean vectors
    (Snell et al. 2017)."""
    pairs: Annotated[int, Field(ge=1)] = 20
    """Pairs with a row of the same label, and as many with one of another label, that are drawn for each row."""
    batch_size: Annotated[int, Field(ge=1)] = 64
    """Pairs in one step; a row that is in several of them is run once."""
    strength: Annotated[float, Field(gt=0)] = 1.0
    """For `logistic`: how freely weights may grow, the inverse of their penalty (scikit-learn's `C`)."""


class ZeroShot(Section):
    """How strategy `zero_shot` makes a head of what labels are called, without a labelled row."""

    method: Literal["similarity", "clip"] | None = None
    """`similarity` compares the vector of a text with the mean vector of each label's descriptions, and `clip` that of
    an image, by a model of images and texts together (CLIP, Radford et al. 2021; SigLIP); by default what fits the
    task."""
    templates: Annotated[list[str], Field(min_length=1)] = ["{}"]
    """Sentences around a description, `{}`, whose vectors are averaged, such as `This text is about {}.` or `a photo of
    {}`."""


class _Strategy(Section):
    """What trains."""

    strategy: Literal[
        "probe", "partial", "full", "probe_then_full", "gradual", "lora", "few_shot", "zero_shot", "none"
    ] = "probe"
    """`probe` trains the head on cached features of the frozen backbone; `partial` also the last blocks
    (`unfreeze` or `freeze`); `full` everything; `probe_then_full` the head first and then everything (LP-FT, Kumar
    et al. 2022); `gradual` the head first and then one block more at a time, from the top down (ULMFiT, Howard and
    Ruder 2018); `lora` the head and small adapters (`lora`), for texts; `few_shot` learns from a few rows of each
    label (`few_shot`), and chooses nothing by validation rows; `zero_shot` makes a head of the
    labels' descriptions (`data.labels`, `zero_shot`); `none` takes a checkpoint as it is, its head
    included. A language model has its head already: for `causal_lm` it is `full`, `partial`, `lora` or `none`."""
    unfreeze: Annotated[int, Field(ge=1)] | str | None = None
    """For `partial`: how many of the last blocks train, the name of the first block that trains (`layer4`: it and all
    after it), or a glob pattern of parameter names (`encoder.layer.5.*`). For `gradual`: how many blocks train in the
    end, by default all. `tledge inspect` lists the blocks."""
    freeze: Annotated[int, Field(ge=1)] | str | None = None
    """For `partial`, instead of `unfreeze`: how many of the first blocks stay frozen, or the name of the last one that
    does."""
    lora: Lora = Lora()
    few_shot: FewShot = FewShot()
    zero_shot: ZeroShot = ZeroShot()
    cache: bool = True
    """Keep features (`probe`), activations at the freeze boundary (`partial` with a number) and decoded images on disk
    and reuse them."""
    probe_epochs: Annotated[float, Field(gt=0)] = 40
    """Epochs of the first phase of `probe_then_full` and `gradual`."""
    loss: str | None = None
    """The name of a loss that fits the task; by default `cross_entropy`, `binary_cross_entropy` for several labels a
    row, and for regression `mse` (or `huber`). For `text_embedding` it is `cosent` (or `cosine_regression`) for pairs
    with a score, `multiple_negatives` for pairs, triples (or `triplet`) and texts alone, and `supervised_contrastive`
    for texts with a label."""
    tagged_tokens: Literal["first", "all"] | None = None
    """For tasks that answer words: whether the `first` token of a word alone learns the word's tag, or `all` do; by
    default `first` with `model.aggregation: first`, else `all`."""
    score_range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    """For `cosine_regression`: the scores that are learnt as the cosines 0 and 1; by default the lowest and the highest
    of the training rows. A score outside is an error."""
    head_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate of the head when blocks train too; by default ten times `learning_rate`."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Each block trains with this share of the learning rate of the block above it; 1 gives all the same."""


class Finetune(Training, _Strategy):
    """How the head and, as the strategy says, the backbone are trained."""

    epochs: Annotated[float, Field(gt=0)] | None = None
    """Passes over the training rows; by default 40 for `probe`, 1 for `few_shot` (over its pairs) and 3 otherwise (for
    `probe_then_full` those of its second phase)."""
    learning_rate: Annotated[float, Field(gt=0)] | Literal["auto"] | None = None
    """Peak learning rate; by default 3e-3 when only the head trains, and when blocks do 5e-5 for texts and 1e-4 for
    images, 3e-4 for `lora`, and 1e-3 for a language model with random weights; `auto` tries rising rates on a copy of
    the model first (the range test of Smith 2017) and takes a tenth of the rate at which the loss is lowest."""
