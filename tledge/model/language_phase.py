"""What of a language model a strategy trains, at which rates, and how the plain model comes out of it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from tledge.errors import ModelError
from tledge.model.blocks import blocks
from tledge.model.freeze import freeze, keep_frozen_in_eval
from tledge.model.language import Language
from tledge.model.language_tokenizer import FRESH
from tledge.model.lora import LEARNING_RATE as LORA_LEARNING_RATE
from tledge.model.lora import merged, with_lora
from tledge.model.masked import MaskedLanguage
from tledge.model.parameter_groups import groups_by_level
from tledge.recipe.schema import Finetune

EPOCHS = 3
LEARNING_RATE = 5e-5
FRESH_LEARNING_RATE = 1e-3

_OF_LABELS = ("class_weights", "head_learning_rate")


@dataclass(frozen=True, slots=True)
class LanguagePhase:
    """One training of a language model.

    `module` is what trains, a `PreTrainedModel` that may have adapters inside, and `finish` gives the plain one after
    it. `groups` are optimizer parameter groups with their learning rates, and `base_rate` is the rate that they are
    made for where a range test shall find it, else `None`. `on_training` is to be called with the module whenever it is
    put into training mode. `parameters` counts those of the plain model, and `trained` those that train.
    """

    module: Any
    epochs: float
    groups: list[dict[str, Any]]
    base_rate: float | None
    note: str
    on_training: Callable[[nn.Module], None]
    finish: Callable[[], Any]
    parameters: int
    trained: int


def language_phase(language: Language | MaskedLanguage, settings: Finetune, *, seed: int = 0) -> LanguagePhase:
    """The training that a strategy asks for: `full`, `partial` or `lora`.

    `partial` trains the last blocks and what comes after them: the final norm, and an output layer that is not tied to
    the embedding. A tied one stays frozen, as the embedding does.

    Args:
        language: its module is changed in place.
        settings: the recipe's `finetune`.
        seed: of the adapters' first weights.

    Raises:
        ModelError: the freeze setting or the adapters' targets name nothing in this model, or a setting is of no use to
            a language model.
    """
    for key in _OF_LABELS:
        if getattr(settings, key) is not None:
            raise ModelError(f"finetune.{key}: a language model has neither labels nor a new head; remove the key")
    module = language.module
    parameters = sum(p.numel() for p in module.parameters())
    finish: Callable[[], Any] = partial(_whole, module)
    if settings.strategy == "lora":
        adapted = with_lora(module, settings.lora, seed=seed)
        module, finish = adapted.get_base_model(), partial(merged, adapted)
        note = f"adapters of rank {settings.lora.rank} train, and are merged into the weights"
    else:
        freeze(module, settings.strategy, settings.unfreeze, settings.freeze)
        note = "the whole model trains" if settings.strategy == "full" else "the last blocks train"
    asked, usual = settings.learning_rate, _usual_rate(language.reference, settings.strategy)
    rate = asked if isinstance(asked, float) else usual
    return LanguagePhase(
        module=module,
        epochs=settings.epochs or EPOCHS,
        groups=groups_by_level(module, partial(blocks, module), rate, settings.weight_decay, settings.layer_decay),
        base_rate=rate if asked == "auto" else None,
        note=note,
        on_training=keep_frozen_in_eval if settings.strategy == "partial" else _nothing,
        finish=finish,
        parameters=parameters,
        trained=sum(p.numel() for p in module.parameters() if p.requires_grad),
    )


def _usual_rate(reference: str, strategy: str) -> float:
    if reference.startswith(FRESH):
        return FRESH_LEARNING_RATE
    return LORA_LEARNING_RATE if strategy == "lora" else LEARNING_RATE


def _whole(module: Any) -> Any:
    return module.eval()


def _nothing(module: nn.Module) -> None:
    """Nothing is frozen."""
