"""A backbone, a pooling and a head: the model that is fine-tuned, saved as a checkpoint and exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from optimum.exporters.tasks import TasksManager
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel

from tledge.artifacts import read_json, write_json
from tledge.errors import ModelError
from tledge.inputs._windows import FILE as WINDOWS
from tledge.model.backbones import transformers as text_backbones
from tledge.model.blocks import Block, blocks
from tledge.model.freeze import keep_frozen_in_eval
from tledge.model.head import folded, new_head
from tledge.progress import Progress

if TYPE_CHECKING:
    from tledge.model.boundary import StandIn
    from tledge.model.rows import Rows, Source

POOLINGS = ("mean", "cls", "last", "pooler")
NO_POOLING = "none"
"""Of models that answer each token."""
_PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")
"""Those that transformers takes in a config; version 4 refuses any other."""


class TextClassifier(PreTrainedModel):
    """A transformers backbone with a classification head.

    The parameters are named as transformers' BERT classifier names them (`bert.*`, `classifier.*`), and frozen parts
    stay in eval mode, so that training on cached features and through the frozen backbone compute the same.
    """

    # The wrapper has no attention of its own; the backbone has already chosen its implementation.
    _supports_sdpa = True
    _supports_flash_attn = True
    supports_gradient_checkpointing = True
    in_a_row = True
    pools = True
    learning_rate = 5e-5

    def __init__(
        self,
        backbone: PreTrainedModel,
        *,
        config: Any,
        pooling: str,
        n_labels: int,
        dropout_prob: float = 0.1,
        head_hidden_size: int | None = None,
        target_scale: tuple[float, float] | None = None,
        head_normalize: bool = False,
    ) -> None:
        """Put a fresh head on a backbone.

        Args:
            backbone: gives `last_hidden_state`, `(batch, sequence, hidden)`.
            config: the backbone's transformers config.
            pooling: one of `mean`, `cls`, `last`, `pooler`; or `none` for features and logits of each token, `(batch,
                sequence, ...)`.
            n_labels: outputs of the head.
            dropout_prob: dropout on the pooled features, in training.
            head_hidden_size: width of one hidden tanh layer; `None` for a linear head.
            target_scale: mean and standard deviation of a regression's targets.
            head_normalize: whether the head takes features of length 1.

        Raises:
            ModelError: the pooling is `pooler` and the backbone has none.
        """
        super().__init__(config)
        if pooling == "pooler" and getattr(backbone, "pooler", None) is None:
            raise ModelError(
                f"model.pooling: {config.model_type!r} has no pooler; expected one of mean, cls, last or auto"
            )
        if pooling != "pooler" and getattr(backbone, "pooler", None) is not None:
            backbone.pooler = None  # not run, not stored, not exported
        self.base_model_prefix = backbone.base_model_prefix or "backbone"
        setattr(self, self.base_model_prefix, backbone)
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout_prob)
        self.n_features: int = config.hidden_size
        self.classifier = new_head(
            self.n_features,
            n_labels,
            dropout_prob=dropout_prob,
            hidden_size=head_hidden_size,
            target_scale=target_scale,
            normalize=head_normalize,
        )

    @property
    def facts(self) -> dict[str, Any]:
        """What the checkpoint's config.json says for tledge; may be added to."""
        found: dict[str, Any] = self.config.tledge
        return found

    @property
    def backbone(self) -> nn.Module:
        """The pretrained body."""
        body: nn.Module = getattr(self, self.base_model_prefix)
        return body

    def train(self, mode: bool = True) -> TextClassifier:
        """Set the mode of what trains; what is frozen stays in eval mode."""
        super().train(mode)
        if mode:
            keep_frozen_in_eval(self.backbone)
        return self

    def blocks(self, sample: Mapping[str, Any] | None = None) -> list[Block]:  # noqa: ARG002
        """The backbone's repeated layers from the bottom to the top; a sample is not needed, and not used."""
        return blocks(self.backbone)

    def block_sample(self) -> None:
        """None: the blocks are a list."""

    def example(self, batch: int) -> dict[str, Tensor]:
        """Made-up tokens of 8 places, the first row padded: `(batch, 8) int64` each, the same each time."""
        device = next(self.parameters()).device
        ids = torch.arange(8 * batch, device=device).reshape(batch, 8) % self.config.vocab_size
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if getattr(self.config, "type_vocab_size", 0) > 1:
            inputs["token_type_ids"] = torch.zeros_like(ids)
        inputs["attention_mask"][0, -3:] = 0
        return inputs

    def stand_ins(self, boundary: int) -> list[tuple[str, StandIn]]:
        """What takes the place of the blocks below a boundary."""
        from tledge.model.boundary import in_a_list

        return in_a_list(self, boundary)

    def above(self, activations: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """Nothing beside the texts' own tensors, which come with the activations."""
        return {}

    def source(
        self,
        train: Rows,
        validation: Rows,
        encoder: Any,
        *,
        cache: Path,
        progress: Progress,
        others: Mapping[str, Rows] | None = None,
        **_of_images: Any,
    ) -> Source:
        """The rows of a training, in batches."""
        from tledge.model.rows import Texts

        return Texts(train, validation, encoder, self.n_features, cache, progress, others or {})

    def another(self, name: str, preprocessing: Any = None) -> TextClassifier:  # noqa: ARG002
        """The same classifier on another backbone, with random weights."""
        backbone = text_backbones.load(name, pretrained=False)
        facts = self.config.tledge
        return build_text(
            backbone,
            task=facts["task"],
            problem_type=self.config.problem_type or facts["problem_type"],
            labels=tuple(self.config.id2label.values()),
            pooling=NO_POOLING if self.pooling == NO_POOLING else backbone.pooling,
            max_length=facts["max_length"],
            windows=facts.get("windows"),
            dropout_prob=facts["head"]["dropout_prob"],
            head_hidden_size=facts["head"]["hidden_size"],
            head_normalize=facts["head"].get("normalize", False),
        )

    def remade(self, config: Any, target_scale: tuple[float, float] | None) -> TextClassifier:
        """A classifier of the same form with another config of its class, and random weights."""
        return TextClassifier(
            type(self.backbone)(config),
            config=config,
            pooling=self.pooling,
            n_labels=len(config.id2label),
            dropout_prob=config.tledge["head"]["dropout_prob"],
            head_hidden_size=config.tledge["head"]["hidden_size"],
            target_scale=target_scale,
            head_normalize=config.tledge["head"].get("normalize", False),
        )

    def save(self, folder: Path, backbone: Any) -> None:
        """Write a checkpoint, with the tokenizer of a backbone."""
        save_text(self, folder, backbone.tokenizer)

    def save_inputs(self, folder: Path, backbone: Any) -> None:
        """Write the tokenizer's files."""
        folder.mkdir(parents=True, exist_ok=True)
        save_tokenizer(self, backbone.tokenizer, folder)

    def features(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """One feature vector for each text, `(batch, hidden)`, or for each token, `(batch, sequence, hidden)`.

        Args:
            input_ids: `(batch, sequence) int64`.
            attention_mask: `(batch, sequence) int64`, 0 on padding.
            token_type_ids: `(batch, sequence) int64`, for backbones that have segments.
        """
        inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        if getattr(self.config, "use_cache", None):
            inputs["use_cache"] = False
        result = self.backbone(**inputs)
        if self.pooling == "pooler":
            return result.pooler_output
        return pool(result.last_hidden_state, attention_mask, self.pooling)

    def head(self, features: Tensor) -> Tensor:
        """Logits, `(..., labels)`, of features `(..., hidden)`."""
        return self.classifier(self.dropout(features))

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> dict[str, Tensor]:
        """`{"logits": (batch, labels)}`, or `(batch, sequence, labels)`; the arguments are those of `features`."""
        return {"logits": self.head(self.features(input_ids, attention_mask, token_type_ids))}


def pool(hidden: Tensor, attention_mask: Tensor, pooling: str) -> Tensor:
    """Token features `(batch, sequence, hidden)` to one vector a row, `(batch, hidden)`.

    `mean` averages the tokens that are not padding, `cls` takes the first and `last` the last of them, on whichever
    side the padding is; `none` leaves them as they are.
    """
    if pooling == NO_POOLING:
        return hidden
    if pooling == "mean":
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
    positions = torch.arange(hidden.shape[1], device=hidden.device)
    first, last = attention_mask.argmax(dim=1), (positions * attention_mask).argmax(dim=1)
    index = first if pooling == "cls" else last
    return hidden.gather(1, index[:, None, None].expand(-1, 1, hidden.shape[2])).squeeze(1)


def build_text(
    backbone: text_backbones.Backbone,
    *,
    task: str,
    problem_type: str,
    labels: Sequence[str],
    pooling: str,
    max_length: int,
    dropout_prob: float,
    head_hidden_size: int | None,
    optimum_task: str = "text-classification",
    target_scale: tuple[float, float] | None = None,
    windows: Mapping[str, Any] | None = None,
    head_normalize: bool = False,
) -> TextClassifier:
    """A classifier on a pretrained backbone, its config filled with the labels in the ecosystem's words.

    Raises:
        ModelError: the pooling does not fit the backbone, or `max_length` is more than it can read.
    """
    if pooling not in (*POOLINGS, NO_POOLING):
        raise ModelError(
            f"model.pooling: {backbone.reference!r} pools its tokens by {pooling!r} as its own files say, which is not "
            f"known here; set model.pooling to one of {', '.join(POOLINGS)}"
        )
    absent = [name for name in backbone.missing if name.startswith(text_backbones.UNUSED_PARTS)]
    if pooling == "pooler" and absent:
        raise ModelError(
            f"model.pooling: the checkpoint {backbone.reference!r} lacks {len(absent)} weights of its pooler, such as "
            f"{absent[0]!r}; expected one of mean, cls, last or auto"
        )
    require_length(backbone, max_length)
    config = backbone.config
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}
    is_known = problem_type in _PROBLEM_TYPES
    config.problem_type = problem_type if is_known else None
    config.architectures = [_architecture(optimum_task, backbone)]
    if getattr(config, "pad_token_id", None) is None:
        pad = backbone.tokenizer.pad_token_id
        config.pad_token_id = backbone.tokenizer.eos_token_id if pad is None else pad
    config.tledge = {
        "task": task,
        "pooling": pooling,
        "max_length": max_length,
        "head": {"dropout_prob": dropout_prob, "hidden_size": head_hidden_size},
    }
    config.tledge["head"] |= {"normalize": True} if head_normalize else {}
    config.tledge |= {} if is_known else {"problem_type": problem_type}
    config.tledge |= {} if windows is None else {"windows": dict(windows)}
    return _from_config(config, backbone.module, target_scale)


def require_length(backbone: text_backbones.Backbone, max_length: int) -> None:
    """Nothing, where a backbone can read so many tokens.

    Raises:
        ModelError: it cannot.
    """
    limit = _longest(backbone)
    if limit is not None and max_length > limit:
        raise ModelError(f"model.max_length: got {max_length}, but {backbone.reference!r} reads at most {limit} tokens")


def save_text(model: TextClassifier, folder: Path, tokenizer: Any) -> None:
    """Write a checkpoint: config.json, model.safetensors and the tokenizer's files.

    A regression's scale is stored as a part of the last layer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    trained = model.classifier
    model.classifier = folded(trained)
    try:
        save_model(model, str(folder / "model.safetensors"), metadata={"format": "pt"})
    finally:
        model.classifier = trained
    save_tokenizer(model, tokenizer, folder)


def save_tokenizer(model: TextClassifier, tokenizer: Any, folder: Path) -> None:
    """Write the tokenizer's files with the model's own length limit, in the form that older readers take too.

    Texts are padded on the right, whatever the tokenizer did before: with padding on the left, a model that counts its
    positions from the first column (GPT-2) would read a padded text differently from the same text alone.
    """
    tokenizer.model_max_length = model.config.tledge["max_length"]
    tokenizer.padding_side = "right"
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    # transformers 5 writes a class name that version 4 does not know, and leaves the names of the inputs out.
    # How it was found says nothing about it, and differs where a run is taken up again.
    facts = {key: value for key, value in read_json(path).items() if key not in ("is_local", "local_files_only")} | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": list(tokenizer.model_input_names),
    }
    write_json(path, facts)
    if "windows" in model.config.tledge:
        write_json(folder / WINDOWS, model.config.tledge["windows"])


def load_text(folder: Path) -> TextClassifier:
    """The classifier of a checkpoint folder, in eval mode.

    Raises:
        ModelError: the folder is not a checkpoint of tledge, or its weights do not fit.
    """
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} is not a checkpoint: {str(error).partition(chr(10))[0]}") from error
    if not isinstance(getattr(config, "tledge", None), dict):
        raise ModelError(f"{folder}/config.json has no 'tledge' entry; expected a checkpoint that tledge wrote")
    model = _from_config(config, text_backbones.without_weights(config))
    try:
        load_model(model, str(folder / "model.safetensors"))
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"{folder}/model.safetensors does not fit config.json: {reason}; run the train stage again"
        ) from error
    return model.eval()


def _longest(backbone: text_backbones.Backbone) -> int | None:
    """The most tokens that a backbone reads, `None` when nothing limits them.

    RoBERTa and its kin number positions from behind the padding token's, so that 514 embeddings serve 512 tokens.
    """
    limit: int | None = getattr(backbone.config, "max_position_embeddings", None)
    if limit is not None and limit < 1:  # XLNet's way to say that there is none
        return None
    for name, table in backbone.module.named_modules():
        if name.endswith("position_embeddings") and isinstance(table, nn.Embedding) and table.padding_idx is not None:
            return table.num_embeddings - table.padding_idx - 1
    return limit


def _architecture(optimum_task: str, backbone: text_backbones.Backbone) -> str:
    """The class that transformers has for a task on this backbone, or the backbone's own where it has none."""
    auto = TasksManager.get_model_class_for_task(optimum_task, framework="pt")
    known = auto._model_mapping
    config_class = type(backbone.config)
    return known[config_class].__name__ if config_class in known else type(backbone.module).__name__


def _from_config(config: Any, backbone: nn.Module, target_scale: tuple[float, float] | None = None) -> TextClassifier:
    facts = config.tledge
    return TextClassifier(
        backbone,
        config=config,
        pooling=facts["pooling"],
        n_labels=len(config.id2label),
        dropout_prob=facts["head"]["dropout_prob"],
        head_hidden_size=facts["head"]["hidden_size"],
        target_scale=target_scale,
        head_normalize=facts["head"].get("normalize", False),
    ).eval()
