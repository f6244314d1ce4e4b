"""Names of tensors without what wrappers put before them: DataParallel, torch.compile, FSDP, Lightning and others."""

from __future__ import annotations

from collections.abc import Iterable

WRAPPERS = ("module.", "_orig_mod.", "model.", "backbone.", "net.", "network.", "encoder.", "_forward_module.")
"""Names under which training scripts keep a network, and what torch's own wrappers call it."""

INSIDE = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""Wrappers of single layers, which stand in the middle of names and mean nothing there."""


def unwrapped(name: str) -> str:
    """A name without the wrappers of single layers."""
    for wrapper in INSIDE:
        name = name.replace(wrapper, "")
    return name


def prefixes(names: Iterable[str]) -> list[str]:
    """Every chain of wrappers that a name starts with, the short ones first, such as `module.` and `module.model.`."""
    found: set[str] = set()
    for name in names:
        chain = ""
        while (wrapper := next((w for w in WRAPPERS if name.startswith(w, len(chain))), None)) is not None:
            chain += wrapper
            found.add(chain)
    return sorted(found, key=lambda chain: (len(chain), chain))
