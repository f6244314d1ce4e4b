"""A backbone, a pooling, and what makes the vector of a text of its features: the model of `text_embedding`.

A checkpoint is a folder that sentence-transformers opens too: the backbone's own weights under its own names, and
`modules.json` with the parts behind it. The files have the spellings that its versions 2 to 6 read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig

from tledge.artifacts import write_json
from tledge.errors import ModelError
from tledge.model.backbones import transformers as text_backbones
from tledge.model.backbones.sentence import Dense
from tledge.model.classifier import POOLINGS, TextClassifier, require_length, save_tokenizer
from tledge.model.rows import Rows, Source
from tledge.progress import Progress

OUTPUT = "sentence_embedding"
"""What sentence-transformers calls the vector of a text."""
_ACTIVATIONS: Mapping[str, type[nn.Module]] = {"Identity": nn.Identity, "Tanh": nn.Tanh}
_MODULES = "sentence_transformers.models."
_MODES = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
_MODE_OF = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken"}


class EmbeddingHead(nn.Module):
    """Pooled features to the vector of a text: a linear layer where there is one, fewer dimensions, and length 1.

    Fewer dimensions are the first ones (Matryoshka, Kusupati et al. 2022).
    """

    def __init__(self, projection: nn.Sequential | None, dimensions: int | None, normalize: bool) -> None:
        super().__init__()
        self.projection, self.dimensions, self.normalize = projection, dimensions, normalize

    def forward(self, features: Tensor) -> Tensor:
        """`(batch, size)` of features `(batch, n_features)`."""
        vectors = features if self.projection is None else self.projection(features)
        vectors = vectors if self.dimensions is None else vectors[:, : self.dimensions]
        return functional.normalize(vectors, dim=-1) if self.normalize else vectors

    def layer(self, n_features: int) -> nn.Sequential | None:
        """The linear layer in the files of sentence-transformers: there it also stands for fewer dimensions."""
        if self.projection is not None or self.dimensions is None:
            return self.projection
        return _layer(n_features, self.dimensions, False, "Identity")


class TextEmbedder(TextClassifier):
    """A transformers backbone that gives a vector for a text: a `TextClassifier` with another head."""

    def __init__(self, backbone: Any, *, config: Any, head: EmbeddingHead, pooling: str, dropout_prob: float) -> None:
        """Put a head on a backbone.

        Args:
            backbone: gives `last_hidden_state`, `(batch, sequence, hidden)`.
            config: the backbone's, with the entry `tledge`.
            head: makes vectors of pooled features.
            pooling: one of `mean`, `cls`, `last`.
            dropout_prob: dropout on the pooled features, in training.
        """
        super().__init__(backbone, config=config, pooling=pooling, n_labels=1, dropout_prob=dropout_prob)
        self.classifier = head

    @property
    def embedding_head(self) -> EmbeddingHead:
        """What makes vectors of pooled features."""
        head = self.classifier
        assert isinstance(head, EmbeddingHead)
        return head

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> dict[str, Tensor]:
        """`{"sentence_embedding": (batch, size)}`; the arguments are those of `features`."""
        return {OUTPUT: self.head(self.features(input_ids, attention_mask, token_type_ids))}

    def source(
        self, train: Rows, validation: Rows, encoder: Any, *, cache: Path, progress: Progress, **_of_images: Any
    ) -> Source:
        """The rows of a training, each of several texts, in batches."""
        from tledge.model.several_texts import SeveralTexts

        return SeveralTexts.of(train, validation, encoder, self.n_features, cache, progress)

    def save(self, folder: Path, backbone: Any) -> None:
        """Write a checkpoint, with the tokenizer of a backbone."""
        folder.mkdir(parents=True, exist_ok=True)
        self.config.save_pretrained(folder)
        save_model(self.backbone, str(folder / "model.safetensors"), metadata={"format": "pt"})
        layer = self.embedding_head.layer(self.n_features)
        if layer is not None:
            (folder / "2_Dense").mkdir(exist_ok=True)
            state = {f"linear.{name}": each.contiguous() for name, each in layer[0].state_dict().items()}
            save_file(state, str(folder / "2_Dense" / "model.safetensors"))
        self.save_inputs(folder, backbone)

    def save_inputs(self, folder: Path, backbone: Any) -> None:
        """Write the tokenizer's files, and those of sentence-transformers."""
        folder.mkdir(parents=True, exist_ok=True)
        save_tokenizer(self, backbone.tokenizer, folder)
        for name, content in sentence_files(self).items():
            (folder / name).parent.mkdir(exist_ok=True)
            write_json(folder / name, content)


