"""Pretrained weights by transformers' loaders, which go on with random ones where a name is not found: not here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.utils import logging as transformers_logging

from tledge.errors import ModelError
from tledge.model.names import INSIDE, prefixes, unwrapped

_SHOWN = 3
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
_USUAL: dict[str, Any] = {"dtype": torch.float32, "use_safetensors": True}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A module with its weights.

    `missing` are the names that are not in the checkpoint, or of another shape there; `misfit` is the line about them
    for the user where they are judged by the caller, and `notes` are lines to tell.
    """

    module: Any
    missing: tuple[str, ...]
    misfit: str | None
    notes: tuple[str, ...] = ()


def pretrained(
    auto: Any, place: str, *, reference: str, config: Any, free: tuple[str, ...] | None, **options: Any
) -> Loaded:
    """The module of an `Auto...` class in float32 and eval mode, with all its weights from the checkpoint.

    Names may have prefixes that wrappers of torch and of training scripts put before them.

    Args:
        auto: a class of transformers with `from_pretrained`.
        place: a folder or hub id.
        reference: names the checkpoint in messages.
        config: of the module.
        free: how names begin that may be missing or of another shape; `None` leaves all of it to the caller.
        options: further ones of `from_pretrained`.

    Raises:
        ModelError: a tensor is missing, of another shape, or holds numbers that are not finite; the line names it.
    """
    first = best = _attempt(auto, place, config, options)
    note = ""
    for chain in _chains(first) if _lacking(first, free) else ():
        again = _attempt(auto, place, config, options | {"key_mapping": _without(chain)})
        if _lacking(again, free) < _lacking(best, free):
            best = again
            wrappers = f"their prefix {chain!r}" if chain else "the names of wrappers in them"
            note = f"the weights of {reference} were found by their names without {wrappers}"
    misfit = _told(reference, best, free) if _lacking(best, free) else None
    if misfit is not None and free is not None:
        raise ModelError(misfit)
    check_finite(best.module, reference)
    _require_all_blocks(best, reference)
    unused = [f"not used of {reference}: {listed(tensors=sorted(best.unexpected))}"] if best.unexpected else []
    return Loaded(best.module.eval(), tuple(sorted(best.missing)), misfit, (*([note] if note else []), *unused))


def _require_all_blocks(found: _Attempt, reference: str) -> None:
    """Refuse a checkpoint with more blocks than the module has: as half a model it would train without a word."""
    known = {_NUMBER.sub("N", name) for name in found.module.state_dict()}
    more = sorted(name for name in found.unexpected if _NUMBER.search(name) and _NUMBER.sub("N", name) in known)
    if more:
        raise ModelError(
            f"model.backbone: {reference!r} has {len(more)} tensors of blocks that its config.json does not count, "
            f"such as {more[0]!r}; expected as many blocks as the weights have: mend the number of layers there"
        )


def check_finite(module: nn.Module, reference: str, key: str = "model.backbone") -> None:
    """Nothing, where all parameters and buffers are numbers.

    Raises:
        ModelError: a parameter holds NaN or infinity, or a buffer NaN.
    """
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    broken = [
        name
        for name, tensor in module.state_dict().items()
        if tensor.is_floating_point() and not (tensor.isfinite() if name in parameters else ~tensor.isnan()).all()
    ]
    if broken:
        raise ModelError(
            f"{key}: {len(broken)} tensors of {reference!r} are not finite numbers (NaN or infinity), such as "
            f"{broken[0]!r}; expected a checkpoint from before its training went astray"
        )


def listed(**names: list[str]) -> str:
    """Counts and the first names of what does not fit, such as `2 missing: a, b; 1 unexpected: c`."""
    return "; ".join(
        f"{len(found)} {word.replace('_', ' ')}: {', '.join(found[:_SHOWN])}{' ...' if len(found) > _SHOWN else ''}"
        for word, found in names.items()
        if found
    )


@dataclass(frozen=True, slots=True)
class _Attempt:
    module: Any
    missing: set[str]
    unexpected: set[str]
    mismatched: list[tuple[str, Any, Any]]


def _attempt(auto: Any, place: str, config: Any, options: Mapping[str, Any]) -> _Attempt:
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # its own table of names; what matters of it is told in one line
    try:
        module, info = auto.from_pretrained(
            place,
            config=config,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # looked at here, with names and shapes
            **{**_USUAL, **options},
        )
    finally:
        transformers_logging.set_verbosity(verbosity)
    mismatched = sorted((str(name), own, wanted) for name, own, wanted in info["mismatched_keys"])
    missing = {*info["missing_keys"], *(name for name, *_ in mismatched)}
    return _Attempt(module, missing, set(info["unexpected_keys"]), mismatched)


def _lacking(found: _Attempt, free: tuple[str, ...] | None) -> int:
    """How many tensors are missing, or of another shape, that may not be."""
    return sum(not name.startswith(free or ()) for name in found.missing)


def _chains(found: _Attempt) -> list[str]:
    """The prefixes to take off, an empty one where wrappers stand inside the names."""
    inside = any(unwrapped(name) != name for name in found.unexpected)
    return [*([""] if inside else []), *prefixes(unwrapped(name) for name in found.unexpected)]


def _without(chain: str) -> dict[str, str]:
    mapping = {re.escape(wrapper): "" for wrapper in INSIDE}
    return mapping | ({f"^{re.escape(chain)}": ""} if chain else {})


def _told(reference: str, found: _Attempt, free: tuple[str, ...] | None) -> str:
    shapes = {name: f"{name} {_shape(own)} instead of {_shape(wanted)}" for name, own, wanted in found.mismatched}
    wrong = sorted(name for name in found.missing if not name.startswith(free or ()))
    told = listed(
        missing=[name for name in wrong if name not in shapes],
        unexpected=sorted(found.unexpected),
        of_another_shape=[shapes[name] for name in wrong if name in shapes],
    )
    return (
        f"model.backbone: the weights of {reference!r} do not fit its config.json: {told}; expected the weights of "
        "this very architecture, under the names that transformers gives them"
    )


def _shape(size: Any) -> str:
    return " x ".join(map(str, size)) or "a number"
