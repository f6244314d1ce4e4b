"""The blocks of a network in the order in which it runs them, found by running it once.

No list of architectures is kept: containers are taken apart where they are chains of blocks, and a residual block, a
dense block or a bundle of branches stays whole, since its output is made outside of its parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tledge.errors import ModelError
from tledge.model.last_layer import root_in_training

BEFORE = -1
"""The level of parameters that come before all blocks, such as a class token or position embeddings."""


@dataclass(frozen=True, slots=True)
class Block:
    """A step of a backbone, from the stem to the top.

    `modules` ran in this order, the block itself and then the norms and layers without parameters that follow it; the
    last one's output is the block's. `parameters` are names in the backbone, also those of a second classifier that
    hangs on this block.
    """

    name: str
    modules: tuple[nn.Module, ...]
    parameters: tuple[str, ...]


@dataclass(slots=True, eq=False)
class _Call:
    """One run of a module: which modules it ran itself, and the tensors that it took and gave, with their versions."""

    name: str
    module: nn.Module
    inputs: list[tuple[Tensor, int]]
    output: tuple[Tensor, int] | None = None
    calls: list[_Call] = field(default_factory=list)


def blocks(backbone: nn.Module, sample: Mapping[str, Any] | None = None) -> list[Block]:
    """The blocks of a backbone, from the stem to the top.

    Args:
        backbone: left as it is; its parameters stay where they are.
        sample: input tensors or arrays of one image or more. `None` for transformers of texts, whose blocks are the
            list of layers with the most parameters; what is before and after the list belongs to none.

    Raises:
        ModelError: there is no sample and no list of layers.
    """
    if sample is None:
        name, layers = block_list(backbone)
        return [
            Block(f"{name}.{i}", (layer,), tuple(f"{name}.{i}.{n}" for n, _ in layer.named_parameters()))
            for i, layer in enumerate(layers)
        ]
    with _in_eval(backbone):
        whole = _trace(backbone, sample)
        found = _joined(_parts(whole, whole), backbone)
        return _with_second_classifiers(found, backbone, sample)


def block_list(backbone: nn.Module) -> tuple[str, nn.ModuleList]:
    """The name and the module list that holds a text backbone's repeated layers: the one with the most parameters.

    Raises:
        ModelError: the backbone has no list of layers.
    """
    lists = [(name, m) for name, m in backbone.named_modules() if isinstance(m, nn.ModuleList) and len(m)]
    if not lists:
        raise ModelError(
            f"finetune.unfreeze: no list of blocks was found in {type(backbone).__name__}; use strategy probe or full"
        )
    return max(lists, key=lambda item: sum(p.numel() for p in item[1].parameters()))


def levels(backbone: nn.Module, found: Sequence[Block]) -> dict[str, int]:
    """The number of the block that each parameter of a backbone belongs to.

    `BEFORE` for what comes before the blocks (embeddings, a class token), the number of blocks for what comes after
    them (a final norm, a pooler of a text backbone).
    """
    inside = {name: number for number, block in enumerate(found) for name in block.parameters}
    result: dict[str, int] = {}
    passed = BEFORE
    for name, _ in backbone.named_parameters():
        if name in inside:
            result[name], passed = inside[name], len(found)
        else:
            result[name] = passed
    return result


def _trace(backbone: nn.Module, sample: Mapping[str, Any]) -> _Call:
    """The tree of calls of one run on one image, without gradients."""
    stack: list[_Call] = []
    roots: list[_Call] = []

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        call = _Call(names[module], module, [(t, t._version) for t in tensors((args, kwargs))])
        (stack[-1].calls if stack else roots).append(call)
        stack.append(call)

    def leave(_module: nn.Module, _args: Any, output: Any) -> None:
        first = next(tensors(output), None)
        stack.pop().output = None if first is None else (first, first._version)

    names = {module: name for name, module in backbone.named_modules()}
    handles = []
    for module in names:
        handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(module.register_forward_hook(leave))
    device = next(backbone.parameters()).device
    try:
        with torch.no_grad():
            backbone(*(torch.as_tensor(value)[:1].to(device) for value in sample.values()))
    finally:
        for handle in handles:
            handle.remove()
    return roots[0]


@contextmanager
def _in_eval(backbone: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in backbone.modules()]
    backbone.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors of nested tuples, lists and mappings, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from tensors(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from tensors(each)


def _parts(call: _Call, whole: _Call) -> list[_Call]:
    """What a call is made of: itself, or the parts of the calls in it where it is a container of blocks.

    That is the backbone itself, an `nn.Sequential`, and a module whose weights are mostly those of blocks that it runs
    one after the other; the one that holds most of the backbone's weights may do something in between, as a
    transformer does with its position embeddings.
    """
    parts = [part for each in call.calls for part in _parts(each, whole)]
    if not parts:
        return [call]
    if call is whole or type(call.module) is nn.Sequential:
        return parts
    in_blocks = sum(_size(part.module) for part in parts if _weights(part.module) > 1)
    if 2 * in_blocks <= _size(call.module):
        return [call]
    return parts if _is_chain(call) or 2 * _size(call.module) > _size(whole.module) else [call]


def _is_chain(call: _Call) -> bool:
    """Whether each call in it takes what the one before gave, unchanged, and the last one's output is its own."""
    given = [each.output for each in call.calls]
    taken = [each.inputs for each in call.calls[1:]] + [[] if call.output is None else [call.output]]
    return all(
        before is not None and any(t is before[0] and version == before[1] for t, version in after)
        for before, after in zip(given, taken, strict=True)
    )


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _weights(module: nn.Module) -> int:
    """How many layers with a weight matrix or kernel are in a module; norms have none."""
    return sum(any(p.ndim > 1 for p in each.parameters(recurse=False)) for each in module.modules())


