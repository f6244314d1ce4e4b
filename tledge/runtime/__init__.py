"""The device side: a bundle is opened, run and verified with onnxruntime, tokenizers and numpy alone.

Importing this is light: a name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tledge.runtime.generate import Generated, Generator
    from tledge.runtime.predictor import Predictor
    from tledge.runtime.session import open_session, session_run
    from tledge.runtime.verification import Check, Verification, verify

__all__ = ["Check", "Generated", "Generator", "Predictor", "Verification", "open_session", "session_run", "verify"]

_HOMES = {
    "Check": "verification",
    "Generated": "generate",
    "Generator": "generate",
    "Predictor": "predictor",
    "Verification": "verification",
    "open_session": "session",
    "session_run": "session",
    "verify": "verification",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