def build_embedder(
    backbone: text_backbones.Backbone,
    *,
    pooling: str,
    max_length: int,
    dimensions: int | None = None,
    normalize: bool = True,
    projection: bool = False,
    dropout_prob: float = 0.0,
    prompts: Mapping[str, str] | None = None,
) -> TextEmbedder:
    """The model of a backbone, which gives the vectors that its own files ask for.

    Args:
        backbone: of texts.
        pooling: of a text's tokens; `auto` for the backbone's own.
        max_length: tokens at which texts are cut.
        dimensions: of a vector, of which the first ones are kept; `None` for all.
        normalize: whether vectors have length 1.
        projection: put a linear layer behind the pooling, which begins as what gives the features themselves, where the
            backbone's files have none.
        dropout_prob: dropout on the pooled features, in training.
        prompts: what stands before texts, by name; `None` for the backbone's own.

    Raises:
        ModelError: the backbone pools or goes on in a way that is not known here, or the sizes do not fit.
    """
    parts = backbone.parts()
    own = "mean" if backbone.pooling == "pooler" else backbone.pooling
    pooling = own if pooling == "auto" else pooling
    if pooling not in _MODE_OF:
        known = ", ".join(name for name in POOLINGS if name in _MODE_OF)
        raise ModelError(
            f"model.pooling: got {pooling!r} for {backbone.reference!r}, which sentence-transformers does not know; "
            f"set model.pooling to one of {known}"
        )
    if parts.others:
        raise ModelError(
            f"model.backbone: the vectors of {backbone.reference!r} go through {', '.join(parts.others)}, which is not "
            "known here; expected a pooling, a dense layer and a normalisation"
        )
    require_length(backbone, max_length)
    config = backbone.config
    width = config.hidden_size if parts.dense is None else len(parts.dense.weight)
    if dimensions is not None and dimensions > width:
        raise ModelError(f"model.dimensions: got {dimensions}, but the vectors of {backbone.reference!r} have {width}")
    layer = _projection(config.hidden_size, parts.dense, dimensions or width, new=projection)
    kept = (dimensions or width) if layer is None and (dimensions or width) < config.hidden_size else None
    config.architectures = [type(backbone.module).__name__]
    if getattr(config, "pad_token_id", None) is None:
        pad = backbone.tokenizer.pad_token_id
        config.pad_token_id = backbone.tokenizer.eos_token_id if pad is None else pad
    asked = parts.prompts if prompts is None else prompts
    config.tledge = {
        "task": "text_embedding",
        "pooling": pooling,
        "max_length": max_length,
        "embedding": {
            "dimensions": kept,
            "normalize": normalize,
            "projection": None if layer is None else _described(layer),
            "dropout_prob": dropout_prob,
            "prompts": dict(asked),
            "default_prompt": parts.default_prompt if parts.default_prompt in asked else None,
        },
    }
    return _of(config, backbone.module, layer)


def load_embedder(folder: Path) -> TextEmbedder:
    """The model of a checkpoint folder, in eval mode.

    Raises:
        ModelError: its weights do not fit.
    """
    config = AutoConfig.from_pretrained(folder)
    facts = config.tledge["embedding"]["projection"]
    layer = None if facts is None else _layer(**facts)
    model = _of(config, text_backbones.without_weights(config), layer)
    try:
        load_model(model.backbone, str(folder / "model.safetensors"))
        if layer is not None:
            stored = load_file(folder / "2_Dense" / "model.safetensors")
            layer[0].load_state_dict({name.removeprefix("linear."): each for name, each in stored.items()})
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"{folder}: the weights do not fit config.json: {reason}; run the train stage again"
        ) from error
    return model.eval()


