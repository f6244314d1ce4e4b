"""What trains: blocks of a backbone, counted from the top, or parameters named by a pattern."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

from torch import nn

from tledge.errors import ModelError, did_you_mean


@dataclass(frozen=True, slots=True)
class Block:
    """One repeated layer of a backbone, or what comes before or after them (`embeddings`, `pooler`)."""

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


def block_list(backbone: nn.Module) -> tuple[str, nn.ModuleList]:
    """The name and the module list that holds a backbone's repeated layers: the one with the most parameters.

    Raises:
        ModelError: the backbone has no list of layers.
    """
    lists = [(name, m) for name, m in backbone.named_modules() if isinstance(m, nn.ModuleList) and len(m)]
    if not lists:
        raise ModelError(
            f"finetune.unfreeze: no list of blocks was found in {type(backbone).__name__}; use strategy probe or full"
        )
    return max(lists, key=lambda item: sum(p.numel() for p in item[1].parameters()))


def freeze(backbone: nn.Module, strategy: str, unfreeze: int | str | None = None) -> Freeze:
    """Set `requires_grad` of every parameter of a backbone as the strategy says, and tell what trains.

    `probe` freezes all of it and `full` none. `partial` with a number trains that many of the last blocks and what
    comes after them (a final norm, a pooler); with a pattern, the parameters whose names match it.

    Raises:
        ModelError: the number is larger than the number of blocks, or the pattern matches no parameter.
    """
    names = [n for n, _ in backbone.named_parameters()]
    if strategy == "full":
        chosen = set(names)
    elif strategy == "probe":
        chosen = set()
    elif isinstance(unfreeze, int):
        name, blocks = block_list(backbone)
        if unfreeze > len(blocks):
            raise ModelError(
                f"finetune.unfreeze: got {unfreeze}, but the backbone has {len(blocks)} blocks; "
                f"give a number from 1 to {len(blocks)}, or use strategy full"
            )
        lowest = len(blocks) - unfreeze
        first = next(i for i, n in enumerate(names) if n.startswith(f"{name}."))
        chosen = {n for n in names[first:] if _block_index(n, name, default=lowest) >= lowest}
    else:
        assert unfreeze is not None
        chosen = {n for n in names if fnmatch.fnmatchcase(n, unfreeze)}
        if not chosen:
            raise ModelError(
                f"finetune.unfreeze: the pattern {unfreeze!r} matches no parameter of the backbone, such as "
                f"{names[-1]!r}{did_you_mean(unfreeze, names)}"
            )
    for n, parameter in backbone.named_parameters():
        parameter.requires_grad_(n in chosen)
    total = sum(p.numel() for p in backbone.parameters())
    trainable = sum(p.numel() for p in backbone.parameters() if p.requires_grad)
    return Freeze(trainable, total, _boundary(backbone, names, chosen) if strategy == "partial" else None)


def describe(backbone: nn.Module) -> list[Block]:
    """The parts of a backbone in order: what is before the blocks, each block, what is after."""
    list_name, _ = block_list(backbone)
    parts: dict[str, list[nn.Parameter]] = {}
    for name, parameter in backbone.named_parameters():
        index = _block_index(name, list_name, default=-1)
        part = name.split(".")[0] if index < 0 else f"{list_name}.{index}"
        parts.setdefault(part, []).append(parameter)
    return [
        Block(part, sum(p.numel() for p in ps), sum(p.numel() for p in ps if p.requires_grad))
        for part, ps in parts.items()
    ]


def _block_index(parameter: str, list_name: str, *, default: int) -> int:
    if not parameter.startswith(f"{list_name}."):
        return default
    return int(parameter.removeprefix(f"{list_name}.").split(".")[0])


def _boundary(backbone: nn.Module, names: list[str], chosen: set[str]) -> int | None:
    name, blocks = block_list(backbone)
    first = next(i for i, n in enumerate(names) if n.startswith(f"{name}."))
    if any(n in chosen for n in names[:first]):
        return None
    return min(_block_index(n, name, default=len(blocks)) for n in chosen)
