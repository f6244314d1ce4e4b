"""What trains: blocks of a backbone, counted or named, or parameters named by a pattern."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from tledge.errors import ModelError, did_you_mean
from tledge.model.blocks import BEFORE, Block, blocks, levels


@dataclass(frozen=True, slots=True)
class Part:
    """One block of a backbone, or what comes before, beside or after them (`embeddings`, `class_token`, `pooler`)."""

    name: str
    parameters: int
    trainable: int


@dataclass(frozen=True, slots=True)
class Freeze:
    """What a strategy froze.

    `boundary` is the number of leading blocks that nothing trains in or before; `None` when something before the
    blocks trains, and for the strategies that are not `partial`.
    """

    trainable: int
    total: int
    boundary: int | None


def freeze(
    backbone: nn.Module,
    strategy: str,
    unfreeze: int | str | None = None,
    frozen: int | str | None = None,
    *,
    sample: Mapping[str, Any] | None = None,
) -> Freeze:
    """Set `requires_grad` of every parameter of a backbone as the strategy says, and tell what trains.

    `probe` freezes all of it and `full` none. `partial` (and `gradual`, once it is that far) trains the last blocks and
    what comes after them.

    Args:
        backbone: of texts or images.
        strategy: of the recipe.
        unfreeze: how many of the last blocks train, the name of the first one that does (`layer4` is `layer4.0` and
            all after it), or a glob pattern of parameter names.
        frozen: instead: how many of the first blocks do not train, or the name of the last one that does not; of all
            blocks, what is left to train is the head.
        sample: input tensors of an image; `None` for texts.

    Raises:
        ModelError: the number is larger than the number of blocks, or the name or pattern matches nothing.
    """
    names = [n for n, _ in backbone.named_parameters()]
    boundary = None
    if strategy in ("full", "probe"):
        chosen = set(names) if strategy == "full" else set()
    else:
        found = blocks(backbone, sample)
        level = levels(backbone, found)
        chosen = _chosen(found, level, unfreeze, frozen)
        lowest = min((level[n] for n in chosen), default=len(found))
        boundary = None if lowest == BEFORE else lowest
    for n, parameter in backbone.named_parameters():
        parameter.requires_grad_(n in chosen)
    total = sum(p.numel() for p in backbone.parameters())
    trainable = sum(p.numel() for p in backbone.parameters() if p.requires_grad)
    return Freeze(trainable, total, boundary if strategy == "partial" else None)


def keep_frozen_in_eval(backbone: nn.Module) -> None:
    """Put what does not train into eval mode, in a backbone that has just been put into training mode.

    That is each module whose parameters are all frozen (a batch norm then keeps its statistics), and each one without
    parameters before the first one that trains (GPT-2's dropout, between its embeddings and its blocks).
    """
    below = True
    for module in backbone.modules():
        below = below and not any(p.requires_grad for p in module.parameters(recurse=False))
        parameters = list(module.parameters())
        if not any(p.requires_grad for p in parameters) and (parameters or below):
            module.eval()


def describe(backbone: nn.Module, sample: Mapping[str, Any] | None = None) -> list[Part]:
    """The parts of a backbone in order: what is before the blocks, each block, what is beside or after them."""
    found = blocks(backbone, sample)
    level = levels(backbone, found)
    parts: dict[str, list[nn.Parameter]] = {}
    order = sorted(backbone.named_parameters(), key=lambda item: level[item[0]])
    for name, parameter in order:
        number = level[name]
        inside = 0 <= number < len(found) and any(p is parameter for m in found[number].modules for p in m.parameters())
        parts.setdefault(found[number].name if inside else name.split(".")[0], []).append(parameter)
    return [
        Part(part, sum(p.numel() for p in ps), sum(p.numel() for p in ps if p.requires_grad))
        for part, ps in parts.items()
    ]


def _chosen(
    found: Sequence[Block], level: Mapping[str, int], unfreeze: int | str | None, frozen: int | str | None
) -> set[str]:
    """The names of the parameters that train."""
    if frozen is not None:
        lowest = frozen if isinstance(frozen, int) else _named(found, frozen, "finetune.freeze")[-1] + 1
        _within(lowest, found, "finetune.freeze")
        return {n for n, number in level.items() if number >= lowest}
    assert unfreeze is not None
    if isinstance(unfreeze, int):
        _within(unfreeze, found, "finetune.unfreeze")
        return {n for n, number in level.items() if number >= len(found) - unfreeze}
    if any(_is_in(block.name, unfreeze) for block in found):
        lowest = _named(found, unfreeze, "finetune.unfreeze")[0]
        return {n for n, number in level.items() if number >= lowest}
    chosen = {n for n in level if fnmatch.fnmatchcase(n, unfreeze)}
    if not chosen:
        raise ModelError(
            f"finetune.unfreeze: the pattern {unfreeze!r} matches no parameter of the backbone, such as "
            f"{list(level)[-1]!r}{did_you_mean(unfreeze, [*level, *(block.name for block in found)])}"
        )
    return chosen


def _within(number: int, found: Sequence[Block], key: str) -> None:
    if number > len(found):
        raise ModelError(
            f"{key}: got {number}, but the backbone has {len(found)} blocks; "
            f"give a number from 1 to {len(found)}, or use strategy full"
        )


def _named(found: Sequence[Block], name: str, key: str) -> list[int]:
    numbers = [i for i, block in enumerate(found) if _is_in(block.name, name)]
    if not numbers:
        names = [block.name for block in found]
        raise ModelError(
            f"{key}: the backbone has no block {name!r}{did_you_mean(name, names)}; its blocks are "
            f"{', '.join(names[:4])} ... {names[-1]} (tledge inspect lists them)"
        )
    return numbers


def _is_in(block: str, name: str) -> bool:
    return block == name or block.startswith(f"{name}.")