def sentence_files(model: TextEmbedder) -> dict[str, Any]:
    """What sentence-transformers reads of a model beside its config and weights, by file: plain JSON.

    Its old versions have other names for the pooling, and no config of a normalisation.
    """
    facts = model.config.tledge
    own, hidden = facts["embedding"], model.config.hidden_size
    mode = _MODE_OF[facts["pooling"]]
    files: dict[str, Any] = {
        "1_Pooling/config.json": {
            "word_embedding_dimension": hidden,
            **{f"pooling_mode_{name}": name == mode for name in _MODES},
            "include_prompt": True,
        },
        "sentence_bert_config.json": {"max_seq_length": facts["max_length"], "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": own["prompts"],
            "default_prompt_name": own["default_prompt"],
            "similarity_fn_name": "cosine",
        },
    }
    parts = [("", "Transformer"), ("1_Pooling", "Pooling")]
    layer = model.embedding_head.layer(hidden)
    if layer is not None:
        parts.append(("2_Dense", "Dense"))
        described = _described(layer)
        activation = type(layer[1]).__module__ + "." + described.pop("activation")
        files["2_Dense/config.json"] = described | {"activation_function": activation}
    if own["normalize"]:
        path = f"{len(parts)}_Normalize"
        parts.append((path, "Normalize"))
        files[f"{path}/config.json"] = {}
    files["modules.json"] = [
        {"idx": i, "name": str(i), "path": path, "type": f"{_MODULES}{kind}"} for i, (path, kind) in enumerate(parts)
    ]
    return files


def _projection(n_features: int, dense: Dense | None, size: int, *, new: bool) -> nn.Sequential | None:
    """The first rows of the linear layer of a backbone's files, or a new one; `None` where features are only cut."""
    if dense is not None and dense.activation not in _ACTIVATIONS:
        raise ModelError(
            f"model.backbone: its dense layer has the activation {dense.activation}; known are "
            f"{', '.join(_ACTIVATIONS)}"
        )
    cut = dense is None or (
        dense.bias is None
        and dense.activation == "Identity"
        and torch.equal(dense.weight, torch.eye(*dense.weight.shape, dtype=dense.weight.dtype))
    )
    if cut:
        return _layer(n_features, size, False, "Identity") if new else None
    assert dense is not None
    layer = _layer(n_features, size, dense.bias is not None, dense.activation)
    state = {"weight": dense.weight[:size]} | ({} if dense.bias is None else {"bias": dense.bias[:size]})
    layer[0].load_state_dict(state)
    return layer


def _layer(in_features: int, out_features: int, bias: bool, activation: str) -> nn.Sequential:
    """A linear layer that gives the first of its inputs as they are."""
    linear = nn.Linear(in_features, out_features, bias=bias)
    nn.init.eye_(linear.weight)
    if bias:
        nn.init.zeros_(linear.bias)
    return nn.Sequential(linear, _ACTIVATIONS[activation]())


def _described(layer: nn.Sequential) -> dict[str, Any]:
    linear = layer[0]
    return {
        "in_features": linear.in_features,
        "out_features": linear.out_features,
        "bias": linear.bias is not None,
        "activation": type(layer[1]).__name__,
    }


def _of(config: Any, backbone: Any, layer: nn.Sequential | None) -> TextEmbedder:
    facts = config.tledge["embedding"]
    head = EmbeddingHead(layer, facts["dimensions"], facts["normalize"])
    return TextEmbedder(
        backbone, config=config, head=head, pooling=config.tledge["pooling"], dropout_prob=facts["dropout_prob"]
    ).eval()
