"""Tensors that a module has under several names, such as tied embeddings, once in what is stored of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def stored_once(module: nn.Module) -> Iterator[None]:
    """Inside the block, a module's state has shared parameters under their first name alone, and loads again so.

    The file format of checkpoints, safetensors, refuses tensors that share their memory.
    """
    names: dict[int, str] = {}
    twins = {
        name
        for name, parameter in module.named_parameters(remove_duplicate=False)
        if names.setdefault(id(parameter), name) != name
    }

    def leave_out(_module: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
        for name in twins:
            state.pop(prefix + name, None)

    def not_missing(_module: nn.Module, found: Any) -> None:
        found.missing_keys[:] = [name for name in found.missing_keys if name not in twins]

    handles = [
        module.register_state_dict_post_hook(leave_out),  # type: ignore[no-untyped-call]
        module.register_load_state_dict_post_hook(not_missing),  # type: ignore[no-untyped-call]
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