def _joined(parts: list[_Call], backbone: nn.Module) -> list[Block]:
    """One block for each part with weights; norms and layers without parameters join the block before them."""
    calls = [part.module for part in parts]
    groups: list[list[_Call]] = []
    for part in parts:
        if calls.count(part.module) > 1 and not any(True for _ in part.module.parameters()):
            continue  # one activation that serves several blocks belongs to none of them
        if groups and (not _weights(part.module) or not any(map(_is_heavy, groups[-1]))):
            groups[-1].append(part)
        elif not groups or _weights(part.module):
            groups.append([part])
    return [
        Block(
            next((part for part in group if _is_heavy(part)), group[0]).name,
            tuple(part.module for part in group),
            tuple(
                name
                for name, _ in backbone.named_parameters()
                if any(name.startswith(f"{part.name}.") for part in group)
            ),
        )
        for group in groups
    ]


def _is_heavy(part: _Call) -> bool:
    return _weights(part.module) > 0


def _with_second_classifiers(found: list[Block], backbone: nn.Module, sample: Mapping[str, Any]) -> list[Block]:
    """The blocks, each with the parameters of the second classifier that takes its output in training, if any.

    Only the root's flag is set to training for this, so that no batch norm below it counts the sample.
    """
    known = {name for block in found for name in block.parameters}
    rest = [name for name, _ in backbone.named_parameters() if name not in known and "." in name]
    if not rest:
        return found
    with root_in_training(backbone):
        calls = _trace(backbone, sample).calls
    result = list(found)
    at = 0
    for call in calls:
        ends = [i for i, block in enumerate(found) if any(_holds(call.module, m) for m in block.modules)]
        if ends:
            at = max(ends)
            continue
        hanging = tuple(name for name in rest if name.startswith(f"{call.name}."))
        result[at] = Block(result[at].name, result[at].modules, result[at].parameters + hanging)
    return result


def _holds(outer: nn.Module, inner: nn.Module) -> bool:
    return any(each is inner for each in outer.modules())
