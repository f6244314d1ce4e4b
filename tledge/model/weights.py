"""Weights from files: read without running what is in them, and matched with a network by name or by order."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tledge import lfs, package_files
from tledge.errors import ModelError
from tledge.model.names import prefixes, unwrapped

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
Match = Literal["names", "order"]
State = Mapping[str, Tensor]

_NESTED = ("state_dict", "model_state_dict", "model", "module", "net", "state_dict_ema", "model_ema")
_SHOWN = 3


def is_file(weights: str) -> bool:
    """Whether `model.weights` names a file rather than a library's own weights."""
    return weights.startswith(package_files.PREFIX) or weights.endswith(SUFFIXES)


def read(weights: str) -> dict[str, Tensor]:
    """The tensors of a `.safetensors`, `.pth`, `.pt`, `.bin` or `.ckpt` file, or of one in a package, by name.

    Raises:
        ModelError: there is no such file, it holds other objects than tensors, or it is damaged.
    """
    if weights.startswith(package_files.PREFIX):
        path = package_files.resolve(weights, error=ModelError)
    else:
        path = Path(weights).expanduser()
    if not path.is_file():
        raise ModelError(f"model.weights: there is no file {weights!r}")
    if path.suffix not in SUFFIXES:
        raise ModelError(f"model.weights: {weights!r} is none of {', '.join(SUFFIXES)}")
    if lfs.is_pointer(path):
        raise ModelError(f"model.weights: {lfs.advice(path)}")
    if path.stat().st_size == 0:
        raise ModelError(f"model.weights: {weights!r} is empty; download it again")
    found: Any
    try:
        if path.suffix == ".safetensors":
            found = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"model.weights: {weights!r} holds Python objects, which are not loaded since loading could run their "
            "code; expected tensors alone, as torch.save(model.state_dict()) or safetensors writes them"
        ) from error
    except (OSError, RuntimeError, SafetensorError, EOFError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"model.weights: {weights!r} cannot be read: {reason or type(error).__name__}") from error
    return _plain(found, weights)


def match(
    network: State, state: State, *, how: Match, free: Iterable[str], source: str
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a file under the names of a network, and lines to tell the user.

    Args:
        network: all parameters and buffers of the network, in its own order.
        state: those of the file, in the file's order.
        how: by `names`, where usual prefixes (`module.`, `model.` ...) do not count, or by `order`. What stands beside
            the network under such a prefix (a loss, metrics) is left out, and told.
        free: names, or the first parts of names, that may be missing, left over or of another shape: those of the old
            classifier, which is exchanged anyway.
        source: names the file in errors.

    Raises:
        ModelError: they do not fit; the message lists what is missing, left over and of another shape.
    """
    prefixes = tuple(free)

    def may_differ(name: str) -> bool:
        return any(name == p or name.startswith(f"{p}.") for p in prefixes)

    if how == "order":
        return _by_order(network, state, may_differ, source)
    state, notes = _renamed(network, state, source)
    counters = {name for name in network if name.endswith("num_batches_tracked")}  # not in files of before 2018
    missing = [n for n in network if n not in state and not may_differ(n) and n not in counters]
    unexpected = [n for n in state if n not in network and not may_differ(n)]
    shapes = [
        f"{n} {_shape(state[n])} instead of {_shape(t)}"
        for n, t in network.items()
        if n in state and state[n].shape != t.shape and not may_differ(n)
    ]
    kinds = [
        f"{n} {state[n].dtype} instead of {t.dtype}"
        for n, t in network.items()
        if n in state and state[n].is_floating_point() != t.is_floating_point() and not may_differ(n)
    ]
    if missing or unexpected or shapes or kinds:
        listed = "; ".join(
            f"{len(names)} {word}: {', '.join(names[:_SHOWN])}{' ...' if len(names) > _SHOWN else ''}"
            for word, names in (
                ("missing", missing),
                ("unexpected", unexpected),
                ("of another shape", shapes),
                ("of another kind", kinds),
            )
            if names
        )
        raise ModelError(f"model.weights: {source} does not fit: {listed}{_hint(network, state, may_differ)}")
    return {n: t for n, t in state.items() if n in network and t.shape == network[n].shape}, notes


def _by_order(
    network: State, state: State, may_differ: Callable[[str], bool], source: str
) -> tuple[dict[str, Tensor], list[str]]:
    problem = _disagreement(network, state, may_differ)
    if problem is not None:
        raise ModelError(f"model.weights: {source} does not fit by order: {problem}")
    pairs = zip(network.items(), state.values(), strict=True)
    result = {name: tensor for (name, own), tensor in pairs if tensor.shape == own.shape}
    return result, [f"{len(result)} tensors of {source} were matched by their order, since their names differ"]


def _disagreement(network: State, state: State, may_differ: Callable[[str], bool]) -> str | None:
    """The first place where two lists of tensors differ in what their order, kind and shape say; `None` for none."""
    for number, ((name, own), (other, tensor)) in enumerate(zip(network.items(), state.items(), strict=False), 1):
        if name.rpartition(".")[2] != other.rpartition(".")[2]:
            return f"tensor {number} is {other!r} in the file and {name!r} in the network"
        if tensor.is_floating_point() != own.is_floating_point():
            return f"tensor {number}, {other!r}, is {tensor.dtype} instead of {own.dtype} of {name!r}"
        if tensor.shape != own.shape and not may_differ(name):
            return f"tensor {number}, {other!r}, is {_shape(tensor)} instead of {_shape(own)} of {name!r}"
    if len(network) != len(state):
        return f"the file has {len(state)} tensors, the network {len(network)}"
    return None


def _hint(network: State, state: State, may_differ: Callable[[str], bool]) -> str:
    if _disagreement(network, state, may_differ) is None:
        return "; all tensors agree in order, kind and shape, though: model.match: order loads them that way"
    return "; expected the weights of this very architecture"


def _plain(found: Any, weights: str) -> dict[str, Tensor]:
    """The mapping of tensors in what a file holds, out of the nesting that training scripts use."""
    for key in _NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    state = {str(n): t for n, t in found.items() if isinstance(t, Tensor)} if isinstance(found, Mapping) else {}
    if not state:
        raise ModelError(f"model.weights: {weights!r} holds no named tensors; expected a state dict")
    return state


def _renamed(network: State, state: State, source: str) -> tuple[State, list[str]]:
    """The state without the prefix under which most of the network's names are, and a line on what is not under it."""
    state = {unwrapped(n): t for n, t in state.items()}

    def found(prefix: str) -> int:
        return sum(n.startswith(prefix) and n.removeprefix(prefix) in network for n in state)

    prefix = max(["", *prefixes(state)], key=found)
    if not prefix:
        return state, []
    beside = [n for n in state if not n.startswith(prefix)]
    kept = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    if not beside:
        return kept, []
    listed = f"{', '.join(beside[:_SHOWN])}{' ...' if len(beside) > _SHOWN else ''}"
    return kept, [f"of {source} the tensors under {prefix!r} were taken, and {len(beside)} left out: {listed}"]


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number"
