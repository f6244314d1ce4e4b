"""A teacher by its name, to look at what a student of it would be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tledge.errors import ModelError
from tledge.model import backbones, gguf
from tledge.model.backbones import transformers as text_backbones
from tledge.model.checkpoint import build, load
from tledge.model.language_tokenizer import FRESH

LENGTH = 32
LABELS = ("one", "two")
"""Of the head that is put on a backbone that has none."""
_HEADS = ("CausalLM", "LMHeadModel")
"""How the names of classes that go on with a text end."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """A model that a student can be made of, and how many tokens it can read; `decodes` for a language model."""

    module: Any
    max_length: int
    decodes: bool


def has_language_head(reference: str) -> bool:
    """Whether a reference is a `.gguf` file, `fresh:TYPE` or a model that was stored with its head for the next token.

    Raises:
        ModelError: no config is there.
    """
    if reference.startswith(FRESH) or gguf.is_gguf(reference):
        return True
    if backbones.kind_of(reference) == "image":
        return False
    architectures = getattr(text_backbones.config_of(reference), "architectures", None) or []
    return any(name.endswith(_HEADS) for name in architectures)


def load_teacher(reference: str, *, tokenizer: str | None = None) -> Teacher:
    """The transformer of texts of a reference, in eval mode: a language model, a trained classifier or a backbone.

    A backbone gets a head of two labels, with its own pooling.

    Args:
        reference: as for `load_backbone` or `load_language`, or the checkpoint of a run.
        tokenizer: of a language model that has none.

    Raises:
        ModelError: nothing loadable is there, or it is a model of images.
    """
    if has_language_head(reference):
        from tledge.model.language import context_length, load_language

        language = load_language(reference, tokenizer=tokenizer)
        return Teacher(language.module, context_length(language.config), decodes=True)
    if backbones.kind_of(reference) == "image":
        raise ModelError(
            f"distill.student: students by layers or by shape are for transformers of texts, but {reference!r} is a "
            "model of images; name a network in distill.student.backbone, such as torchvision:mobilenet_v3_small"
        )
    settings = getattr(text_backbones.config_of(reference), "tledge", None)
    if isinstance(settings, dict):
        return Teacher(load(Path(reference)), int(settings["max_length"]), decodes=False)
    backbone = backbones.load(reference)
    made = build(
        backbone,
        task="text_classification",
        problem_type="single_label_classification",
        labels=LABELS,
        pooling=backbone.pooling,
        max_length=LENGTH,
        dropout_prob=0.0,
        head_hidden_size=None,
    )
    return Teacher(made, LENGTH, decodes=False)
