"""Low-rank adapters of a transformer (Hu et al. 2022), by peft: put on to be trained, and merged to be shipped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from tledge.errors import ModelError, did_you_mean
from tledge.model.blocks import block_list
from tledge.recipe.training import Lora

LEARNING_RATE = 3e-4


def with_lora(module: Any, settings: Lora, *, seed: int = 0) -> Any:
    """The model with adapters beside its linear layers, which alone train; its outputs are what they were.

    A layer's output gets `alpha / rank * B(A(x))` added, where A starts random and B at zero. The module itself is
    changed and belongs to the result.

    Args:
        module: a model of transformers: one of language, or the body of an encoder.
        settings: rank, scale, dropout and the names of the layers, by default all linear ones of the blocks.
        seed: of the random matrices.

    Raises:
        ModelError: a name is that of no linear layer.
    """
    from peft import LoraConfig, get_peft_model  # slow to import, and only this strategy needs it

    layers = _linear_layers(module)
    chosen = list(layers) if settings.targets is None else _targeted(list(layers), settings.targets)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout_prob,
        target_modules=chosen,
        fan_in_fan_out=any(isinstance(layers[name], Conv1D) for name in chosen),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(module, config).eval()


def merged(module: Any) -> Any:
    """The plain model that computes what the one with adapters does, in eval mode."""
    plain = module.merge_and_unload()
    for parameter in plain.parameters():
        parameter.requires_grad_(True)
    return plain.eval()


def _linear_layers(module: nn.Module) -> dict[str, nn.Module]:
    """The linear layers inside the blocks by their full names; GPT-2's are of transformers' own class."""
    prefix, _ = block_list(module)
    return {
        name: layer
        for name, layer in module.named_modules()
        if name.startswith(f"{prefix}.") and isinstance(layer, (nn.Linear, Conv1D))
    }


def _targeted(layers: Sequence[str], targets: Sequence[str]) -> list[str]:
    """The layers whose name, or the end of it, is among the targets."""
    found: list[str] = []
    for target in targets:
        hits = [name for name in layers if name == target or name.endswith(f".{target}")]
        if not hits:
            known = list(dict.fromkeys(name.rpartition(".")[2] for name in layers))
            raise ModelError(
                f"finetune.lora.targets: the blocks have no linear layer {target!r}; they have {', '.join(known)}"
                f"{did_you_mean(target, known)}"
            )
        found.extend(hits)
    return list(dict.fromkeys(found))
